use std::sync::Mutex;

use prometheus::IntCounter;
use tokio::time::Instant;

use super::*;

/// Notes what is delivered and when. Attempts fail as often as is said, of each receiver.
#[derive(Clone)]
struct Noted {
    inner: Arc<Mutex<Inner>>,
    stats: Stats,
}

#[derive(Default)]
struct Inner {
    failures: BTreeMap<&'static str, u32>,
    told: Vec<Told>,
}

/// Second, receiver, and the VIPs of the events.
type Told = (u64, String, String);

impl Noted {
    fn failing(failures: &[(&'static str, u32)]) -> Self {
        let inner = Inner { failures: failures.iter().copied().collect(), told: Vec::new() };
        Self { inner: Arc::new(Mutex::new(inner)), stats: Stats::new().unwrap() }
    }

    fn hook(&self) -> Hook {
        let (noted, start) = (self.clone(), Instant::now());
        let deliver = move |task| {
            let (noted, at) = (noted.clone(), start.elapsed().as_secs());
            async move { noted.note(at, task) }
        };
        let (hook, work) = delivered_by(deliver, self.stats.clone());
        tokio::spawn(work);
        hook
    }

    fn note(&self, at: u64, task: Task) -> Result<(), String> {
        let (kind, to, body) = match task {
            Task::Run(program) => ("exec", program.argv.join(" "), program.input.unwrap()),
            Task::Post(post) => ("webhook", post.url, post.body),
        };
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let vips = body["events"].as_array().unwrap().iter().map(|event| event["vip"].as_str().unwrap().to_owned());
        let mut inner = self.inner.lock().unwrap();
        inner.told.push((at, to, vips.collect()));
        let left = inner.failures.entry(kind).or_default();
        let fails = *left > 0;
        *left = left.saturating_sub(1);
        if fails { Err("refused".into()) } else { Ok(()) }
    }

    fn told(&self) -> Vec<Told> {
        self.inner.lock().unwrap().told.clone()
    }

    /// The receiver's counters: successes, failures, and events that are lost.
    fn counted(&self, to: Receiver) -> [u64; 3] {
        let counters = self.stats.of(to);
        [&counters.success, &counters.failure, &counters.lost].map(IntCounter::get)
    }
}

fn told(all: &[(u64, &str, &str)]) -> Vec<Told> {
    all.iter().map(|&(at, to, vips)| (at, to.to_owned(), vips.to_owned())).collect()
}

fn program(retries: u32) -> OnChange {
    OnChange { exec: vec!["/bin/tell".into()], webhook: None, timeout: Duration::from_secs(5), retries }
}

fn webhook(url: &str, retries: u32) -> OnChange {
    OnChange { exec: Vec::new(), webhook: Some(url.into()), ..program(retries) }
}

fn event(vip: &str) -> Event {
    Event {
        time: Event::stamp(SystemTime::UNIX_EPOCH),
        event: What::VipServing,
        vip: vip.into(),
        service: "192.0.2.1:80 tcp".into(),
        backend: None,
        reason: None,
    }
}

#[test]
fn events_have_the_documented_form() {
    let backend = Who { pool: "web".into(), backend: "web-1".into(), address: "10.0.0.1".parse().unwrap() };
    let reason = Some("connection refused".into());
    let event = Event { event: What::BackendDown, backend: Some(backend), reason, ..event("web") };
    let wanted = serde_json::json!({
        "time": "1970-01-01T00:00:00.000Z", "event": "backend_down", "vip": "web", "service": "192.0.2.1:80 tcp",
        "pool": "web", "backend": "web-1", "address": "10.0.0.1", "reason": "connection refused",
    });
    assert_eq!(serde_json::to_value(event).unwrap(), wanted);
}

#[tokio::test(start_paused = true)]
async fn what_comes_together_goes_out_together_and_in_order() {
    let noted = Noted::failing(&[]);
    let mut hook = noted.hook();
    hook.tell(&event("x"));
    hook.follow(Some(&Arc::new(program(0))));
    for vip in ["a", "b", "c"] {
        hook.tell(&event(vip));
    }
    sleep(Duration::from_secs(1)).await;
    hook.tell(&event("d"));
    sleep(Duration::from_secs(1)).await;
    hook.follow(None);
    hook.tell(&event("y"));
    sleep(Duration::from_secs(1)).await;
    let wanted = [(0, "/bin/tell", "abc"), (1, "/bin/tell", "d")];
    assert_eq!(noted.told(), told(&wanted), "nothing while there is nobody");
    assert_eq!(noted.counted(Receiver::Program), [2, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_repeated_with_growing_pauses_and_given_up_in_the_end() {
    let noted = Noted::failing(&[("exec", 5)]);
    let mut hook = noted.hook();
    hook.follow(Some(&Arc::new(program(2))));
    hook.tell(&event("a"));
    sleep(Duration::from_millis(500)).await;
    hook.tell(&event("b"));
    sleep(Duration::from_mins(1)).await;
    let to = "/bin/tell";
    // Given up, and what came meanwhile is told all the same, in the end with success.
    let wanted = [(0, to, "a"), (1, to, "a"), (3, to, "a"), (3, to, "b"), (4, to, "b"), (6, to, "b")];
    assert_eq!(noted.told(), told(&wanted));
    assert_eq!(noted.counted(Receiver::Program), [1, 5, 1]);
    assert_eq!(noted.counted(Receiver::Webhook), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_neither_holds_up_the_other_nor_has_it_told_twice() {
    let noted = Noted::failing(&[("webhook", 1)]);
    let mut hook = noted.hook();
    hook.follow(Some(&Arc::new(OnChange { webhook: Some("http://a/".into()), ..program(3) })));
    hook.tell(&event("a"));
    sleep(Duration::from_millis(500)).await;
    hook.tell(&event("b"));
    sleep(Duration::from_mins(1)).await;
    let mut all = noted.told();
    all.sort();
    let wanted = [
        (0, "/bin/tell", "a"),
        (0, "/bin/tell", "b"),
        (0, "http://a/", "a"),
        (1, "http://a/", "a"),
        (1, "http://a/", "b"),
    ];
    assert_eq!(all, told(&wanted));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_corrected_is_told_at_once_what_the_wrong_one_was_not() {
    let noted = Noted::failing(&[("webhook", 6)]);
    let mut hook = noted.hook();
    hook.follow(Some(&Arc::new(webhook("http://wrong/", 100))));
    hook.tell(&event("a"));
    sleep(Duration::from_secs(40)).await;
    hook.follow(Some(&Arc::new(webhook("http://right/", 100))));
    sleep(Duration::from_secs(1)).await;
    let wrong = [0, 1, 3, 7, 15, 31].map(|at| (at, "http://wrong/", "a"));
    let wanted: Vec<_> = wrong.into_iter().chain([(40, "http://right/", "a")]).collect();
    assert_eq!(noted.told(), told(&wanted));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_holds_up_nobody() {
    let stats = Stats::new().unwrap();
    let (mut hook, work) = delivered_by(|_| std::future::pending(), stats.clone());
    tokio::spawn(work);
    hook.follow(Some(&Arc::new(program(0))));
    // Returns although there is room for fewer.
    (0..2 * WAITING).for_each(|_| hook.tell(&event("a")));
    assert!(hook.lanes[0].lost >= WAITING - BATCH, "{}", hook.lanes[0].lost);
    assert_eq!(stats.of(Receiver::Program).lost.get(), hook.lanes[0].lost as u64);
}
