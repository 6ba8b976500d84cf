//! Random frames and random tables: the program in the kernel and the same code on the host must do the same, remember and
//! count the same, and keep what lb promises of any frame.
#![expect(clippy::cast_possible_truncation, reason = "of random numbers as many bits are used as are needed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use etherparse::{SlicedPacket, err::packet::SliceError};
use lb_common::{
    layout::{LAYOUT_VERSION, counter::PathEvent, flow::WAYS},
    maps,
    verdict::{Action, Verdict},
};
use lb_xdp::{
    host::{HostFrame, HostTables},
    path::Exit,
};
use netns_tests::{
    bpf::table::dump,
    packet::{
        case::INGRESS,
        check::{Counted, action, action_of},
        kernel::{Loaded, settled_unit, unit, words_of},
        report, sums,
    },
    scenario::is_root,
};

mod differential {
    pub(crate) mod frames;
    pub(crate) mod random;
    pub(crate) mod world;
}

use differential::{frames, random, random::Random, world};

/// Frames that are compared.
const FRAMES: usize = 20_000;
/// Frames between two comparisons of the tables; they fall into one unit of the clock.
const CHUNK: usize = 500;
/// Chooses the frames; the clock does if it is not set.
const SEED: &str = "LB_TEST_SEED";

fn set_flows(tables: &HostTables, flows: &[[u64; WAYS]]) {
    for (bucket, words) in tables.flows.iter().zip(flows) {
        for (place, word) in bucket.entries.iter().zip(words) {
            place.store(*word, Relaxed);
        }
    }
}

fn seed() -> u64 {
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let seed = env::var(SEED).map_or_else(|_| by_clock(), |text| text.parse().expect("a number"));
    println!("seed {seed}: run again with {SEED}={seed}");
    seed
}

/// What came of many frames.
#[derive(Default)]
struct Seen {
    frames: usize,
    verdicts: [u32; Verdict::ALL.len()],
    events: BTreeSet<PathEvent>,
}

impl Seen {
    /// Else a comparison would say little. Only a lack of room has no frame here.
    fn demand_everything(&self) {
        let counted: Vec<String> =
            Verdict::ALL.iter().zip(self.verdicts).map(|(v, n)| format!("{} {n}", v.label())).collect();
        println!("{} frames: {}", self.frames, counted.join(", "));
        assert_eq!(self.missing(), (vec![Verdict::NoHeadroom], vec![]));
    }

    /// Whether there was of everything. Some events are rare: a run takes as many frames as it needs for that.
    fn has_everything(&self) -> bool {
        self.missing() == (vec![Verdict::NoHeadroom], vec![])
    }

    /// Verdicts and events that did not come up yet.
    fn missing(&self) -> (Vec<Verdict>, Vec<PathEvent>) {
        let none = |(_, count): &(&Verdict, u32)| *count == 0;
        let verdicts = Verdict::ALL.iter().zip(self.verdicts).filter(none).map(|(verdict, _)| *verdict);
        let events = PathEvent::ALL.into_iter().filter(|event| !self.events.contains(event));
        (verdicts.collect(), events.collect())
    }
}

/// Both must do the same with a frame; what the host made of it.
fn same(loaded: &Loaded, host: &HostTables, name: &str, bytes: &[u8]) -> Option<Exit> {
    let told = loaded.explain(bytes, 256).expect("tables that can be read");
    let ran = loaded.run(bytes, 256).expect("a test run");
    if u64::from(unit()) != host.now_ns.get() >> 32 {
        return None;
    }
    let mut frame = HostFrame::new(bytes, INGRESS);
    let exit = host.run(&mut frame);
    if (action_of(ran.action), ran.frame.as_slice()) != (action(exit), frame.bytes()) {
        let fault = format!("kernel: {}, host: {exit:?}", action_of(ran.action).name());
        report::print(name, &[fault], bytes, frame.bytes(), &[("kernel", &ran.frame)]);
        panic!("kernel and host differ; expected is the host's");
    }
    assert_eq!(told.exit, exit, "{name}: what lb explain says of {bytes:02x?}");
    assert_eq!(told.out, ran.frame, "{name}: what lb explain says of {bytes:02x?}");
    Some(exit)
}

/// Compares a program with these features; `frames` of them.
fn compare(features: u32, frames: usize, random: &mut Random) -> Seen {
    let mut loaded = Loaded::new(world::given(random, features).tuning()).expect("the program");
    let mut seen = Seen::default();
    let is_full = features == world::PROGRAMS[0];
    while seen.frames < frames || is_full && seen.frames < 20 * frames && !seen.has_everything() {
        // Other tables now and then.
        let given = world::given(random, features);
        let mut flows = world::crowded(random);
        for _ in 0..8 {
            let frames: Vec<Vec<u8>> = (0..CHUNK).map(|_| frames::frame(random)).collect();
            let now = settled_unit(Duration::from_secs(1));
            let host = given.tables(now);
            set_flows(&host, &flows);
            loaded.fill(&host).expect("tables");
            let before = loaded.counters().expect("counters");
            for (number, bytes) in frames.iter().enumerate() {
                let name = format!("frame {} of a random run", seen.frames + number);
                let Some(exit) = same(&loaded, &host, &name, bytes) else { break };
                seen.verdicts[exit.verdict as usize] += 1;
            }
            if unit() != now {
                // The unit ended meanwhile, on a machine that is very busy: this chunk says nothing about the tables.
                continue;
            }
            let counted = Counted::by_host(&host);
            assert_eq!(Counted::between(&before, &loaded.counters().expect("counters")), counted);
            seen.events.extend(counted.events.into_keys());
            let after = loaded.flows();
            assert_eq!(after, words_of(&host.flows), "the flow tables");
            assert_eq!(loaded.fragments(), words_of(&host.fragments), "the fragment tables");
            flows = world::aged(&after, random);
            seen.frames += CHUNK;
        }
    }
    seen
}

#[test]
fn kernel_and_host_do_the_same_with_any_frame() {
    if is_root() {
        compare(world::PROGRAMS[0], FRAMES, &mut Random(seed())).demand_everything();
    }
}

#[test]
fn the_plain_program_and_host_do_the_same_with_any_frame() {
    if is_root() {
        compare(world::PROGRAMS[1], FRAMES / 2, &mut Random(seed()));
    }
}

/// Key and value.
type Entry = (Vec<u8>, Vec<u8>);

/// All bytes of all tables.
fn everything(loaded: &Loaded) -> BTreeMap<&'static str, Vec<Entry>> {
    let tables = loaded.pin_path().join(format!("v{LAYOUT_VERSION}/maps"));
    maps::ALL.into_iter().map(|name| (name, dump(&tables.join(name)).expect(name))).collect()
}

#[test]
fn explaining_any_frame_changes_no_byte_of_any_table() {
    if !is_root() {
        return;
    }
    let mut random = Random(seed());
    let mut seen = BTreeSet::new();
    let given = world::given(&mut random, world::PROGRAMS[0]);
    let mut loaded = Loaded::new(given.tuning()).expect("the program");
    for _ in 0..4 {
        let host = world::given(&mut random, world::PROGRAMS[0]).tables(unit());
        set_flows(&host, &world::crowded(&mut random));
        loaded.fill(&host).expect("tables");
        // Counters that are not all zero.
        loaded.run(&frames::packet(&mut random).build(), 256).expect("a test run");
        let before = everything(&loaded);
        for number in 0..1000 {
            let mut bytes = frames::frame(&mut random);
            if number % 8 == 0 {
                bytes.truncate(random.below(bytes.len() + 1));
            }
            seen.insert(loaded.explain(&bytes, 256).expect("tables that can be read").exit.verdict);
        }
        assert!(before == everything(&loaded), "a table changed");
    }
    assert!(seen.len() > 15, "only {seen:?} were met");
}

/// What lb promises of any frame, whatever the tables hold, and of one that is sound.
fn demand_promises(bytes: &[u8], is_sound: bool, exit: Exit, out: &[u8]) {
    let fault = match exit.verdict.action() {
        // A packet from another lb's tunnel goes up without it.
        Action::Pass if exit.verdict == Verdict::Local && out.len() < bytes.len() => None,
        Action::Pass => (out != bytes).then(|| "passed, but changed".to_owned()),
        Action::Transmit | Action::Redirect => {
            // In which order extension headers come is for the receiver to judge.
            let parsed = SlicedPacket::from_ethernet(out).map(drop).or_else(|error| match error {
                SliceError::Ipv6Exts(_) => Ok(()),
                error => Err(error),
            });
            let wrong = sums::wrong(out);
            if !is_sound {
                None
            } else if !wrong.is_empty() {
                Some(format!("wrong checksums: {wrong:?}"))
            } else {
                parsed.err().map(|error| error.to_string())
            }
        }
        Action::Drop | Action::Aborted => None,
    };
    if let Some(fault) = fault {
        report::print("a random frame", &[format!("{exit:?}: {fault}")], bytes, bytes, &[("host", out)]);
        panic!("{fault}");
    }
}

#[test]
fn whatever_comes_the_host_keeps_its_promises() {
    let mut random = Random(seed());
    let mut seen = Seen::default();
    for number in 0..1000 {
        if number >= 60 && seen.has_everything() {
            break;
        }
        let given = world::given(&mut random, world::PROGRAMS[0]);
        let mut host = given.tables(unit());
        set_flows(&host, &world::crowded(&mut random));
        for number in 0..CHUNK {
            if number == CHUNK / 2 {
                set_flows(&host, &world::aged(&words_of(&host.flows), &mut random));
                let down = 1 + random.below(8);
                host.targets[down].serves = 0;
            }
            let is_whole = random.one_in(2);
            let bytes = if is_whole { frames::whole(&mut random) } else { frames::frame(&mut random) };
            let is_sound = is_whole && sums::wrong(&bytes).is_empty();
            let mut frame = HostFrame::new(&bytes, INGRESS);
            let exit = host.run(&mut frame);
            demand_promises(&bytes, is_sound, exit, frame.bytes());
            seen.verdicts[exit.verdict as usize] += 1;
            seen.frames += 1;
        }
        seen.events.extend(Counted::by_host(&host).events.into_keys());
    }
    seen.demand_everything();
}

/// Target of the packet that was forwarded last.
fn target_of(tables: &HostTables, before: &[u64]) -> Option<u32> {
    let after = tables.target_counters.borrow();
    (0..).zip(after.iter().zip(before)).find(|(_, (now, then))| now.packets > **then).map(|(id, _)| id)
}

#[test]
fn a_flow_always_gets_the_same_live_target() {
    let mut random = Random(seed());
    let mut flows = 0;
    while flows < 2000 {
        let tables = world::given(&mut random, world::PROGRAMS[0]).tables(unit());
        for _ in 0..50 {
            let bytes = frames::packet(&mut random).build();
            let mut targets = BTreeSet::new();
            for _ in 0..4 {
                let before: Vec<u64> = tables.target_counters.borrow().iter().map(|target| target.packets).collect();
                tables.run(&mut HostFrame::new(&bytes, INGRESS));
                targets.extend(target_of(&tables, &before));
            }
            assert!(targets.len() <= 1, "{targets:?} took the same packet");
            flows += targets.len();
        }
    }
}
