//! Random schedules against a naive model: the checks of a pool, what its traffic tells, and panic, together.
//!
//! `LB_HEALTH_SEED=N` replays one schedule.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    super::{beliefs, checks, ejections::groups},
    rig::config,
};
use crate::{
    dice::Dice,
    health::{
        Member,
        passive::{Counted, Event, Observer, SAMPLE},
        probe::{Outcome, Verdict},
        roster::{Due, Roster},
    },
    model::{
        AdminState::{Active, Disabled, Drain},
        Backend, Config, Health, Initial, Passive,
    },
    nexthop::Snapshot,
    plan::{
        State,
        lists::Lists,
        wanted::{Disposition, key, takes_new_flows},
    },
};

const SCHEDULES: u64 = 200;
/// Looks at the counters in a schedule.
const LOOKS: u32 = 150;
const BACKENDS: u8 = 12;
const WALL: SystemTime = SystemTime::UNIX_EPOCH;

/// What is known by simple means: all results of each check, and until when somebody is ejected.
struct Naive {
    initial: Initial,
    rise: usize,
    fall: usize,
    results: BTreeMap<IpAddr, Vec<bool>>,
    ejected: BTreeMap<IpAddr, Instant>,
}

impl Naive {
    /// Whether a backend is healthy; `None` of whom nothing was heard and nothing is to be believed.
    fn healthy(&self, backend: IpAddr, now: Instant) -> Option<bool> {
        let results = self.results.get(&backend).map(Vec::as_slice).unwrap_or_default();
        if self.ejected.get(&backend).is_some_and(|until| now < *until) {
            return Some(false);
        }
        let mut up = (self.initial == Initial::Up).then_some(true);
        for (nth, &good) in results.iter().enumerate() {
            let needed = if good { self.rise } else { self.fall };
            let in_a_row = results[..=nth].iter().rev().take_while(|one| **one == good).count();
            match (up, self.initial) {
                (None, Initial::Down) => up = Some(good && needed == 1),
                (None, _) => up = Some(good),
                (Some(_), _) if in_a_row >= needed => up = Some(good),
                (Some(_), _) => {}
            }
        }
        up
    }
}

/// How often the rarer things happened.
type Tally = BTreeMap<&'static str, u32>;

struct Schedule {
    dice: Dice,
    now: Instant,
    /// Who may be configured.
    all: Vec<Backend>,
    config: Config,
    lists: Lists,
    roster: Roster,
    observer: Observer,
    counted: BTreeMap<Member, Counted>,
    /// Of ten results, how many of each backend are good; and whether it answers clients.
    ways: BTreeMap<IpAddr, (u64, bool)>,
    naive: Naive,
    tally: Tally,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let backend = |number| format!("{{ name = \"b{number}\", address = \"10.0.0.{number}\" }},\n");
        let backends: String = (1..=BACKENDS).map(backend).collect();
        let initial = dice.of(&[Initial::Last, Initial::Down, Initial::Up]);
        let (rise, fall) = (dice.of(&[1, 2, 3]), dice.of(&[1, 2, 3]));
        let mut config = config(&format!(
            "[dataplane]\ninterfaces = [\"eth0\"]\nnext_hop = \"02:00:00:00:00:07\"\n[pool.web]\nbackends = [{backends}]\n\
             [pool.web.passive]\neject_for = \"3s\"\n[pool.web.health]\ntype = \"tcp\"\nprobe = \"direct\"\n\
             initial = \"{}\"\ninterval = \"500ms\"\ntimeout = \"200ms\"\nrise = {rise}\nfall = {fall}\n\
             [[vip]]\nname = \"web\"\naddress = \"192.0.2.10\"\nport = 80\nprotocol = \"tcp\"\npool = \"web\"\n",
            format!("{initial:?}").to_lowercase(),
        ));
        let pool = config.pools.get_mut("web").unwrap();
        let all = pool.backends.clone();
        pool.backends.truncate(usize::try_from(1 + dice.below(u64::from(BACKENDS))).unwrap());
        let mut schedule = Self {
            dice,
            now: Instant::now() + Duration::from_hours(1),
            lists: Lists::of(&config),
            roster: Roster::new(BTreeMap::new(), seed),
            observer: Observer::default(),
            counted: BTreeMap::new(),
            ways: all.iter().map(|backend| (backend.address, (10, true))).collect(),
            naive: Naive { initial, rise, fall, results: BTreeMap::new(), ejected: BTreeMap::new() },
            tally: Tally::new(),
            all,
            config,
        };
        schedule.reload();
        schedule
    }

    /// The addresses of those that are to take new flows.
    fn eligible(&self) -> Vec<IpAddr> {
        let backends = self.config.pools["web"].backends.iter();
        backends.filter(|backend| takes_new_flows(backend)).map(|backend| backend.address).collect()
    }

    fn note(&mut self, what: &'static str, happened: bool) {
        *self.tally.entry(what).or_default() += u32::from(happened);
    }

    /// Goes on to the next look at the counters.
    fn step(&mut self) {
        self.now += SAMPLE;
        match self.dice.below(12) {
            0..=1 => {
                let backend = self.dice.of(&self.all.iter().map(|backend| backend.address).collect::<Vec<_>>());
                let way = (self.dice.of(&[0, 1, 9, 10]), self.dice.below(2) > 0);
                self.ways.insert(backend, way);
            }
            2 if self.dice.below(6) == 0 => {
                self.now += Duration::from_millis(self.dice.of(&[700, 4_000, 3_600_000]));
                self.note("jumps", true);
            }
            _ => {}
        }
        while let Some(Due { number, probe, .. }) = self.roster.start_next(self.now) {
            let backend = probe.target.ip();
            let good = self.dice.below(10) < self.ways[&backend].0;
            let result = if good { Verdict::Success } else { Verdict::Failure };
            let outcome = Outcome { result, latency: SAMPLE, text: format!("{result:?}"), said: None };
            self.roster.on_outcome(number, outcome, self.now, WALL);
            self.naive.results.entry(backend).or_default().push(good);
        }
        if self.roster.next_session().is_some_and(|at| at <= self.now) {
            self.roster.hold_session(self.now, WALL);
        }
        self.serve();
        self.look();
        self.serve();
        if self.dice.below(12) == 0 {
            self.change();
        }
    }

    /// Looks at the counters: what follows is within what is allowed.
    fn look(&mut self) {
        let view = self.roster.view();
        let is_down = |member: &Member| view.get(member).is_none_or(|standing| !standing.takes_new_flows());
        let events = self.observer.sample(&self.counted, is_down, self.now, WALL);
        let heard = self.eligible();
        let most = heard.len() * usize::from(self.config.pools["web"].health.passive.unwrap().max_ejected) / 100;
        let mut out = heard.iter().filter(|one| self.naive.healthy(**one, self.now) != Some(true)).count();
        let mut ejected = self.naive.ejected.clone();
        for event in &events {
            match event {
                Event::Ended { member } => {
                    let until = ejected[&member.backend];
                    assert!(until <= self.now || ejected.len() > most, "{member:?} had to wait on");
                    ejected.remove(&member.backend);
                    self.note("let go early", self.now < until);
                }
                Event::Began { member, lasts, .. } => {
                    assert_eq!(self.naive.healthy(member.backend, self.now), Some(true), "{member:?} is down already");
                    ejected.insert(member.backend, self.now + *lasts);
                    out += 1;
                    assert!(out <= most, "{out} of {} are out of service by an ejection", heard.len());
                    self.note("ejections", true);
                }
            }
        }
        assert!(ejected.len() <= most, "{} of {} ejected, {most} may be", ejected.len(), heard.len());
        assert!(ejected.values().all(|until| self.now < *until), "an ejection that does not end");
        let silent = heard.iter().any(|one| !ejected.contains_key(one) && !self.ways[one].1);
        self.note("no more may be ejected", silent && most > 0 && ejected.len() == most);
        self.naive.ejected = ejected;
        self.tell_ejections();
    }

    fn tell_ejections(&mut self) {
        let ejections = self.observer.ejections();
        let found: BTreeSet<IpAddr> = ejections.keys().map(|member| member.backend).collect();
        assert_eq!(found, self.naive.ejected.keys().copied().collect());
        self.roster.eject(Arc::new(ejections), self.now, WALL);
    }

    /// Who serves is who should, and to these clients come.
    fn serve(&mut self) {
        let (state, view, hops) = (State::default(), self.roster.view(), Snapshot::default());
        let wanted = beliefs::wanted(&self.config, &self.lists, &state, &view, &hops);
        let vip = &self.config.vips[0];
        let targets = &wanted.vips[&key(&vip.service)].backends;
        let serves = targets.iter().filter(|(_, target)| target.effective() == Disposition::Serving);
        let serving: BTreeSet<IpAddr> = serves.map(|(address, _)| *address).collect();
        let eligible = self.eligible();
        let healthy = |one: &IpAddr| Some((*one, self.naive.healthy(*one, self.now)?));
        let known: Vec<(IpAddr, bool)> = eligible.iter().filter_map(healthy).collect();
        let up = known.iter().filter(|(_, healthy)| *healthy).count();
        let panics = up * 100 < known.len() * usize::from(vip.panic_threshold);
        let expected: BTreeSet<IpAddr> =
            known.iter().filter(|(_, healthy)| *healthy || panics).map(|(address, _)| *address).collect();
        assert_eq!(serving, expected, "{panics}: {known:?}");
        let (_, told) = beliefs::eligible(&self.config, &self.lists, &state, &view, &hops);
        assert_eq!(!told.is_empty(), panics, "what paces the ring goes by the same");
        self.note("panics", panics);
        self.note("panics with some left out", panics && known.len() < eligible.len());
        for backend in serving {
            let member = Member { service: self.config.vips[0].service, backend };
            let counted = self.counted.entry(member).or_insert(Counted { target: 1, syns: 0, handshakes: 0 });
            counted.syns += 8;
            counted.handshakes += if self.ways[&backend].1 { 8 } else { 0 };
        }
    }

    /// Changes the configuration somehow.
    fn change(&mut self) {
        let nth = self.dice.below(self.all.len() as u64);
        let one = self.all[usize::try_from(nth).unwrap()].clone();
        let what = self.dice.below(10);
        let pool = self.config.pools.get_mut("web").unwrap();
        match what {
            0 => self.config.vips[0].panic_threshold = self.dice.of(&[0, 30, 50, 70, 100]),
            1..=3 => {
                let max_ejected = self.dice.of(&[1, 20, 30, 50, 100]);
                let passive = pool.health.passive.map(|passive| Passive { max_ejected, ..passive });
                pool.health = Arc::new(Health { passive, ..(*pool.health).clone() });
            }
            4 => pool.backends.clone_from(&self.all),
            5..=7 if pool.backends.len() > 1 => pool.backends.retain(|backend| backend.address != one.address),
            _ => {
                let state = self.dice.of(&[Active, Active, Active, Drain, Disabled]);
                pool.backends.retain(|backend| backend.address != one.address);
                pool.backends.push(Backend { state, weight: self.dice.of(&[0, 1, 7, 100]), ..one });
            }
        }
        self.note("reloads", true);
        self.reload();
        self.serve();
    }

    fn reload(&mut self) {
        self.lists = Lists::of(&self.config);
        let checks = checks(&self.config);
        self.roster.set(&checks, self.now, WALL);
        self.naive.results.retain(|address, _| checks.keys().any(|member| member.backend == *address));
        self.observer.set(&groups(&self.config));
        let heard = self.eligible();
        self.naive.ejected.retain(|address, _| heard.contains(address));
        self.tell_ejections();
    }
}

/// Names the schedule that failed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was schedule {0}; LB_HEALTH_SEED={0} replays it alone", self.0);
        }
    }
}

fn run(seed: u64) -> Tally {
    let _named = Named(seed);
    let mut schedule = Schedule::new(seed);
    (0..LOOKS).for_each(|_| schedule.step());
    schedule.tally
}

#[test]
fn checks_ejections_and_panic_go_together_as_a_naive_model_says() {
    if let Ok(seed) = std::env::var("LB_HEALTH_SEED") {
        run(seed.parse().expect("a number"));
        return;
    }
    let mut sums = Tally::new();
    for (what, times) in (0..SCHEDULES).flat_map(run) {
        *sums.entry(what).or_default() += times;
    }
    eprintln!("{SCHEDULES} schedules: {sums:?}");
    // Schedules in which nothing of this kind happens would show nothing of it.
    assert!(sums.values().all(|times| *times > 40), "{sums:?}");
}
