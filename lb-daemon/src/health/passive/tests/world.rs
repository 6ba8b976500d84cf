//! Backends with clients, counted as the tables would.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;
use crate::{dice::Dice, model::Protocol};

/// Time goes on in steps of so much.
const STEP: Duration = Duration::from_millis(5);

/// A backend of the world's only VIP.
pub(super) fn member(index: usize) -> Member {
    let backend = [10, 0, 0, u8::try_from(index).unwrap() + 1].into();
    Member { service: Service::of([192, 0, 2, 10].into(), 443, Protocol::Tcp), backend }
}

/// The defaults.
pub(super) fn rule() -> Passive {
    Passive {
        window: Duration::from_secs(10),
        min_new_flows: 20,
        success_below: 50,
        eject_for: Duration::from_secs(30),
        max_ejected: 30,
    }
}

/// A backend and its clients.
#[derive(Debug)]
pub(super) struct Backend {
    /// New flows per second.
    pub(super) rate: f64,
    /// From a SYN to the client's ACK.
    pub(super) round_trip: Duration,
    /// Share of SYNs that are answered.
    pub(super) success: f64,
    /// Time with new flows and time without, in turn.
    pub(super) pause: (Duration, Duration),
    due: f64,
    acks: BinaryHeap<Reverse<Instant>>,
    syns: u64,
    handshakes: u64,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) observer: Observer,
    pub(super) backends: Vec<Backend>,
    pub(super) down: BTreeSet<Member>,
    pub(super) now: Instant,
    begun: Instant,
    rule: Passive,
    random: Dice,
    look_at: Instant,
}

impl World {
    pub(super) fn new(seed: u64, backends: usize, rule: Passive) -> Self {
        let now = Instant::now();
        let backend = |_| Backend {
            rate: 0.0,
            round_trip: Duration::from_millis(20),
            success: 1.0,
            pause: (Duration::from_secs(1), Duration::ZERO),
            due: 0.0,
            acks: BinaryHeap::new(),
            syns: 0,
            handshakes: 0,
        };
        let mut world = Self {
            observer: Observer::default(),
            backends: (0..backends).map(backend).collect(),
            down: BTreeSet::new(),
            now,
            begun: now,
            rule,
            random: Dice::new(seed),
            look_at: now,
        };
        world.observer.set(&world.groups());
        world
    }

    pub(super) fn groups(&self) -> Groups {
        let members = (0..self.backends.len()).map(member).collect();
        [((member(0).service, "web".into()), Group { rule: self.rule, members })].into()
    }

    /// So many new flows per second for all together.
    pub(super) fn share_out(&mut self, rate: u32) {
        let each = f64::from(rate) / f64::from(u32::try_from(self.backends.len()).unwrap());
        self.backends.iter_mut().for_each(|one| one.rate = each);
    }

    /// What happens within so much time.
    pub(super) fn run(&mut self, time: Duration) -> Vec<Event> {
        let end = self.now + time;
        let mut events = Vec::new();
        while self.now < end {
            events.extend(self.step());
        }
        events
    }

    /// The first event of a kind, within so much time.
    pub(super) fn until(&mut self, time: Duration, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        let end = self.now + time;
        while self.now < end {
            if let Some(found) = self.step().into_iter().find(&wanted) {
                return Some(found);
            }
        }
        None
    }

    fn step(&mut self) -> Vec<Event> {
        self.now += STEP;
        let ejected = self.observer.ejections();
        for index in 0..self.backends.len() {
            if !ejected.contains_key(&member(index)) && !self.down.contains(&member(index)) {
                self.traffic(index);
            }
            let one = &mut self.backends[index];
            while one.acks.peek().is_some_and(|Reverse(at)| *at <= self.now) {
                one.acks.pop();
                one.handshakes += 1;
            }
        }
        if self.now < self.look_at {
            return Vec::new();
        }
        // The controller has other things to do too.
        self.look_at += SAMPLE;
        let late = if self.random.fraction() < 0.02 { Duration::from_millis(100) } else { Duration::ZERO };
        self.look_at = self.look_at.max(self.now + late);
        let count = |(index, one): (usize, &Backend)| {
            (member(index), Counted { target: 1, syns: one.syns, handshakes: one.handshakes })
        };
        let counted = self.backends.iter().enumerate().map(count).collect();
        let down = &self.down;
        let wall = UNIX_EPOCH + (self.now - self.begun);
        self.observer.sample(&counted, |member| down.contains(member), self.now, wall)
    }

    /// New flows within a step.
    fn traffic(&mut self, index: usize) {
        let (on, off) = self.backends[index].pause;
        let cycle = (on + off).as_millis().max(1);
        if (self.now - self.begun).as_millis() % cycle >= on.as_millis() {
            return;
        }
        // As many as chance gives: twice the rate, or none.
        let burst = 2.0 * self.random.fraction();
        let one = &mut self.backends[index];
        one.due += burst * one.rate * STEP.as_secs_f64();
        while self.backends[index].due >= 1.0 {
            let answered = self.random.fraction() < self.backends[index].success;
            let one = &mut self.backends[index];
            one.due -= 1.0;
            one.syns += 1;
            if answered {
                one.acks.push(Reverse(self.now + one.round_trip));
            }
        }
    }
}
