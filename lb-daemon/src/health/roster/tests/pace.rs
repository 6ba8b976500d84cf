//! Thousands of probes a second never come in bursts.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

/// Starts are counted by so much time.
const BUCKET: Duration = Duration::from_millis(10);

/// A roster whose probes each take a millisecond, and the starts that were counted.
struct Crowd {
    roster: Roster,
    start: Instant,
    now: Instant,
    starts: Vec<u32>,
}

impl Crowd {
    fn new() -> Self {
        let now = Instant::now();
        Self { roster: Roster::new(BTreeMap::new(), 11), start: now, now, starts: Vec::new() }
    }

    /// Takes so many backends, all with this check.
    fn set(&mut self, backends: u32, check: &Check) {
        let health = Arc::new(Health { checks: vec![check.clone()], ..Health::default() });
        let backend = |n| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n));
        let service = Service::of("192.0.2.1".parse().unwrap(), 80, Protocol::Tcp);
        let member = |n| Member { service, backend: backend(n) };
        let checks = (0..backends).map(|n| (member(n), Arc::clone(&health))).collect();
        self.roster.set(&checks, self.now, SystemTime::UNIX_EPOCH);
    }

    /// Lets time pass, in which every probe succeeds or fails. Returns most starts in a bucket.
    fn run(&mut self, time: Duration, success: bool) -> u32 {
        let (end, from) = (self.now + time, self.bucket());
        let mut running = std::collections::VecDeque::new();
        while self.now < end {
            self.now += Duration::from_millis(1);
            for number in running.drain(..) {
                let result = if success { Verdict::Success } else { Verdict::Failure };
                self.roster.on_outcome(number, outcome(result), self.now, SystemTime::UNIX_EPOCH);
            }
            while let Some(Due { number, .. }) = self.roster.start_next(self.now) {
                running.push_back(number);
                let bucket = self.bucket();
                self.starts.resize(bucket + 1, 0);
                self.starts[bucket] += 1;
            }
        }
        let most = self.starts[from..].iter().max().copied();
        // What is on its way ends when the next time begins.
        for number in running {
            self.roster.on_outcome(number, outcome(Verdict::Skipped), self.now, SystemTime::UNIX_EPOCH);
        }
        most.unwrap_or_default()
    }

    fn bucket(&self) -> usize {
        usize::try_from((self.now - self.start).as_millis() / BUCKET.as_millis()).unwrap()
    }
}

#[test]
fn ten_thousand_probes_a_second_are_smooth_also_after_a_reload_that_adds_a_third() {
    let check = tcp(Some(80));
    let mut crowd = Crowd::new();
    // 7,500 a second: 75 in each bucket. The first start one after the other, 100 in each, while second ones begin.
    crowd.set(15_000, &check);
    let most = crowd.run(Duration::from_millis(200), true);
    assert!(most <= 105, "{most} first starts in 10 ms");
    let most = crowd.run(Duration::from_millis(1300), true);
    assert!(most <= 210, "{most} first and second starts in 10 ms");
    let most = crowd.run(Duration::from_secs(4), true);
    assert!(most <= 160, "{most} starts in 10 ms");
    // 5,000 more make 10,000 a second, 100 in each bucket; their first ones come on top of the 75 of the others.
    crowd.set(20_000, &check);
    let most = crowd.run(Duration::from_millis(600), true);
    assert!(most <= 230, "{most} starts in 10 ms with the first of new ones");
    let most = crowd.run(Duration::from_secs(6), true);
    assert!(most <= 180, "{most} starts in 10 ms after that");
    assert_eq!(crowd.starts[100..].iter().filter(|starts| **starts == 0).count(), 0, "no bucket is idle");
}

#[test]
fn checks_that_were_fast_together_are_not_slow_together() {
    let fast = Some(Duration::from_millis(200));
    let mut crowd = Crowd::new();
    crowd.set(5000, &Check { initial: Initial::Down, fast_interval: fast, ..tcp(Some(80)) });
    // Up after two successes: all are fast for some 700 ms.
    let most = crowd.run(Duration::from_secs(1), true);
    assert!(most <= 350, "{most} starts in 10 ms while fast: 5,000 in 200 ms");
    // 2,500 a second: 25 in each bucket.
    let most = crowd.run(Duration::from_secs(8), true);
    assert!(most <= 65, "{most} starts in 10 ms afterwards");
}
