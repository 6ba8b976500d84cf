//! What the daemon and `lb explain` compute on the host, without a kernel. `./dev bench host` runs this and keeps the figures as those of
//! all benchmarks (`src/bin/host.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    path::Path,
    time::Duration,
};

use bench::{control::Site, rings::Weights};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lb_common::{
    layout::flow::{FlowEntry, FlowState, WAYS},
    verdict::Verdict,
};
use lb_daemon::{
    config,
    dataplane::{
        Dataplane,
        flows::{Liveness, PARTS},
        memory::Memory,
    },
    health::HealthView,
    maglev, nexthop,
    plan::{RingCache, State, diff, lists::Lists, wanted},
};
use lb_xdp::host::{HostFrame, HostTables};
use netns_tests::packet::{frame::Frame, given::Given};

/// As in `./dev bench control`.
const SITE: Site = Site { vips: 1000, backends: 100 };
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MTU: u32 = 1500;
/// Buckets of a flow table of 1 Mi entries, the default.
const BUCKETS: usize = (1 << 20) / WAYS;
/// The clock, in units.
const NOW: u32 = 1000;
const UDP_IDLE: u32 = 14;

/// Rings of the default size.
fn rings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    for backends in [10, 100, 1000] {
        let pool = Weights::Equal.backends(backends);
        group.bench_function(format!("65537 slots, {backends} backends"), |bencher| {
            bencher.iter(|| maglev::ring(black_box(&pool), 65_537));
        });
    }
}

/// A configuration of 1,000 VIPs, and what it is for the tables.
fn plans(criterion: &mut Criterion) {
    let (text, changed) = (text(SITE, None), text(SITE, Some((1, 7))));
    let mut group = criterion.benchmark_group("1000 VIPs of 100 backends");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.bench_function("parse", |bencher| bencher.iter(|| config::parse(black_box(&text), "lb.toml")));
    group.bench_function("want", |bencher| {
        let config = config::parse(&text, "lb.toml").expect("a valid file");
        bencher.iter(|| want(black_box(&config)));
    });
    let (before, after) = (want_text(&text), want_text(&changed));
    let mut rings = RingCache::default();
    let state = applied(&before, &mut rings);
    assert_eq!(diff::plan(&state, &before, &mut rings), Ok(vec![]), "what is applied is there");
    group.bench_function("plan, nothing to do", |bencher| {
        bencher.iter(|| diff::plan(black_box(&state), &before, &mut rings));
    });
    group.bench_function("plan, one weight", |bencher| {
        bencher.iter_batched(
            || rings.clone(),
            |mut rings| diff::plan(black_box(&state), &after, &mut rings),
            BatchSize::LargeInput,
        );
    });
}

/// The file of a site, with one backend's weight.
fn text(site: Site, changed: Option<(usize, u32)>) -> String {
    site.text(Path::new("/tmp"), changed)
}

fn want_text(text: &str) -> wanted::Wanted {
    want(&config::parse(text, "lb.toml").expect("a valid file"))
}

fn want(config: &lb_daemon::model::Config) -> wanted::Wanted {
    let addresses = config.pools.values().flat_map(|pool| &pool.backends).map(|backend| backend.address);
    let hops = nexthop::gateway(&addresses.collect::<BTreeSet<_>>(), MAC, MTU);
    wanted::wanted(config, &Lists::of(config), &HealthView::new(), &hops, &BTreeMap::new())
}

/// What tables hold to which it was applied.
fn applied(wanted: &wanted::Wanted, rings: &mut RingCache) -> State {
    let mut tables = Memory::new(diff::needs(wanted), 1);
    let empty = tables.observe().expect("tables in memory can be read");
    for op in diff::plan(&empty, wanted, rings).expect("there is room") {
        tables.apply(&op).expect("tables in memory can be written");
    }
    tables.observe().expect("tables in memory can be read")
}

/// The packet's way, over tables in memory.
fn packets(criterion: &mut Criterion) {
    let backends = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    let given =
        Given::nothing().vip("192.0.2.80:80", PROTOCOL_TCP, &backends).vip("192.0.2.80:80", PROTOCOL_UDP, &backends);
    let tables = given.tables(NOW);
    let mut group = criterion.benchmark_group("packet");
    group.throughput(Throughput::Elements(1));
    for (name, frame) in [
        ("UDP, known", Frame::udp("198.51.100.7:4000", "192.0.2.80:80")),
        ("TCP, known", Frame::tcp("198.51.100.7:4000", "192.0.2.80:80", 0x10)),
        ("to no VIP", Frame::udp("198.51.100.7:4000", "192.0.2.81:80")),
    ] {
        let bytes = Vec::from(frame);
        // The first one is remembered.
        assert_eq!(run(&tables, &bytes) == Verdict::Forwarded, name != "to no VIP", "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| run(&tables, black_box(&bytes))));
    }
}

fn run(tables: &HostTables, bytes: &[u8]) -> Verdict {
    tables.run(&mut HostFrame::new(bytes, 1)).verdict
}

/// A full flow table of the default size, half of it flows that ended.
fn sweeps(criterion: &mut Criterion) {
    let mut tables = Memory::new(diff::needs(&want_text(&text(Site { vips: 8, backends: 10 }, None))), BUCKETS);
    for number in 0..BUCKETS * WAYS {
        let number = u32::try_from(number).expect("a small table");
        let (time, target) = (if number.is_multiple_of(2) { NOW } else { 1 }, 1 + number % 80);
        assert!(tables.remember(number as usize / WAYS, FlowEntry::new(number, target, time, FlowState::Datagram)));
    }
    let rule = Liveness { now: NOW, udp_idle: UDP_IDLE };
    let forget = |tables: &mut Memory| (0..PARTS).map(|part| tables.forget_ended(rule, part)).sum::<u64>();
    assert_eq!(forget(&mut tables.clone()), (BUCKETS * WAYS / 2) as u64);
    let mut group = criterion.benchmark_group("sweep of 1048576 flows");
    group.sample_size(10).throughput(Throughput::Elements((BUCKETS * WAYS) as u64));
    group.bench_function("count", |bencher| bencher.iter(|| tables.flows(black_box(rule))));
    group.bench_function("forget what ended", |bencher| {
        bencher.iter_batched(|| tables.clone(), |mut tables| forget(&mut tables), BatchSize::LargeInput);
    });
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
}

criterion_group!(name = host; config = quick(); targets = rings, plans, packets, sweeps);
criterion_main!(host);
