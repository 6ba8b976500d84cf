//! Random schedules on a clock of their own: the roster against a naive model.
//!
//! `LB_HEALTH_SEED=N` replays one schedule, `LB_HEALTH_SCHEDULES=N` runs another number of them.

use std::{net::IpAddr, thread};

use self::naive::{Moment, World};
use super::*;
use crate::{
    dice::Dice,
    health::{Heard, agent::Said},
};

mod naive;
mod world;

const SCHEDULES: u64 = 10_000;
/// Of a schedule. What happens to probes counts as well as what happens to the configuration.
const EVENTS: u64 = 60;
/// One schedule in so many is long and left alone for most of the time, with backends that are good half of the time: its
/// checks change their minds often.
const LONG: u64 = 25;
const LONG_EVENTS: u64 = 500;

/// What is on its way.
struct Running {
    ends: Instant,
    number: Number,
    probe: Arc<Probe>,
    started: Instant,
    outcome: Outcome,
}

/// A schedule under way.
struct Schedule {
    dice: Dice,
    roster: Roster,
    world: World,
    at: Moment,
    checks: Checks,
    running: Vec<Running>,
    /// What somebody holds who goes by effects alone.
    heard: HealthView,
    /// Of 20 results, how many of each backend are good.
    good: BTreeMap<IpAddr, u64>,
    disturbed: Instant,
    /// Longest time from one disturbance to the next, in milliseconds.
    calm: u64,
}

/// How often the rarer things happened.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    results: u64,
    transitions: u64,
    reloads: u64,
    restarts: u64,
    jumps: u64,
    ejections: u64,
    held: u64,
    full_records: u64,
    advised: u64,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000_000);
        let at = Moment { now: Instant::now() + Duration::from_hours(1), wall };
        let checks = world::begin(&mut dice);
        let (calm, good): (_, &[u64]) = if is_long(seed) { (100_000, &[8, 10, 12]) } else { (5000, &[1, 10, 19]) };
        let mut schedule = Self {
            roster: Roster::new(BTreeMap::new(), seed),
            world: World::new(BTreeMap::new()),
            at,
            checks: Checks::new(),
            running: Vec::new(),
            heard: HealthView::new(),
            good: world::members().iter().map(|member| (member.backend, dice.of(good))).collect(),
            disturbed: at.now + dice.millis(calm),
            calm,
            dice,
        };
        schedule.reload(checks);
        schedule
    }

    /// Goes to whatever happens next.
    fn step(&mut self, tally: &mut Tally) {
        let ends = self.running.iter().map(|running| running.ends);
        let wakes = [self.roster.next_deadline(), self.roster.next_session()];
        let next = ends.chain(wakes.into_iter().flatten()).chain([self.disturbed]).min().unwrap();
        self.pass(next.saturating_duration_since(self.at.now));
        if self.roster.next_session().is_some_and(|at| at <= self.at.now) {
            let effect = self.roster.hold_session(self.at.now, self.at.wall);
            self.world.look_at_all(self.at);
            self.hear(effect, tally);
        }
        while let Some(Due { number, probe, .. }) = self.roster.start_next(self.at.now) {
            self.start(number, probe);
        }
        while let Some(nth) = self.running.iter().position(|running| running.ends <= self.at.now) {
            let Running { number, probe, started, outcome, .. } = self.running.swap_remove(nth);
            let effect = self.roster.on_outcome(number, outcome.clone(), self.at.now, self.at.wall);
            self.world.outcome(&probe, started, &outcome, self.at);
            assert!(outcome.result != Verdict::Skipped || effect == Effect::default(), "that says nothing");
            tally.results += 1;
            self.hear(effect, tally);
        }
        assert!(self.roster.next_session().is_none_or(|at| at > self.at.now), "a session that is held again and again");
        if self.disturbed <= self.at.now {
            self.disturb(tally);
            self.disturbed = self.at.now + self.dice.millis(self.calm);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.at = Moment { now: self.at.now + time, wall: self.at.wall + time };
    }

    fn start(&mut self, number: Number, probe: Arc<Probe>) {
        self.world.start(&probe, self.at);
        let good = self.dice.below(20) < self.good[&probe.target.ip()];
        let result = match self.dice.below(20) {
            0 if good => Verdict::Skipped,
            0 => Verdict::Impossible,
            1 | 2 if !good => Verdict::Timeout,
            _ if good => Verdict::Success,
            _ => Verdict::Failure,
        };
        let latency = if result == Verdict::Timeout { probe.timeout } else { self.dice.millis(300) };
        // The machine was busy meanwhile.
        let late = if self.dice.once_in(50) { self.dice.millis(4000) } else { Duration::ZERO };
        let mut text = format!("{result:?} {}", self.dice.below(2));
        if matches!(probe.ask, Ask::Agent(_)) && result == Verdict::Success {
            text = self.dice.of(&naive::LINES).into();
        }
        let said = Said::read(text.as_bytes());
        let outcome = Outcome { result, latency, text, said };
        let (started, ends) = (self.at.now, self.at.now + latency + late);
        self.running.push(Running { ends, number, probe, started, outcome });
    }

    /// Takes what changed, as the driver does.
    fn hear(&mut self, effect: Effect, tally: &mut Tally) {
        let of_agent = |agent: &Heard| (agent.status.up, agent.word.clone());
        let seen = |view: &HealthView| -> BTreeMap<Member, _> {
            let told = |one: &Standing| {
                let agent = one.agent.as_ref().map(of_agent);
                (one.counts(), one.reason.clone(), agent)
            };
            view.iter().map(|(member, standing)| (*member, told(standing))).collect()
        };
        let before = seen(&self.heard);
        for Judged { member, standing, transition } in effect.results {
            let was = before.get(&member).map(|((up, ..), ..)| *up);
            let is = standing.as_ref().map(|standing| standing.up);
            let wanted = is.filter(|_| was != is).map(|up| Transition { up, first: was.is_none() });
            assert_eq!(transition, wanted, "{member:?}");
            tally.transitions += u64::from(transition.is_some());
            match standing {
                Some(standing) => drop(self.heard.insert(member, standing)),
                None => drop(self.heard.remove(&member)),
            }
        }
        assert_eq!(effect.visible, before != seen(&self.heard));
    }

    fn disturb(&mut self, tally: &mut Tally) {
        let dice = &mut self.dice;
        match dice.below(16) {
            0..7 => {
                let mut checks = self.checks.clone();
                for _ in 0..=dice.below(2) {
                    world::change(dice, &mut checks);
                }
                self.reload(checks);
                tally.reloads += 1;
            }
            7..10 => {
                let mut ejections = Ejections::new();
                for member in world::members() {
                    let until = self.at.now + dice.millis(20_000);
                    if dice.once_in(3) {
                        ejections.insert(member, Ejected { until, reason: format!("told by {}", dice.below(2)) });
                    }
                }
                let effect = self.roster.eject(Arc::new(ejections.clone()), self.at.now, self.at.wall);
                self.world.eject(&ejections, self.at);
                self.hear(effect, tally);
                tally.ejections += 1;
            }
            10 => {
                // All that was due meanwhile is due at once.
                let hours = Duration::from_hours(1 + dice.below(10));
                self.pass(hours);
                self.world.excused = Some(self.at.now);
                tally.jumps += 1;
            }
            11 => {
                let hours = Duration::from_hours(dice.below(20));
                self.at.wall = if dice.once_in(2) { self.at.wall - hours } else { self.at.wall + hours };
                tally.jumps += 1;
            }
            12 => {
                self.restart();
                tally.restarts += 1;
            }
            _ => {
                let backend = dice.of(&world::members()).backend;
                let good: &[u64] = if self.calm > 5000 { &[8, 10, 12] } else { &[0, 1, 10, 19, 20] };
                self.good.insert(backend, dice.of(good));
            }
        }
    }

    fn reload(&mut self, checks: Checks) {
        self.roster.set(&checks, self.at.now, self.at.wall);
        self.world.reload(&checks, self.at);
        self.checks = checks;
        self.heard = self.roster.view();
    }

    /// The daemon ends, and another one begins a while later with what results told this one.
    fn restart(&mut self) {
        let kept = |view: HealthView| {
            let mut kept = BTreeMap::new();
            for (member, standing) in view {
                let agent = standing.agent.map(|agent| ("agent".into(), agent.status, Some(agent.word)));
                let checks = standing.checks.into_iter().map(|(check, status)| (check, status, None));
                for (check, Status { up, last, since, heard, .. }, word) in checks.chain(agent) {
                    if let (Some(since), Some(heard)) = (since, heard) {
                        kept.insert(CheckId { member, check }, Kept { up, last, since, heard, word });
                    }
                }
            }
            kept
        };
        let known = kept(self.roster.view());
        let expected = kept(self.world.view().0);
        assert_eq!(known, expected);
        let away = Duration::from_secs(self.dice.of(&[1, 60, 500, 599, 605, 1100, 4000]));
        self.pass(away);
        self.running.clear();
        self.roster = Roster::new(known, self.dice.below(1000));
        self.world = World::new(expected);
        let mut checks = self.checks.clone();
        if self.dice.once_in(3) {
            world::change(&mut self.dice, &mut checks);
        }
        self.reload(checks);
    }

    /// All that has to be so at any time.
    fn check(&self, tally: &mut Tally) {
        let (expected, ends) = self.world.view();
        let found = self.roster.view();
        assert_eq!(found, expected);
        assert_eq!(self.heard, found, "effects tell all that changes");
        if let Some(first) = ends.iter().min() {
            assert!(self.roster.next_session().is_some_and(|at| at <= *first), "an end that nobody wakes for");
        }
        if let Some(latest) = self.world.lines().values().filter_map(naive::Line::latest_start).min() {
            assert!(self.roster.next_deadline().is_some_and(|at| at <= latest), "a probe that never starts");
        }
        for standing in found.values() {
            tally.held += u64::from(standing.reason.starts_with("went down"));
            assert!(standing.transitions.iter().len() <= 20);
            tally.full_records += u64::from(standing.transitions.iter().len() == 20);
            tally.advised += u64::from(standing.advice().is_some());
        }
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

fn run(seed: u64, tally: &mut Tally) {
    let _named = Named(seed);
    let mut schedule = Schedule::new(seed);
    let events = if is_long(seed) { LONG_EVENTS } else { EVENTS };
    for event in 1..=events {
        schedule.step(tally);
        if event % (events / 4) == 0 {
            schedule.check(tally);
        }
    }
}

fn is_long(seed: u64) -> bool {
    seed.is_multiple_of(LONG)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn random_schedules_go_as_a_naive_model_says() {
    if let Some(seed) = number("LB_HEALTH_SEED") {
        return run(seed, &mut Tally::default());
    }
    let schedules = number("LB_HEALTH_SCHEDULES").unwrap_or(SCHEDULES);
    let half = |first: u64| {
        let mut tally = Tally::default();
        (first..schedules).step_by(2).for_each(|seed| run(seed, &mut tally));
        tally
    };
    let [one, two] = thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        [half(0), other.join().expect("the other half")]
    });
    eprintln!("{schedules} schedules: {one:?} and {two:?}");
    // Schedules in which nothing of this kind happens would show nothing of it.
    let Tally { results, transitions, reloads, restarts, jumps, ejections, held, full_records, advised } = one;
    for rare in [results, transitions, reloads, restarts, jumps, ejections, held, full_records, advised] {
        assert!(schedules < SCHEDULES || rare > 100, "{one:?}");
    }
}
