//! The object that is shipped: what the verifier makes of it, and that both sides agree on the tables.

use std::{collections::BTreeMap, fs, path::Path};

use aya::{EbpfLoader, programs::Xdp};
use lb_common::{
    layout::{
        counter::{TargetCounters, VerdictCounters},
        flow::Bucket,
        ring::RingBlock,
        target::Target,
        vip::{Vip, VipKey},
    },
    maps::{self, DecapTuning, Tuning},
};
use lb_daemon::dataplane::kernel;
use netns_tests::{bpf::Instructions, scenario::is_root};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};
use serde::Deserialize;

/// Limit of the project; the kernel's own is a million.
const MAX_VERIFIED: u32 = 200_000;
/// Share by which a figure may grow without the record being changed.
const TOLERANCE_PERCENT: u32 = 5;
/// Bytes of stack that the verifier grants.
const STACK: u32 = 512;

#[test]
fn the_object_holds_no_panic() {
    let file = object::File::parse(kernel::object()).expect("an ELF object");
    let names: Vec<&str> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(names.contains(&maps::PROGRAM) && names.contains(&maps::DECAP_PROGRAM), "{names:?}");
    for forbidden in ["panicking", "panic_fmt"] {
        let found: Vec<_> = names.iter().filter(|name| name.contains(forbidden)).collect();
        assert!(found.is_empty(), "{found:?}: a panic has no exit, and the verifier would refuse it");
    }
}

#[test]
fn the_programs_call_no_function_that_moves_bytes_one_by_one() {
    let file = object::File::parse(kernel::object()).expect("an ELF object");
    let section = file.section_by_name("xdp").expect("the programs' section");
    let mut tables = 0;
    for (offset, relocation) in section.relocations() {
        let RelocationTarget::Symbol(index) = relocation.target() else { continue };
        let symbol = file.symbol_by_index(index).expect("a symbol");
        // Calls go to functions (or, to static ones, to the section of code); all else is tables and parameters.
        let is_code = matches!(symbol.kind(), SymbolKind::Text) || symbol.name() == Ok(".text");
        assert!(!is_code, "{:?} is called at {offset:#x}: written by words, it would be inlined", symbol.name());
        tables += 1;
    }
    assert!(tables > 20, "{tables} relocations: the test looks at the wrong section");
}

#[test]
fn tables_have_the_names_and_sizes_of_the_layout() {
    let object = aya_obj::Object::parse(kernel::object()).expect("a BPF object");
    let found: BTreeMap<&str, (u32, u32)> =
        object.maps.iter().map(|(name, map)| (name.as_str(), (map.key_size(), map.value_size()))).collect();
    let sizes = |key: usize, value: usize| (u32::try_from(key).expect("small"), u32::try_from(value).expect("small"));
    let mut expected = BTreeMap::from([
        (maps::VIPS, sizes(size_of::<VipKey>(), size_of::<Vip>())),
        (maps::FLOWS, sizes(4, size_of::<Bucket>())),
        (maps::RINGS, sizes(4, size_of::<RingBlock>())),
        (maps::TARGETS, sizes(4, size_of::<Target>())),
        (maps::TARGET_COUNTERS, sizes(4, size_of::<TargetCounters>())),
        (maps::VERDICT_COUNTERS, sizes(4, size_of::<VerdictCounters>())),
        (maps::PATH_COUNTERS, sizes(4, 8)),
    ]);
    assert_eq!(expected.len(), maps::ALL.len());
    expected.extend([(maps::DECAP_ADDRESSES, (16, 4)), (maps::DECAP_COUNTERS, (4, 8))]);
    // Global data is a table of its own.
    let (data, tables): (BTreeMap<_, _>, BTreeMap<_, _>) =
        found.into_iter().partition(|(name, _)| name.starts_with('.'));
    assert_eq!(tables, expected);
    // Besides the parameters it holds what LLVM makes of `match`.
    let [(".rodata", (4, bytes))] = data.into_iter().collect::<Vec<_>>()[..] else { panic!("one table of constants") };
    assert!(bytes as usize >= size_of::<Tuning>(), "{bytes}");
    let programs: Vec<&str> = object.programs.keys().map(String::as_str).collect();
    assert_eq!(programs.len(), 2, "{programs:?}");
}

#[test]
fn parameters_lie_where_the_daemon_writes_them() {
    let file = object::File::parse(kernel::object()).expect("an ELF object");
    let tuning = file.symbols().find(|symbol| symbol.name() == Ok(maps::TUNING)).expect("the parameters");
    assert_eq!((tuning.size(), tuning.address() % 8), (size_of::<Tuning>() as u64, 0));
}

/// What a program costs, as `verifier.toml` records it by kernel and program.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Cost {
    /// Instructions that the verifier went through, on all paths.
    verified: u32,
    /// Instructions of the program as the kernel holds it.
    instructions: u32,
    /// Bytes of stack.
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
    let measured = BTreeMap::from([maps::PROGRAM, maps::DECAP_PROGRAM].map(|name| (name.to_owned(), cost(name))));
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

/// Loads a program by itself.
fn cost(name: &str) -> Cost {
    let tuning = Tuning { bucket_mask: 0xffff, ..Tuning::default() };
    let decap = DecapTuning { gue_port: tuning.gue_port, only_sources: 1 };
    let mut loader = EbpfLoader::new();
    loader.override_global(maps::TUNING, &tuning, true).override_global(maps::DECAP_TUNING, &decap, true);
    let mut object = loader.load(kernel::object()).expect("the object");
    let program: &mut Xdp = object.program_mut(name).expect("the program").try_into().expect("an XDP program");
    program.load().expect("a program that the verifier takes");
    let info = program.info().expect("what the kernel knows of it");
    let verified = info.verified_instruction_count().expect("a kernel that tells: 5.16 or newer");
    let instructions = Instructions::read(program.fd().expect("a loaded program")).expect("the program's instructions");
    Cost { verified, instructions: instructions.len(), stack: instructions.stack() }
}
