//! Loading, adopting, refusing, taking down.

use std::{
    fs,
    os::unix::fs::{chown, symlink},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use lb_common::{
    layout::{
        LAYOUT_VERSION,
        flow::FRAGMENT_BUCKETS,
        target::{Encap, Target},
    },
    maps::{self, feature},
};
use lb_daemon::{
    dataplane::{
        Dataplane,
        flows::Liveness,
        kernel::{Kernel, Live, OpenError, Opened, Options},
        lookups::Lookups as _,
    },
    plan::{Capacity, Op},
};

use super::{
    ops::update,
    place::{CAPACITY, FLOW_ENTRIES, Place, chain},
};

fn ids(place: &Place) -> Vec<u64> {
    maps::ALL.iter().map(|name| place.id("map", &format!("maps/{name}"))).collect()
}

#[test]
fn creates_what_the_contract_names() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    assert!(!kernel.adopted());
    let version = format!("v{LAYOUT_VERSION}");
    let mut expected = vec!["maps".to_owned(), "prog".to_owned(), version.clone(), format!("{version}/maps")];
    expected.extend(maps::ALL.iter().map(|name| format!("{version}/maps/{name}")));
    expected.sort();
    assert_eq!(place.names(), expected);
    assert_eq!(fs::read_link(place.path.join("maps")).unwrap(), Path::new(&version).join("maps"));
    let name = place.bpftool("prog", "prog")["name"].clone();
    assert!(name == maps::PROGRAM || name == maps::PROGRAM_FRAGS, "{name}");
    assert_eq!(place.id("prog", "prog"), u64::from(kernel.program_id().unwrap()));
    assert_eq!(place.bpftool("map", "maps/FLOWS")["max_entries"], FLOW_ENTRIES / 8);
    assert_eq!(kernel.observe().unwrap().capacity, CAPACITY);
}

#[test]
fn adopts_tables_and_replaces_the_program() {
    let Some(place) = Place::new() else { return };
    let first = place.open();
    let (tables, program) = (ids(&place), place.id("prog", "prog"));
    drop(first);
    let mut second = place.open();
    assert!(second.adopted());
    assert_eq!(ids(&place), tables);
    assert_ne!(place.id("prog", "prog"), program);
    // The program itself uses the pinned tables: those that it refers to are among them.
    let used = place.bpftool("prog", "prog")["map_ids"].as_array().cloned().unwrap_or_default();
    let pinned = |id: &serde_json::Value| tables.contains(&id.as_u64().unwrap()) || is_rodata(id);
    assert!(used.iter().all(pinned), "the program uses {used:?}, pinned are {tables:?}");
    assert_eq!(second.observe().unwrap().capacity, CAPACITY);
}

fn is_rodata(id: &serde_json::Value) -> bool {
    let output = Command::new("bpftool").args(["-j", "map", "show", "id", &id.to_string()]).output().unwrap();
    let map: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    map["name"].as_str().is_some_and(|name| name.contains("rodata"))
}

#[test]
fn keeps_the_sizes_of_tables_that_are_there() {
    let Some(place) = Place::new() else { return };
    drop(place.open());
    let mut options = place.options();
    for capacity in
        [Capacity { vips: 1, targets: 1, ring_blocks: 1, ..CAPACITY }, Capacity { targets: 1000, ..CAPACITY }]
    {
        options.capacity = capacity;
        let mut kernel = Kernel::open(&options).unwrap_or_else(|error| panic!("{error}"));
        assert!(kernel.adopted());
        assert_eq!(kernel.observe().unwrap().capacity, CAPACITY);
    }
    // What is made anew goes by what it belongs to.
    fs::remove_file(place.path.join("maps/TARGET_COUNTERS")).unwrap();
    drop(Kernel::open(&options).unwrap_or_else(|error| panic!("{error}")));
    assert_eq!(place.bpftool("map", "maps/TARGET_COUNTERS")["max_entries"], CAPACITY.targets);
    fs::remove_file(place.path.join("maps/TRAFFIC")).unwrap();
    let traffic = || place.bpftool("map", "maps/TRAFFIC")["max_entries"].as_u64().unwrap();
    drop(Kernel::open(&options).unwrap_or_else(|error| panic!("{error}")));
    let cpus = traffic() / u64::from(CAPACITY.targets);
    assert!(cpus > 0 && traffic() == cpus * u64::from(CAPACITY.targets));
    fs::remove_file(place.path.join("maps/TARGETS")).unwrap();
    drop(Kernel::open(&options).unwrap_or_else(|error| panic!("{error}")));
    assert_eq!(place.bpftool("map", "maps/TARGET_COUNTERS")["max_entries"], 1000, "as many as what they count");
    assert_eq!(traffic(), cpus * 1000);
}

#[test]
fn tables_that_were_opened_but_not_taken_over_are_as_before() {
    let Some(place) = Place::new() else { return };
    let other = Options { tuning: maps::Tuning { hash_seed: 9, ..place.options().tuning }, ..place.options() };
    let opened = Opened::new(&other).unwrap();
    assert!(!opened.adopted() && place.path.join("maps/FLOWS").exists());
    drop(opened);
    assert!(!place.path.exists(), "tables that nobody took over are gone: {:?}", place.names());

    drop(place.open());
    let (names, tables, program) = (place.names(), ids(&place), place.id("prog", "prog"));
    let mut opened = Opened::new(&other).unwrap();
    assert!(opened.adopted());
    assert_eq!(opened.observe().unwrap().capacity, CAPACITY);
    assert_eq!(place.id("prog", "prog"), program, "nobody has said yet that it shall be replaced");
    drop(opened);
    assert_eq!((place.names(), ids(&place), place.id("prog", "prog")), (names, tables, program));

    // Half of them, made by this one, go again; the others stay.
    fs::remove_file(place.path.join("maps/RINGS")).unwrap();
    let opened = Opened::new(&other).unwrap();
    assert!(place.path.join("maps/RINGS").exists());
    drop(opened);
    assert!(!place.path.join("maps/RINGS").exists() && place.path.join("maps/FLOWS").exists());
}

#[test]
fn completes_half_made_tables() {
    let Some(place) = Place::new() else { return };
    drop(place.open());
    let tables = ids(&place);
    fs::remove_file(place.path.join("maps/RINGS")).unwrap();
    fs::remove_file(place.path.join("prog")).unwrap();
    fs::remove_file(place.path.join("maps")).unwrap();
    let kernel = place.open();
    assert!(!kernel.adopted());
    let now = ids(&place);
    let same = maps::ALL.iter().zip(tables.iter().zip(&now)).filter(|(_, (before, after))| before == after);
    assert_eq!(same.count(), maps::ALL.len() - 1);
}

#[test]
fn puts_other_parameters_in_place() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    let (tables, program) = (ids(&place), place.id("prog", "prog"));
    let tuning = maps::Tuning { hash_seed: 7, ..maps::Tuning::default() };
    kernel.retune(&tuning).unwrap();
    assert_eq!(ids(&place), tables);
    let replaced = place.id("prog", "prog");
    assert_ne!(replaced, program);
    assert_eq!(replaced, u64::from(kernel.program_id().unwrap()));
    assert_eq!(*kernel.tuning(), tuning);
    // What is in force already is not loaded again.
    kernel.retune(&tuning).unwrap();
    assert_eq!(place.id("prog", "prog"), replaced);
}

#[test]
fn makes_ephemeral_tables_anew_when_they_do_not_fit() {
    let Some(place) = Place::new() else { return };
    let size = |name: &str| place.bpftool("map", &format!("maps/{name}"))["max_entries"].as_u64().unwrap();
    let limited = |lines: u32| maps::Tuning { source_line_mask: lines - 1, ..place.options().tuning };
    let mut kernel = place.open();
    assert_eq!((size(maps::SOURCES), size(maps::VIP_LIMITS)), (1, u64::from(CAPACITY.vips) + 1));
    let kept = |before: &[u64]| {
        let pairs = ids(&place).into_iter().zip(before.to_vec());
        pairs.zip(maps::ALL).filter(|((now, then), _)| now != then).map(|(_, name)| name).collect::<Vec<_>>()
    };
    let tables = ids(&place);
    kernel.retune(&limited(512)).unwrap();
    assert_eq!((size(maps::SOURCES), kept(&tables)), (512, vec![maps::SOURCES]));
    assert!(place.names().iter().all(|name| !name.ends_with("-next")), "{:?}", place.names());
    drop(kernel);

    // A restart with other settings, and tables of another form.
    let folder = place.path.join("maps");
    let other = ["type", "array", "key", "4", "value", "8", "entries", "3", "name", "other"];
    for name in [maps::FRAGMENTS, maps::TOO_BIG_LIMITS, maps::VIP_LIMITS] {
        fs::remove_file(folder.join(name)).unwrap();
        let made = Command::new("bpftool").args(["map", "create"]).arg(folder.join(name)).args(other).status().unwrap();
        assert!(made.success());
    }
    let tables = ids(&place);
    let kernel = Kernel::open(&Options { tuning: limited(2), ..place.options() }).unwrap();
    assert!(kernel.adopted(), "nothing of worth was lost");
    assert_eq!(kept(&tables), [maps::FRAGMENTS, maps::VIP_LIMITS, maps::SOURCES, maps::TOO_BIG_LIMITS]);
    assert_eq!((size(maps::SOURCES), size(maps::FRAGMENTS)), (2, u64::from(FRAGMENT_BUCKETS)));
    assert_eq!(size(maps::VIP_LIMITS), u64::from(CAPACITY.vips) + 1);
}

#[test]
fn tables_of_an_lb_that_knew_no_heartbeat_are_adopted() {
    let Some(place) = Place::new() else { return };
    drop(place.open());
    let table = place.path.join("maps").join(maps::HEARTBEAT);
    fs::remove_file(&table).unwrap();
    // Whoever only looks needs none.
    Live::open(&place.path, Some(&place.options().tuning)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let kernel = place.open();
    assert!(kernel.adopted(), "nothing of worth was lost");
    let dumped = || place.bpftool("map", "maps/HEARTBEAT")["max_entries"].as_u64();
    assert_eq!(dumped(), Some(1));
    let beat = || {
        let live = Live::open(&place.path, Some(kernel.tuning())).unwrap();
        (live.heartbeat().unwrap(), live.now_ns())
    };
    let (first, now) = beat();
    assert!(first > 0 && now - first < 5_000_000_000, "a new program meets a sign of life: {first} at {now}");
    thread::sleep(Duration::from_millis(50));
    kernel.beat().unwrap();
    assert!(beat().0 > first);
}

#[test]
fn a_restart_keeps_the_features_that_the_tables_need() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    assert_eq!(kernel.tuning().features, 0);
    let wrapped = Target { serves: 1, vip: 1, encap: Encap::GueV4 as u32, ..Target::default() };
    kernel.apply(&Op::SetTarget { id: 1, target: wrapped }).unwrap();
    update(&place, maps::BONDS, 4, &[9, 0, 0, 0].map(|byte: u8| byte.to_string()));
    drop(kernel);
    let mut kernel = place.open();
    assert_eq!(kernel.tuning().features, feature::GUE | feature::BONDS);
    // Until whoever runs it says otherwise.
    kernel.retune(&place.options().tuning).unwrap();
    assert_eq!(kernel.tuning().features, 0);
}

#[test]
fn refuses_another_layout_version_and_unloads_it() {
    let Some(place) = Place::new() else { return };
    let other = place.path.join(format!("v{}", LAYOUT_VERSION + 1));
    fs::create_dir_all(other.join("maps")).unwrap();
    symlink(format!("v{}/maps", LAYOUT_VERSION + 1), place.path.join("maps")).unwrap();
    let Err(error) = Kernel::open(&place.options()) else { panic!("adopted another version") };
    assert!(error.to_string().contains(&format!("v{}", LAYOUT_VERSION + 1)), "{error}");
    assert!(error.to_string().contains("lb unload"), "{error}");
    assert!(other.join("maps").exists());
    let done = Kernel::unload(&place.path).unwrap();
    assert!(done.left.is_empty(), "{done:?}");
    assert!(!place.path.exists());
}

#[test]
fn removes_older_tables_whose_successors_have_the_name() {
    let Some(place) = Place::new() else { return };
    drop(place.open());
    let names = place.names();
    let older = place.path.join("v1/maps");
    fs::create_dir_all(&older).unwrap();
    let map = ["type", "array", "key", "4", "value", "4", "entries", "1", "name", "other"];
    assert!(
        Command::new("bpftool").args(["map", "create"]).arg(older.join("VIPS")).args(map).status().unwrap().success()
    );
    let kernel = place.open();
    assert!(kernel.adopted());
    assert_eq!(place.names(), names);
    // Those that packets go by are refused where nobody knows how to read them.
    drop(kernel);
    fs::rename(place.path.join(format!("v{LAYOUT_VERSION}")), place.path.join("v1")).unwrap();
    fs::remove_file(place.path.join("maps")).unwrap();
    symlink("v1/maps", place.path.join("maps")).unwrap();
    let names = place.names();
    let Err(error) = Kernel::open(&place.options()) else { panic!("adopted a layout that nobody knows") };
    assert!(error.to_string().contains("v1") && error.to_string().contains("lb unload"), "{error}");
    assert_eq!(place.names(), names);
}

#[test]
fn refuses_tables_of_another_form() {
    let Some(place) = Place::new() else { return };
    let folder = place.path.join(format!("v{LAYOUT_VERSION}/maps"));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("TARGETS");
    let arguments = ["type", "array", "key", "4", "value", "32", "entries", "64", "name", "TARGETS"];
    let status = Command::new("bpftool").args(["map", "create"]).arg(path).args(arguments).status().unwrap();
    assert!(status.success());
    let Err(error) = Kernel::open(&place.options()) else { panic!("adopted a table of another form") };
    assert!(error.to_string().contains("TARGETS has a value size of 32, and this lb needs 64"), "{error}");
    assert!(error.to_string().contains("lb unload"), "{error}");
}

#[test]
fn allows_one_holder_and_any_reader() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    let Err(error) = Kernel::open(&place.options()) else { panic!("opened twice") };
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(place.path.to_str().unwrap()) && text.contains(&std::process::id().to_string()), "{text}");
    let Err(error) = Kernel::unload(&place.path) else { panic!("unloaded under a holder's feet") };
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    let reader = Kernel::open_existing(&place.path).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(reader.observe().unwrap(), kernel.observe().unwrap());
    assert_eq!(reader.counters().unwrap(), kernel.counters().unwrap());
    let rule = Liveness::now(7);
    assert_eq!(reader.flows(rule), kernel.flows(rule).unwrap());
    drop(kernel);
    drop(place.open());
}

#[test]
fn loads_while_signals_arrive() {
    let Some(place) = Place::new() else { return };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Each child that ends is a signal, which makes the verifier give up.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(Command::new("true").status().unwrap().success());
            }
        });
        let results: Vec<_> = (0..4).map(|_| Kernel::open(&place.options()).map(drop)).collect();
        done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    });
}

#[test]
fn unloads_everything_of_its_own_and_nothing_else() {
    let Some(place) = Place::new() else { return };
    drop(place.open());
    fs::create_dir(place.path.join("others")).unwrap();
    // A map under a link's name is not a link.
    let map = ["type", "array", "key", "4", "value", "4", "entries", "1", "name", "other"];
    let odd = place.path.join("link-other");
    assert!(Command::new("bpftool").args(["map", "create"]).arg(&odd).args(map).status().unwrap().success());
    let done = Kernel::unload(&place.path).unwrap();
    assert_eq!(done.removed.len(), maps::ALL.len() + 1, "{done:?}");
    assert_eq!(done.left, [odd.clone(), place.path.join("others")]);
    assert_eq!(place.names(), ["link-other", "others"]);
    fs::remove_file(odd).unwrap();
    fs::remove_dir(place.path.join("others")).unwrap();
    Kernel::unload(&place.path).unwrap();
    assert!(!place.path.exists());
    assert_eq!(Kernel::unload(&place.path).unwrap().removed, [""; 0].map(std::path::PathBuf::from));
}

#[test]
fn says_when_nothing_is_pinned() {
    let Some(place) = Place::new() else { return };
    let Err(error) = Kernel::open_existing(&place.path) else { panic!("opened nothing") };
    assert!(matches!(error, OpenError::NothingPinned { .. }), "{error}");
    assert!(!place.path.exists(), "a reader leaves no folder");
}

#[test]
fn leaves_nothing_where_pins_cannot_be() {
    let Some(place) = Place::new() else { return };
    let mut options = place.options();
    options.pin_path = place.path.join("with.dot");
    let Err(error) = Kernel::open(&options) else { panic!("pinned under a name with a dot") };
    assert!(matches!(error, OpenError::Dotted { .. }), "{error}");
    let folder = tempfile::tempdir().unwrap();
    options.pin_path = folder.path().join("lb");
    let Err(error) = Kernel::open(&options) else { panic!("pinned outside of a BPF file system") };
    assert!(error.to_string().contains("under /sys/fs/bpf"), "{error}");
    assert!(!options.pin_path.exists());
}

#[test]
fn refuses_folders_of_other_users() {
    let Some(place) = Place::new() else { return };
    let inner = place.path.join("inner");
    let open =
        |pin_path: &Path| Kernel::open(&Options { pin_path: pin_path.to_owned(), ..place.options() }).map(|_| ());
    fs::create_dir(&place.path).unwrap();
    chown(&place.path, Some(65534), None).unwrap();
    // Also when the folder itself would be new.
    for pin_path in [&place.path, &inner] {
        let error = open(pin_path).unwrap_err();
        assert!(
            matches!(&error, OpenError::ForeignFolder { path, uid: 65534 } if *path == place.path),
            "{}",
            chain(&error)
        );
        assert!(error.to_string().contains("chown root"), "{error}");
    }
    assert_eq!(place.names(), [""; 0]);
    chown(&place.path, Some(0), None).unwrap();
    open(&place.path).unwrap_or_else(|error| panic!("{}", chain(&error)));
}
