//! Counters over many packets: what is counted where, on whichever CPU.

use std::collections::BTreeMap;

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::FlowState,
        vip::{TCP, UDP},
    },
    verdict::Verdict,
};
use lb_xdp::host::{HostFrame, HostTables};
use netns_tests::{
    packet::{
        Frame, Given,
        check::Counted,
        frame::flags::{ACK, FIN, PSH, RST, SYN},
        kernel::{Loaded, settled_unit},
    },
    scenario::is_root,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const CLIENT: &str = "198.51.100.7:51000";
const WEB: &str = "192.0.2.10:443";
const DNS: &str = "192.0.2.10:53";

/// Two VIPs with one backend each: targets 1 (web) and 2 (dns).
fn site() -> Given {
    Given::nothing().vip(WEB, TCP, &["10.0.0.11"]).vip(DNS, UDP, &["fd00::11"])
}

/// Counts frames on the host.
fn by_host(given: &Given, frames: &[Vec<u8>]) -> Counted {
    let tables = given.tables(1000);
    send(&tables, frames);
    Counted::by_host(&tables)
}

fn send(tables: &HostTables, frames: &[Vec<u8>]) {
    for frame in frames {
        tables.run(&mut HostFrame::new(frame, 1));
    }
}

/// Counts frames in the kernel, each frame on the next CPU; `None` without root.
fn by_kernel(given: &Given, frames: &[Vec<u8>]) -> Option<Counted> {
    if !is_root() {
        return None;
    }
    let mut loaded = Loaded::new(given.tuning()).expect("the program");
    let now = settled_unit(std::time::Duration::from_secs(1));
    loaded.fill(&given.tables(now)).expect("tables");
    let before = loaded.counters().expect("counters");
    let allowed = sched_getaffinity(None).expect("the CPUs that this thread may use");
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    for (frame, cpu) in frames.iter().zip(cpus.iter().cycle()) {
        let mut one = CpuSet::new();
        one.set(*cpu);
        sched_setaffinity(None, &one).expect("one CPU");
        loaded.run(frame, 256).expect("a test run");
    }
    sched_setaffinity(None, &allowed).expect("all CPUs again");
    Some(Counted::between(&before, &loaded.counters().expect("counters")))
}

/// Both sides must count this.
#[track_caller]
fn demand(given: &Given, frames: &[Vec<u8>], expected: &Counted) {
    assert_eq!(by_host(given, frames), *expected, "host");
    if let Some(counted) = by_kernel(given, frames) {
        assert_eq!(counted, *expected, "kernel");
    }
}

#[test]
fn the_life_of_connections_is_counted_at_their_target() {
    let mut frames = Vec::new();
    for port in 20_000..20_010 {
        let flow = Frame::tcp(CLIENT, WEB, SYN).port(port);
        // A lost SYN-ACK, a handshake, some data, an end; every second one is broken off instead.
        let end = if port % 2 == 0 { FIN | ACK } else { RST };
        let life = [SYN, SYN, ACK, PSH | ACK, PSH | ACK, end, ACK];
        frames.extend(life.map(|flags| flow.flags(flags)));
    }
    let bytes: usize = frames.iter().map(|frame| frame.packet().len()).sum();
    let frames: Vec<Vec<u8>> = frames.iter().map(Frame::build).collect();
    let target = TargetCounters {
        packets: 70,
        bytes: bytes as u64,
        flows_created: 10,
        flows_moved: 0,
        syns: 10,
        syn_retransmits: 10,
        handshakes: 10,
        fins: 5,
        rsts: 5,
    };
    let expected = Counted {
        targets: BTreeMap::from([(1, target)]),
        verdicts: BTreeMap::new(),
        events: BTreeMap::from([(PathEvent::MissSyn, 10)]),
    };
    demand(&site(), &frames, &expected);
}

#[test]
fn datagrams_are_counted_at_their_target() {
    let frames: Vec<Frame> = (0..30).map(|n| Frame::udp(CLIENT, DNS).port(20_000 + n % 10).payload(&[0; 17])).collect();
    let bytes: usize = frames.iter().map(|frame| frame.packet().len()).sum();
    assert_eq!(bytes, 30 * (20 + 8 + 17));
    let target = TargetCounters { packets: 30, bytes: bytes as u64, flows_created: 10, ..TargetCounters::default() };
    let expected = Counted {
        targets: BTreeMap::from([(2, target)]),
        verdicts: BTreeMap::new(),
        events: BTreeMap::from([(PathEvent::MissUdp, 10)]),
    };
    demand(&site(), &frames.iter().map(Frame::build).collect::<Vec<_>>(), &expected);
}

#[test]
fn a_flow_is_known_on_whichever_cpu_its_packets_come() {
    let given = Given::nothing().vip(WEB, TCP, &["10.0.0.11", "10.0.0.12"]).ring(1, Some(2));
    let flow = Frame::tcp(CLIENT, WEB, ACK);
    // Remembered at target 1, though the ring says 2: a table for each CPU would miss it on all but one.
    let given = given.flow(&flow, 1, 0, FlowState::Established);
    let frames = vec![flow.build(); 32];
    let bytes = 32 * flow.packet().len() as u64;
    let target = TargetCounters { packets: 32, bytes, ..TargetCounters::default() };
    let expected = Counted { targets: BTreeMap::from([(1, target)]), ..Counted::default() };
    demand(&given, &frames, &expected);
}

#[test]
fn packets_and_bytes_of_each_other_verdict_are_counted_under_it() {
    let mut truncated = Frame::tcp(CLIENT, WEB, ACK).build();
    truncated.truncate(50);
    let mut bad = Frame::tcp(CLIENT, WEB, ACK).build();
    bad[14] = 0x42;
    let kinds: Vec<(Verdict, Vec<u8>)> = vec![
        (Verdict::EchoReplied, Frame::echo("198.51.100.7", "192.0.2.10", 1).build()),
        (Verdict::NotIp, [&[0; 12][..], &[8, 6], &[0; 28]].concat()),
        (Verdict::NotBalanced, Frame::raw("198.51.100.7", "192.0.2.10", 47, b"tunnelled").build()),
        (Verdict::NotVip, Frame::tcp(CLIENT, "192.0.2.1:22", SYN).padded(9).build()),
        (Verdict::Fragment, Frame::udp(CLIENT, "192.0.2.1:53").fragment(9, true).build()),
        (Verdict::Icmp, Frame::echo("198.51.100.7", "192.0.2.1", 1).build()),
        (Verdict::Unreadable, Frame::tcp(CLIENT, WEB, SYN).build()[..20].to_vec()),
        (Verdict::Truncated, truncated),
        (Verdict::BadHeader, bad),
    ];
    let mut frames = Vec::new();
    let mut expected = Counted::default();
    for (times, (verdict, frame)) in (1_u64..).zip(kinds) {
        frames.extend((0..times).map(|_| frame.clone()));
        let bytes = times * frame.len() as u64;
        expected.verdicts.insert(verdict, VerdictCounters { packets: times, bytes });
    }
    demand(&site(), &frames, &expected);
}

#[test]
fn what_finds_no_backend_is_counted_as_dropped_and_at_no_target() {
    let given = Given::nothing().vip(WEB, TCP, &[]);
    let frames: Vec<Vec<u8>> = (0..7).map(|n| Frame::tcp(CLIENT, WEB, SYN).port(20_000 + n).build()).collect();
    let counters = VerdictCounters { packets: 7, bytes: frames.iter().map(|frame| frame.len() as u64).sum() };
    let expected = Counted {
        targets: BTreeMap::new(),
        verdicts: BTreeMap::from([(Verdict::NoBackend, counters)]),
        events: BTreeMap::from([(PathEvent::MissSyn, 7)]),
    };
    demand(&given, &frames, &expected);
}
