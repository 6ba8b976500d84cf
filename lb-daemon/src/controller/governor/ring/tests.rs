use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

mod failed;

const SECOND: Duration = Duration::from_secs(1);

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

/// A ring with its backends' health, and a clock.
struct World {
    ring: Ring,
    aim: Aim,
    epoch: Instant,
    now: Instant,
    settling: bool,
    /// Slots that moved, when.
    moved: Vec<(Instant, u32)>,
    steps: usize,
}

impl World {
    /// So many backends of weight 100 that all serve, as found in the tables.
    fn serving(count: u32, size: u32, slow_start: Option<Duration>, limit: Option<RingChange>) -> Self {
        let eligible: BTreeMap<IpAddr, u32> = (0..count).map(|number| (address(number), 100)).collect();
        let slots = shares::ring(&eligible, size).into_iter().flatten().fold(BTreeMap::new(), |mut slots, address| {
            *slots.entry(address).or_default() += 1;
            slots
        });
        let aim = Aim { size, plain: eligible.clone(), eligible, panics: false, slow_start, limit };
        Self::with(Ring::found(&slots, &aim.eligible), aim)
    }

    fn with(ring: Ring, aim: Aim) -> Self {
        let epoch = Instant::now();
        let mut world = Self { ring, aim, epoch, now: epoch, settling: false, moved: Vec::new(), steps: 0 };
        world.step();
        world.moved.clear();
        world.steps = 0;
        world
    }

    fn slots(&self) -> Vec<Option<IpAddr>> {
        shares::ring(self.ring.weights(), self.aim.size)
    }

    fn step(&mut self) {
        let before = self.slots();
        let when = When { now: self.now, epoch: self.epoch, settling: self.settling };
        self.ring.step(&self.aim, when);
        self.steps += 1;
        let moved = moved(&before, &self.slots());
        if moved > 0 {
            self.moved.push((self.now, moved));
        }
        assert!(self.ring.next().is_none_or(|next| next > self.now), "it would be asked again at once");
    }

    /// Lets time pass, with a step whenever there is one to make.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.ring.next().filter(|next| *next <= end) {
            self.now = next;
            self.step();
        }
        self.now = end;
    }

    fn set(&mut self, number: u32, up: bool) {
        self.give(number, if up { 100 } else { 0 });
    }

    /// Leaves so many percent of its weight to a backend.
    fn give(&mut self, number: u32, percent: u32) {
        let weight = self.aim.eligible[&address(number)] * percent / 100;
        if weight > 0 {
            self.aim.plain.insert(address(number), weight);
        } else {
            self.aim.plain.remove(&address(number));
        }
    }

    fn report(&mut self, number: u32, up: bool) {
        self.set(number, up);
        self.step();
    }

    fn share(&self, number: u32) -> f64 {
        let all: u32 = self.slots().len().try_into().unwrap();
        let own = self.slots().into_iter().filter(|slot| *slot == Some(address(number))).count();
        f64::from(u32::try_from(own).unwrap()) / f64::from(all.max(1))
    }

    /// The most that moved within a time.
    fn worst(&self, per: Duration) -> u32 {
        let within = |at: Instant| self.moved.iter().filter(move |(other, _)| *other >= at && *other < at + per);
        self.moved.iter().map(|(at, _)| within(*at).map(|(_, slots)| slots).sum()).max().unwrap_or(0)
    }

    fn is_plain(&self) -> bool {
        *self.ring.weights() == self.aim.plain
    }
}

fn limit(percent: u8) -> RingChange {
    RingChange { percent, per: SECOND * 10 }
}

#[test]
fn without_either_health_counts_at_once() {
    let mut world = World::serving(10, 4093, None, None);
    assert!(world.is_plain());
    for number in 0..10 {
        world.report(number, false);
        assert!(world.is_plain());
    }
    world.report(3, true);
    assert!(world.is_plain() && world.ring.next().is_none());
}

#[test]
fn a_backend_that_comes_up_starts_slowly() {
    let mut world = World::serving(10, 4093, Some(SECOND * 20), None);
    world.report(3, false);
    assert!(world.share(3) == 0.0 && world.is_plain(), "down is at once");
    world.pass(SECOND * 3 + SECOND / 3);
    world.moved.clear();
    world.report(3, true);
    assert_eq!(world.ring.held(address(3)), Some(Held::Starts(5)));
    assert_eq!(world.ring.held(address(4)), None);
    let mut last = world.share(3);
    assert!((0.004..0.007).contains(&last), "{last}");
    for _ in 0..30 {
        world.pass(SECOND);
        assert!(world.share(3) >= last, "{} after {last}", world.share(3));
        last = world.share(3);
    }
    assert!(world.is_plain() && world.ring.next().is_none() && world.ring.held(address(3)).is_none());
    assert_eq!(world.moved.len(), 20, "a step each second: {:?}", world.moved);
    assert!(world.moved.iter().all(|(_, slots)| *slots <= 4093 / 10 / 20 + 40), "{:?}", world.moved);
    let length = world.moved.last().unwrap().0 - world.moved[0].0;
    assert!(length > SECOND * 19 && length <= SECOND * 20, "{length:?}");
}

#[test]
fn backends_that_start_at_different_times_make_their_steps_together() {
    let mut world = World::serving(50, 4093, Some(SECOND * 20), None);
    (30..50).for_each(|number| world.set(number, false));
    world.step();
    world.moved.clear();
    for number in 30..50 {
        world.pass(SECOND / 40);
        world.report(number, true);
    }
    world.steps = 0;
    world.pass(SECOND * 30);
    assert!(world.is_plain());
    assert!(world.steps <= 21, "{} plans", world.steps);
}

#[test]
fn nobody_starts_slowly_alone_in_panic_or_at_the_beginning() {
    let mut world = World::serving(2, 1009, Some(SECOND * 20), None);
    world.report(0, false);
    world.report(1, false);
    assert!(world.ring.weights().is_empty());
    world.report(1, true);
    assert!(world.is_plain(), "alone");
    world.report(0, true);
    assert!(!world.is_plain());
    world.aim.panics = true;
    world.step();
    assert!(world.is_plain(), "in panic all are used");
    world.aim.panics = false;
    world.step();
    assert!(world.is_plain(), "it is in already");

    let aim = Aim { plain: BTreeMap::new(), limit: Some(limit(10)), ..world.aim.clone() };
    let mut world = World::with(Ring::found(&BTreeMap::new(), &aim.eligible), aim);
    world.settling = true;
    world.step();
    for number in 0..2 {
        world.report(number, true);
        assert!(world.is_plain(), "the first results come one by one");
    }
    world.settling = false;
    world.step();
    world.report(0, false);
    assert!(!world.is_plain(), "from here on the limit holds");
}

#[test]
fn what_is_new_starts_slowly_and_what_is_gone_goes_at_once() {
    let mut world = World::serving(10, 4093, Some(SECOND * 20), Some(limit(10)));
    world.aim.eligible.insert(address(77), 100);
    world.report(77, true);
    assert_eq!(world.ring.held(address(77)), Some(Held::Starts(5)));
    world.pass(SECOND * 30);
    assert!(world.is_plain());
    for number in 0..5 {
        world.aim.eligible.remove(&address(number));
        world.set(77, true);
        world.aim.plain.remove(&address(number));
    }
    world.step();
    assert!(world.is_plain() && world.ring.next().is_none(), "no limit for what is configured");
    world.aim.eligible.insert(address(6), 7);
    world.report(6, true);
    assert!(world.is_plain(), "nor for weights");
}

#[test]
fn who_is_down_goes_one_after_the_other_and_before_others_come() {
    let mut world = World::serving(10, 65_537, None, Some(limit(10)));
    world.report(9, false);
    world.pass(SECOND * 60);
    assert!(world.is_plain());
    world.moved.clear();
    world.set(9, true);
    (0..5).for_each(|number| world.set(number, false));
    world.step();
    let held: Vec<bool> = (0..10).map(|number| world.ring.held(address(number)).is_some()).collect();
    assert_eq!(held, [true, true, true, true, true, false, false, false, false, true]);
    assert!(world.share(0) < 0.06 && world.share(1) > 0.109, "{} {}", world.share(0), world.share(1));
    assert!(world.share(9) > 0.01, "who comes gets a part of what is freed");
    assert_eq!(world.ring.held(address(0)), Some(Held::Budget(world.now + SECOND * 10)));
    let at = world.now;
    world.pass(SECOND * 100);
    assert!(world.is_plain());
    assert!(world.worst(SECOND * 10) <= 6553, "{:?}", world.moved);
    let needed = world.moved.last().unwrap().0 - at;
    assert!(needed <= SECOND * 80, "half of the ring and one that comes, a tenth each ten seconds: {needed:?}");
    // One that comes back before it went keeps what it has.
    world.set(6, false);
    world.set(7, false);
    world.step();
    let had = world.share(7);
    world.report(7, true);
    assert!(had > 0.1 && (world.share(7) - had).abs() < 0.01, "{had} {}", world.share(7));
}

#[test]
fn without_a_healthy_backend_the_ring_stays_if_it_is_limited() {
    let mut world = World::serving(4, 4093, None, Some(limit(10)));
    (0..4).for_each(|number| world.set(number, false));
    world.step();
    assert!(world.moved.is_empty() && world.ring.next().is_none());
    world.report(2, true);
    assert!(world.share(2) < 0.36, "the first to come back is not overrun: {}", world.share(2));
    world.pass(SECOND * 300);
    assert!(world.is_plain() && world.worst(SECOND * 10) <= 409);
}

#[test]
fn slots_count_from_when_they_are_in_the_tables() {
    let mut world = World::serving(4, 4093, None, Some(limit(10)));
    world.report(0, false);
    let (planned, written) = (world.now, world.now + SECOND * 3 / 4);
    assert_eq!(world.ring.next(), Some(planned + SECOND * 10));
    world.ring.applied(written);
    assert_eq!(world.ring.next(), Some(written + SECOND * 10));
    assert_eq!(world.ring.held(address(0)), Some(Held::Budget(written + SECOND * 10)));
    world.ring.applied(written + SECOND);
    assert_eq!(world.ring.next(), Some(written + SECOND * 10), "nothing more was planned");
    world.pass(SECOND * 300);
    assert!(world.is_plain());
}

#[test]
fn what_was_found_goes_on_where_it_was() {
    let mut world = World::serving(10, 65_537, Some(SECOND * 20), Some(limit(10)));
    (0..5).for_each(|number| world.set(number, false));
    world.step();
    let before = world.slots();
    let slots = before.iter().flatten().fold(BTreeMap::new(), |mut slots, address| {
        *slots.entry(*address).or_default() += 1;
        slots
    });
    let mut other = World::with(
        Ring::found(&slots, &world.aim.eligible),
        Aim { plain: world.aim.eligible.clone(), ..world.aim.clone() },
    );
    assert!(other.share(0) < 0.2, "{}", other.share(0));
    other.ring = Ring::found(&slots, &world.aim.eligible);
    other.aim.plain = world.aim.plain.clone();
    other.step();
    let went = moved(&before, &other.slots());
    assert!(went <= 6553 + 200, "{went} slots of what was found");
}

/// Changes of health: after so many milliseconds, of which backend, and how much of its weight is left to it.
fn history(count: u32) -> impl Strategy<Value = Vec<(u64, u32, u32)>> {
    let left = prop_oneof![2 => Just(0), 2 => Just(100), 1 => 1..100_u32];
    prop::collection::vec((prop_oneof![Just(0), 0..3_000_u64, 0..30_000_u64], 0..count, left), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_window_sees_more_than_the_budget_and_quiet_brings_all_about(
        (count, history) in (2..14_u32).prop_flat_map(|count| (Just(count), history(count))),
        percent in 8..40_u8,
        slow in prop::option::of(1..40_u32),
    ) {
        let mut world = World::serving(count, 4093, slow.map(|slow| SECOND * slow), Some(limit(percent)));
        for (wait, number, left) in history {
            world.pass(Duration::from_millis(wait));
            world.give(number, left);
            world.step();
        }
        if !world.aim.plain.is_empty() {
            world.pass(SECOND * 600);
            prop_assert!(world.is_plain(), "{:?} instead of {:?}", world.ring.weights(), world.aim.plain);
            prop_assert!(world.ring.next().is_none());
        }
        let budget = limit(percent).slots(4093);
        prop_assert!(world.worst(SECOND * 10) <= budget, "{} of {budget}: {:?}", world.worst(SECOND * 10), world.moved);
    }
}

#[test]
fn where_nearly_all_start_at_once_a_step_moves_a_twentieth_of_the_ring() {
    for (count, size) in [(10, 65_537), (10, 4093), (100, 16_381)] {
        let mut world = World::serving(count, size, Some(SECOND * 20), None);
        (1..count).for_each(|number| world.set(number, false));
        world.step();
        world.pass(SECOND * 3);
        world.moved.clear();
        (1..count).for_each(|number| world.set(number, true));
        world.step();
        let begin = world.now;
        assert!(matches!(world.ring.held(address(1)), Some(Held::Starts(percent)) if percent <= 5), "{size}");
        world.pass(SECOND * 60);
        assert!(world.is_plain() && world.ring.held(address(1)).is_none(), "{size}");
        let worst = world.moved.iter().map(|(_, slots)| *slots).max().unwrap();
        assert!(worst <= size / 20, "{worst} of {size} slots at once");
        let took = world.moved.last().unwrap().0 - begin;
        assert!(took <= SECOND * 30, "{count} backends, {size} slots: {took:?}");
    }
}

#[test]
fn a_slow_start_holds_up_nobody_who_goes() {
    let mut world = World::serving(10, 4093, Some(SECOND * 20), None);
    (1..10).for_each(|number| world.set(number, false));
    world.step();
    (1..10).for_each(|number| world.set(number, true));
    world.step();
    world.pass(SECOND * 10);
    for number in 0..5 {
        world.report(number, false);
        assert!(world.share(number) == 0.0 && world.share(9) > 0.0, "{number}");
    }
}

#[test]
fn a_hundred_backends_that_flap_move_no_more_than_the_budget() {
    let mut world = World::serving(100, 16_381, Some(SECOND * 5), Some(limit(10)));
    let mut random = 0x5eed_u64;
    let mut up = [true; 100];
    for _ in 0..40 {
        for _ in 0..10 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = usize::try_from(random >> 33).unwrap() % 100;
            up[number] = !up[number];
            world.set(u32::try_from(number).unwrap(), up[number]);
        }
        world.step();
        world.pass(SECOND);
    }
    let worst = world.worst(SECOND * 10);
    assert!(worst <= 1638 && worst > 1300, "{worst} in ten seconds; 10% are 1638");
    world.pass(SECOND * 600);
    assert!(world.is_plain() && world.worst(SECOND * 10) <= 1638);
}
