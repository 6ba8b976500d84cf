//! Random frames and random tables: the program in the kernel and the same code on the host must do the same, and
//! remember and count the same.
#![expect(clippy::cast_possible_truncation, reason = "of random numbers as many bits are used as are needed")]

use std::{
    collections::BTreeSet,
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lb_common::{
    layout::{
        counter::PathEvent,
        flow::{FlowEntry, FlowState, TIME_MASK, WAYS},
        vip::{TCP, UDP},
    },
    verdict::Verdict,
};
use lb_xdp::host::{HostFrame, HostTables};
use netns_tests::{
    packet::{
        Frame, Given,
        case::INGRESS,
        check::{Counted, action, action_of},
        frame::flags::{ACK, FIN, PSH, RST, SYN},
        given::BUCKETS,
        kernel::{Loaded, settled_unit, unit, words_of},
        report,
    },
    scenario::is_root,
};

/// Frames that are compared.
const FRAMES: usize = 20_000;
/// Frames between two comparisons of the tables; they fall into one unit of the clock.
const CHUNK: usize = 500;
/// Chooses the frames; the clock does if it is not set.
const SEED: &str = "LB_TEST_SEED";

/// `SplitMix64` (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

const SERVICES: [&str; 8] = [
    "192.0.2.10:443",
    "192.0.2.10:53",
    "192.0.2.11:8080",
    "192.0.2.99:443",
    "[2001:db8::10]:443",
    "[2001:db8::10]:53",
    "[2001:db8::99]:443",
    "192.0.2.10:8443",
];

/// VIPs of all kinds, with backends of both families; some targets down, draining or misplaced.
fn given(random: &mut Random) -> Given {
    let backends = ["10.0.0.11", "10.0.0.12", "fd00::11", "fd00::12"];
    let mut given = Given::nothing()
        .vip(SERVICES[0], TCP, &backends)
        .vip(SERVICES[1], UDP, &backends)
        .vip("192.0.2.11:0", TCP, &backends[..2])
        .vip(SERVICES[4], TCP, &backends)
        .vip(SERVICES[5], UDP, &backends[1..])
        .vip(SERVICES[7], TCP, &[]);
    for id in 1..=17 {
        let (kind, bits) = (random.below(12), random.next());
        given = given.target(id, |target| match kind {
            0 => target.serves = 0,
            1 => target.flags = lb_common::layout::target::Target::DRAINING,
            2 => target.ifindex = 4000,
            3 => target.next_hop = [bits as u8; 6],
            _ => {}
        });
    }
    // Our own fault, in one place, so that most frames come through.
    let misplaced = u32::try_from(1 + random.below(17)).expect("a target");
    let another_vip = random.one_in(2);
    given.target(misplaced, |target| if another_vip { target.vip = 99 } else { target.encap = 7 })
}

/// A frame of one of a few flows, so that they are met again, damaged now and then.
fn frame(random: &mut Random) -> Vec<u8> {
    let to = random.of(&SERVICES);
    let v6 = to.starts_with('[');
    let port = 1024 + u16::try_from(random.below(400)).expect("below 400");
    let flags = random.of(&[SYN, SYN, ACK, ACK, PSH | ACK, FIN | ACK, RST, SYN | ACK, SYN | FIN, 0]);
    let host = to.rsplit_once(':').map_or(to, |(host, _)| host.trim_matches(['[', ']']));
    let (client, from) = if v6 { ("2001:db8:c::7", "[2001:db8:c::7]:0") } else { ("198.51.100.7", "198.51.100.7:0") };
    let datagrams = to.ends_with(":53") != random.one_in(12);
    let mut frame = match random.below(16) {
        0 => Frame::echo(client, host, port),
        1 => Frame::raw(client, host, random.next() as u8, b"of any protocol"),
        _ if datagrams => Frame::udp(from, to).port(port),
        _ => Frame::tcp(from, to, flags).port(port),
    };
    frame = frame.payload(&vec![0x5a; random.of(&[0, 1, 12, 12, 100, 1400])]).class(random.next() as u8);
    if random.one_in(8) && !v6 {
        frame = frame.options(&vec![1; 4 * random.below(11)]);
    }
    if random.one_in(20) {
        frame = frame.fragment(random.of(&[0, 1, 185]), random.one_in(2));
    }
    damage(frame.padded(random.of(&[0, 0, 0, 6, 46])).build(), random)
}

/// Some bytes of the headers changed, or the end cut off.
fn damage(mut frame: Vec<u8>, random: &mut Random) -> Vec<u8> {
    if random.one_in(4) {
        for _ in 0..=random.below(3) {
            let at = 12 + random.below(70);
            let byte = random.next() as u8;
            if let Some(place) = frame.get_mut(at) {
                *place = if random.one_in(2) { byte } else { *place ^ (1 << (byte & 7)) };
            }
        }
    }
    if random.one_in(16) {
        frame.truncate(14 + random.below(frame.len() - 13));
    }
    frame
}

/// A flow table full of others' flows, many of them in use.
fn crowded(random: &mut Random) -> Vec<[u64; WAYS]> {
    let states = [FlowState::Established, FlowState::Established, FlowState::Datagram, FlowState::Datagram];
    let word = |random: &mut Random| {
        let state = if random.one_in(4) { random.of(&FlowState::ALL[1..]) } else { random.of(&states) };
        let target = u32::try_from(1 + random.below(17)).expect("a target");
        FlowEntry::new(1 + random.next() as u32 / 32, target, unit(), state).0
    };
    (0..BUCKETS).map(|_| std::array::from_fn(|_| if random.one_in(16) { 0 } else { word(random) })).collect()
}

/// The flow table as it would be some time later: all entries older by up to what matters, some gone.
fn aged(flows: &[[u64; WAYS]], random: &mut Random) -> Vec<[u64; WAYS]> {
    let age = |word: u64, random: &mut Random| {
        let entry = FlowEntry(word);
        let units = u32::try_from(random.of(&[0, 0, 1, 6, 7, 8, 63, 64, 4000])).expect("small");
        match FlowState::try_from(entry.state()) {
            _ if entry.is_empty() || random.one_in(16) => 0,
            Ok(state) => entry.touched(entry.time().wrapping_sub(units) & TIME_MASK, state as u32).0,
            Err(state) => panic!("state {state}"),
        }
    };
    flows.iter().map(|bucket| bucket.map(|word| age(word, random))).collect()
}

fn set_flows(tables: &HostTables, flows: &[[u64; WAYS]]) {
    for (bucket, words) in tables.flows.iter().zip(flows) {
        for (place, word) in bucket.entries.iter().zip(words) {
            place.store(*word, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

fn seed() -> u64 {
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let seed = env::var(SEED).map_or_else(|_| by_clock(), |text| text.parse().expect("a number"));
    println!("seed {seed}: run again with {SEED}={seed}");
    seed
}

#[test]
fn kernel_and_host_do_the_same_with_any_frame() {
    if !is_root() {
        return;
    }
    let mut random = Random(seed());
    let mut loaded = Loaded::new(given(&mut random).tuning()).expect("the program");
    let mut compared = 0;
    let mut verdicts = [0_u32; Verdict::ALL.len()];
    let mut events = BTreeSet::new();
    while compared < FRAMES {
        // Other tables now and then.
        let given = given(&mut random);
        let mut flows = crowded(&mut random);
        for _ in 0..8 {
            let frames: Vec<Vec<u8>> = (0..CHUNK).map(|_| frame(&mut random)).collect();
            let now = settled_unit(Duration::from_secs(1));
            let host = given.tables(now);
            set_flows(&host, &flows);
            loaded.fill(&host).expect("tables");
            let before = loaded.counters().expect("counters");
            for (number, bytes) in frames.iter().enumerate() {
                let ran = loaded.run(bytes, 256).expect("a test run");
                if unit() != now {
                    break;
                }
                let mut frame = HostFrame::new(bytes, INGRESS);
                let exit = host.run(&mut frame);
                verdicts[exit.verdict as usize] += 1;
                if (action_of(ran.action), ran.frame.as_slice()) != (action(exit), frame.bytes()) {
                    let fault = format!("kernel: {}, host: {exit:?}", action_of(ran.action).name());
                    let name = format!("frame {} of a random run", compared + number);
                    report::print(&name, &[fault], bytes, frame.bytes(), &[("kernel", &ran.frame)]);
                    panic!("kernel and host differ; expected is the host's");
                }
            }
            if unit() != now {
                // The unit ended meanwhile, on a machine that is very busy: this chunk says nothing about the tables.
                continue;
            }
            let counted = Counted::by_host(&host);
            assert_eq!(Counted::between(&before, &loaded.counters().expect("counters")), counted);
            events.extend(counted.events.into_keys());
            let after = loaded.flows();
            assert_eq!(after, words_of(&host.flows), "the flow tables");
            flows = aged(&after, &mut random);
            compared += CHUNK;
        }
    }
    let seen: Vec<String> = Verdict::ALL.iter().zip(verdicts).map(|(v, n)| format!("{} {n}", v.label())).collect();
    println!("{compared} frames: {}", seen.join(", "));
    // Else the comparison would say little. Only a lack of room has no frame here.
    let missing: Vec<_> = Verdict::ALL.iter().zip(verdicts).filter(|(_, count)| *count == 0).map(|(v, _)| *v).collect();
    assert_eq!((missing, events.len()), (vec![Verdict::NoHeadroom], PathEvent::ALL.len()), "{events:?}");
}
