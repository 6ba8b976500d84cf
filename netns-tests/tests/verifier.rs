//! The object that is shipped: what the verifier makes of it, and that both sides agree on the tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use aya::{
    EbpfLoader,
    programs::{Program, Xdp},
};
use lb_common::{
    layout::{
        counter::{TargetCounters, VerdictCounters},
        flow::{Bucket, Word},
        limit::SourceLine,
        prefix::{Group, SourceKey},
        ring::RingBlock,
        server::ServerKey,
        target::Target,
        traffic::Traffic,
        vip::{PrefixKey, Vip},
        vips::Record,
    },
    maps::{self, DecapTuning, ProbeTuning, Tuning, feature},
};
use lb_daemon::dataplane::kernel;
use netns_tests::{bpf::Instructions, scenario::is_root};
use object::{Object as _, ObjectSymbol as _};
use serde::Deserialize;

use self::verifier::calls;

mod verifier {
    pub(super) mod calls;
}

/// Limit of the project, for every set of features; the kernel's own is a million.
const MAX_VERIFIED: u32 = 500_000;
/// Share by which a figure may grow without the record being changed.
const TOLERANCE_PERCENT: u32 = 5;
/// Bytes of stack that the verifier grants to all functions that are under way together.
const STACK: u32 = 512;
/// Names in `verifier.toml`, programs and their features: the least and the most that the daemon loads.
const FORMS: [(&str, &str, u32); 7] = [
    ("lb", maps::PROGRAM, 0),
    ("lb_all", maps::PROGRAM, feature::ALL & !feature::MULTI_BUFFER),
    ("lb_frags", maps::PROGRAM_FRAGS, feature::MULTI_BUFFER),
    ("lb_frags_all", maps::PROGRAM_FRAGS, feature::ALL),
    ("lb_decap", maps::DECAP_PROGRAM, 0),
    ("lb_probe", maps::PROBE_PROGRAM, feature::GUE | feature::UNWRAPPED),
    ("lb_ticks", maps::TICKS_PROGRAM, 0),
];

/// What the object holds.
const PROGRAMS: [&str; 5] =
    [maps::PROGRAM, maps::PROGRAM_FRAGS, maps::DECAP_PROGRAM, maps::PROBE_PROGRAM, maps::TICKS_PROGRAM];

#[test]
fn the_object_holds_no_panic() {
    let file = object::File::parse(kernel::object()).expect("an ELF object");
    let names: Vec<&str> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(PROGRAMS.iter().all(|program| names.contains(program)), "{names:?}");
    for forbidden in ["panicking", "panic_fmt"] {
        let found: Vec<_> = names.iter().filter(|name| name.contains(forbidden)).collect();
        assert!(found.is_empty(), "{found:?}: a panic has no exit, and the verifier would refuse it");
    }
}

#[test]
fn the_programs_reach_no_function_that_moves_bytes_one_by_one() {
    let file = object::File::parse(kernel::object()).expect("an ELF object");
    for program in PROGRAMS {
        let reached = calls::reached(&file, program);
        for forbidden in ["memcpy", "memmove", "memcmp", "bcmp"] {
            let found: Vec<_> = reached.iter().filter(|name| name.contains(forbidden)).collect();
            assert!(found.is_empty(), "{program} calls {found:?}: written by words, it would be inlined");
        }
        // The plain way fills nothing with zeros. The whole way does, for its steps to write what they find: that costs it
        // some 50 bytes a packet, and of memory filled by a loop the verifier knows little, so that it goes through the
        // steps once. Written by words they took more than a million instructions.
        let own = calls::called_by(&file, program);
        assert!(!own.iter().any(|name| name.contains("memset")), "{program} calls {own:?}");
        let parts = ["lb_walk_whole", "lb_send_whole", "lb_sum"];
        let balances = [maps::PROGRAM, maps::PROGRAM_FRAGS].contains(&program);
        assert!(parts.iter().all(|part| reached.contains(*part) == balances), "{program}: {reached:?}");
    }
}

#[test]
fn tables_have_the_names_and_sizes_of_the_layout() {
    let object = aya_obj::Object::parse(kernel::object()).expect("a BPF object");
    let found: BTreeMap<&str, (u32, u32)> =
        object.maps.iter().map(|(name, map)| (name.as_str(), (map.key_size(), map.value_size()))).collect();
    let sizes = |key: usize, value: usize| (u32::try_from(key).expect("small"), u32::try_from(value).expect("small"));
    let mut expected = BTreeMap::from([
        (maps::VIPS, sizes(4, size_of::<Record>())),
        (maps::FLOWS, sizes(4, size_of::<Bucket>())),
        (maps::RINGS, sizes(4, size_of::<RingBlock>())),
        (maps::TARGETS, sizes(4, size_of::<Target>())),
        (maps::TARGET_COUNTERS, sizes(4, size_of::<TargetCounters>())),
        (maps::TRAFFIC, sizes(4, size_of::<Traffic>())),
        (maps::VERDICT_COUNTERS, sizes(4, size_of::<VerdictCounters>())),
        (maps::PATH_COUNTERS, sizes(4, 8)),
        (maps::PREFIX_VIPS, sizes(size_of::<PrefixKey>(), size_of::<Vip>())),
        (maps::FRAGMENTS, sizes(4, size_of::<Bucket>())),
        (maps::ACL, sizes(size_of::<SourceKey>(), 4)),
        (maps::SOURCE_ROUTES, sizes(size_of::<SourceKey>(), 4)),
        (maps::GROUPS, sizes(4, size_of::<Group>())),
        (maps::SERVER_IDS, sizes(size_of::<ServerKey>(), 4)),
        (maps::VIP_LIMITS, sizes(4, size_of::<Word>())),
        (maps::SOURCES, sizes(4, size_of::<SourceLine>())),
        (maps::TOO_BIG_LIMITS, sizes(4, size_of::<Word>())),
        (maps::BONDS, sizes(4, 4)),
        (maps::TUNNEL_ADDRESSES, sizes(16, 4)),
        (maps::TUNNEL_SOURCES, sizes(size_of::<SourceKey>(), 4)),
        (maps::HEARTBEAT, sizes(4, size_of::<Word>())),
    ]);
    assert!(maps::ALL.iter().all(|name| expected.contains_key(name)) && expected.len() == maps::ALL.len());
    expected.extend([
        (maps::DECAP_ADDRESSES, sizes(16, 4)),
        (maps::DECAP_SOURCES, sizes(size_of::<SourceKey>(), 4)),
        (maps::DECAP_COUNTERS, sizes(4, 8)),
    ]);
    // Global data is a table of its own.
    let (data, tables): (BTreeMap<_, _>, BTreeMap<_, _>) =
        found.into_iter().partition(|(name, _)| name.starts_with('.'));
    assert_eq!(tables, expected);
    // Besides the parameters it holds what LLVM makes of `match`.
    let [(".rodata", (4, bytes))] = data.into_iter().collect::<Vec<_>>()[..] else { panic!("one table of constants") };
    assert!(bytes as usize >= size_of::<Tuning>(), "{bytes}");
    let programs: BTreeSet<&str> = object.programs.keys().map(String::as_str).collect();
    assert_eq!(programs, BTreeSet::from(PROGRAMS));
}

#[test]
fn parameters_lie_where_the_daemon_writes_them() {
    let file = object::File::parse(kernel::object()).expect("an ELF object");
    let tuning = file.symbols().find(|symbol| symbol.name() == Ok(maps::TUNING)).expect("the parameters");
    assert_eq!((tuning.size(), tuning.address() % 8), (size_of::<Tuning>() as u64, 0));
    let probes = file.symbols().find(|symbol| symbol.name() == Ok(maps::PROBE_TUNING)).expect("the probes' parameters");
    assert_eq!((probes.size(), probes.address() % 4), (size_of::<ProbeTuning>() as u64, 0));
}

/// What a program costs, as `verifier.toml` records it by kernel and form.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Cost {
    /// Instructions that the verifier went through, on all paths.
    verified: u32,
    /// Instructions of the program as the kernel holds it.
    instructions: u32,
    /// Bytes of stack, of the deepest chain of calls.
    stack: u32,
}

#[test]
fn the_verifier_takes_the_programs_at_their_recorded_cost() {
    if !is_root() {
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier.toml");
    let text = fs::read_to_string(&file).expect("the record");
    let recorded: BTreeMap<String, BTreeMap<String, Cost>> = toml::from_str(&text).expect("a record of costs");
    let measured: BTreeMap<String, Cost> =
        FORMS.iter().map(|(form, program, features)| ((*form).to_owned(), cost(program, *features))).collect();
    let kernel = kernel_version();
    let record = record(&kernel, &measured);
    println!("{record}");
    for (name, cost) in &measured {
        assert!(cost.verified < MAX_VERIFIED, "{name}: {cost:?}");
        assert!(cost.stack <= STACK, "{name}: {cost:?}");
    }
    // Each kernel rewrites programs and walks them in its own way.
    let Some(recorded) = recorded.get(&kernel) else {
        println!("no record for kernel {kernel}");
        return;
    };
    assert!(
        measured.keys().eq(recorded.keys()) && measured.iter().all(|(name, cost)| is_near(cost, &recorded[name])),
        "a program's cost changed by more than {TOLERANCE_PERCENT} %. If that is meant, put these figures into \
         netns-tests/verifier.toml, and say why in the commit:\n\n{record}"
    );
}

/// Major and minor number of the running kernel.
fn kernel_version() -> String {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    release.splitn(3, ['.', '-']).take(2).collect::<Vec<_>>().join(".")
}

/// Figures as `verifier.toml` holds them.
fn record(kernel: &str, measured: &BTreeMap<String, Cost>) -> String {
    let one = |(name, Cost { verified, instructions, stack }): (&String, &Cost)| {
        format!("[\"{kernel}\".{name}]\nverified = {verified}\ninstructions = {instructions}\nstack = {stack}\n")
    };
    measured.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Whether no figure is far above the recorded one, nor so far below that the record is worthless.
fn is_near(measured: &Cost, recorded: &Cost) -> bool {
    let near = |measured: u32, recorded: u32| {
        let slack = recorded * TOLERANCE_PERCENT / 100;
        (recorded - slack..=recorded + slack).contains(&measured)
    };
    near(measured.verified, recorded.verified)
        && near(measured.instructions, recorded.instructions)
        && measured.stack <= recorded.stack
}

/// Each feature may be asked for alone.
#[test]
fn a_feature_that_is_off_is_removed_from_the_program() {
    if !is_root() {
        return;
    }
    let without = cost(maps::PROGRAM_FRAGS, feature::MULTI_BUFFER);
    let all = cost(maps::PROGRAM_FRAGS, feature::ALL);
    for bit in (0..feature::ALL.count_ones()).map(|bit| 1 << bit).filter(|bit| *bit != feature::MULTI_BUFFER) {
        let with = cost(maps::PROGRAM_FRAGS, feature::MULTI_BUFFER | bit);
        println!("feature {bit:#x}: {with:?}");
        assert!(with.verified < MAX_VERIFIED && with.stack <= STACK, "feature {bit:#x}: {with:?}");
        let (without, with, all) = (without.instructions, with.instructions, all.instructions);
        assert!(without < with && with < all, "feature {bit:#x}: {without} without, {with} with it, {all} with all");
    }
}

/// What a program costs in the form with these features.
fn cost(name: &str, features: u32) -> Cost {
    let tuning =
        Tuning { features, bucket_mask: 0xffff, source_line_mask: 0xffff, vip_mask: 0xffff, ..Tuning::default() };
    let tuning = Tuning { tick_ns: 4_000_000, ..tuning };
    let decap = DecapTuning { gue_port: tuning.gue_port, only_sources: 1 };
    let mut loader = EbpfLoader::new();
    loader.override_global(maps::TUNING, &tuning, true).override_global(maps::DECAP_TUNING, &decap, true);
    let mut object = loader.load(kernel::object()).expect("the object");
    let program = object.program_mut(name).expect("the program");
    let outcome = if let Program::SchedClassifier(program) = &mut *program {
        program.load()
    } else {
        <&mut Xdp>::try_from(&mut *program).expect("an XDP program").load()
    };
    outcome.expect("a program that the verifier takes");
    let info = program.info().expect("what the kernel knows of it");
    let verified = info.verified_instruction_count().expect("a kernel that tells: 5.16 or newer");
    let instructions = Instructions::read(program.fd().expect("a loaded program")).expect("the program's instructions");
    Cost { verified, instructions: instructions.len(), stack: instructions.stack() }
}
