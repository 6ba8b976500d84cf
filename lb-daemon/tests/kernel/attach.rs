//! The program on interfaces, in a network namespace of the test's own.

use std::fs;

use lb_daemon::{
    dataplane::kernel::{AttachError, Attached, Change, Grip, Hook, Kernel, Occupant, decap},
    model::{AttachMode, Interface},
    plan::Room,
};

use super::place::{Net, Place, chain, run};

fn on(names: &[(&str, AttachMode)]) -> Vec<Interface> {
    names.iter().map(|(name, mode)| Interface { name: (*name).to_owned(), mode: *mode }).collect()
}

fn attach(kernel: &mut Kernel, names: &[(&str, AttachMode)]) -> Vec<Attached> {
    kernel.attach(&on(names)).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn refusal(kernel: &mut Kernel, names: &[(&str, AttachMode)]) -> AttachError {
    match kernel.attach(&on(names)) {
        Err(error) => error,
        Ok(attached) => panic!("attached {attached:?}"),
    }
}

#[test]
fn stays_attached_without_the_process_and_is_replaced_in_place() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = place.open();
    let made = attach(&mut kernel, &[("lbx0", AttachMode::Auto), ("lbx1", AttachMode::Generic)]);
    assert_eq!(
        made.iter().map(|one| (one.hook, one.change)).collect::<Vec<_>>(),
        [(Hook::Native, Change::Made), (Hook::Generic, Change::Made)]
    );
    let link = place.id("link", "link-lbx0");
    drop(kernel);
    let held = Kernel::open_existing(&place.path).unwrap().attached().unwrap();
    assert_eq!(
        held.iter().map(|one| (one.interface.as_str(), one.hook)).collect::<Vec<_>>(),
        [("lbx0", Hook::Native), ("lbx1", Hook::Generic)]
    );

    let mut kernel = place.open();
    let program = kernel.program_id().unwrap();
    assert_ne!(program, made[0].program);
    // Opening alone brings the new program into force.
    assert_eq!(place.bpftool("link", "link-lbx0")["prog_id"], program);
    let kept = attach(&mut kernel, &[("lbx0", AttachMode::Auto), ("lbx1", AttachMode::Auto)]);
    assert!(kept.iter().all(|one| one.change == Change::Kept && one.program == program), "{kept:?}");
    assert_eq!(kept[1].hook, Hook::Generic, "auto keeps what runs");
    assert_eq!(place.id("link", "link-lbx0"), link);

    kernel.retune(&lb_common::maps::Tuning { hash_seed: 3, ..Default::default() }).unwrap();
    assert_eq!(place.bpftool("link", "link-lbx0")["prog_id"], kernel.program_id().unwrap());
    assert_eq!(place.bpftool("link", "link-lbx1")["prog_id"], kernel.program_id().unwrap());
}

#[test]
fn links_that_the_process_keeps_go_with_it_and_no_sooner() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = place.open();
    let both = [("lbx0", AttachMode::Auto), ("lbx1", AttachMode::Auto)];
    attach(&mut kernel, &[both[0]]);
    let link = place.id("link", "link-lbx0");
    for _ in 0..2 {
        kernel.keep_by(Grip::Process).unwrap();
        assert!(!place.names().iter().any(|name| name.starts_with("link-")), "{:?}", place.names());
        assert_eq!(links_of(kernel.program_id().unwrap()), [link]);
        assert_eq!(kernel.lost(&on(&both)).into_keys().collect::<Vec<_>>(), ["lbx1"]);
        // Another program, and another over larger tables, come to it as to pinned ones.
        let hash_seed = kernel.tuning().hash_seed + 1;
        kernel.retune(&lb_common::maps::Tuning { hash_seed, ..*kernel.tuning() }).unwrap();
        assert_eq!(links_of(kernel.program_id().unwrap()), [link]);
        let room = kernel.room();
        kernel.resize(&Room { flow_entries: room.flow_entries * 2, ..room }).unwrap();
        assert_eq!(links_of(kernel.program_id().unwrap()), [link]);
        kernel.keep_by(Grip::Pins).unwrap();
        assert_eq!(place.id("link", "link-lbx0"), link);
    }

    // Those that are made later are kept likewise, and taken off when they are no longer wanted.
    kernel.keep_by(Grip::Process).unwrap();
    let made = attach(&mut kernel, &both);
    assert_eq!(made.iter().map(|one| one.change).collect::<Vec<_>>(), [Change::Kept, Change::Made]);
    run("ip", &["link", "del", "lbx0"]);
    run("ip", &["link", "add", "lbx0", "type", "veth", "peer", "name", "lbx1"]);
    let (again, outcome) = kernel.attach_again(&on(&both));
    outcome.unwrap();
    assert_eq!(again.len(), 2);
    attach(&mut kernel, &[both[1]]);
    assert_eq!(links_of(kernel.program_id().unwrap()).len(), 1);
    assert!(!place.names().iter().any(|name| name.starts_with("link-")), "{:?}", place.names());

    drop(kernel);
    assert!(!xdp_shown(), "an interface still runs a program");
    let left = Kernel::open_existing(&place.path).unwrap();
    assert!(left.attached().unwrap().is_empty() && place.path.join("prog").exists());
    let mut kernel = place.open();
    assert!(kernel.adopted());
    assert_eq!(attach(&mut kernel, &[both[0]])[0].change, Change::Made);
}

#[test]
fn detaches_interfaces_that_are_no_longer_wanted() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = place.open();
    attach(&mut kernel, &[("lbx0", AttachMode::Auto), ("lbx1", AttachMode::Auto)]);
    attach(&mut kernel, &[("lbx1", AttachMode::Auto)]);
    assert!(!place.path.join("link-lbx0").exists());
    // At once: nothing is in the way of whoever attaches next.
    attach(&mut kernel, &[("lbx0", AttachMode::Auto), ("lbx1", AttachMode::Auto)]);
    drop(kernel);
    let done = Kernel::unload(&place.path).unwrap();
    assert_eq!(done.detached, ["lbx0", "lbx1"]);
    assert!(!place.path.exists());
    assert!(!xdp_shown(), "an interface still runs a program");
}

#[test]
fn changes_the_mode_where_it_is_asked_to() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = place.open();
    for (mode, hook) in
        [(AttachMode::Native, Hook::Native), (AttachMode::Generic, Hook::Generic), (AttachMode::Native, Hook::Native)]
    {
        let attached = attach(&mut kernel, &[("lbx0", mode)]);
        assert_eq!((attached[0].hook, attached[0].change), (hook, Change::Made));
    }
}

#[test]
fn follows_an_interface_that_was_made_anew() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = place.open();
    attach(&mut kernel, &[("lbx0", AttachMode::Auto)]);
    run("ip", &["link", "del", "lbx0"]);
    let AttachError::NoInterface { name, existing } = refusal(&mut kernel, &[("lbx0", AttachMode::Auto)]) else {
        panic!("another error")
    };
    assert_eq!((name.as_str(), existing.as_str()), ("lbx0", "lo"));
    run("ip", &["link", "add", "lbx0", "type", "veth", "peer", "name", "lbx1"]);
    let attached = attach(&mut kernel, &[("lbx0", AttachMode::Auto)]);
    assert_eq!(attached[0].change, Change::Made);
    drop(kernel);
    // A dead link stops neither a start nor an unload.
    run("ip", &["link", "del", "lbx0"]);
    drop(place.open());
    assert_eq!(Kernel::unload(&place.path).unwrap().detached, ["lbx0"]);
}

#[test]
fn leaves_all_as_it_was_when_one_interface_cannot_be_bound() {
    let Some(place) = Place::new() else { return };
    let Some(other) = Place::new() else { return };
    let _net = Net::new();
    let mut first = other.open();
    let taken = attach(&mut first, &[("lbx1", AttachMode::Auto)]);
    let mut kernel = place.open();
    let AttachError::Busy { name, program, mode, occupant } =
        refusal(&mut kernel, &[("lbx0", AttachMode::Auto), ("lbx1", AttachMode::Auto)])
    else {
        panic!("another error")
    };
    assert_eq!((name.as_str(), program, mode), ("lbx1", taken[0].program, "native"));
    assert_eq!(occupant, Occupant::Balancer { pin_path: Some(other.path.clone()) });
    assert!(!place.path.join("link-lbx0").exists(), "a part was bound");
    let missing = refusal(&mut kernel, &[("lbx0", AttachMode::Auto), ("nosuch", AttachMode::Auto)]).to_string();
    assert!(missing.contains("nosuch") && missing.contains("lbx0, lbx1"), "{missing}");
    assert!(!place.path.join("link-lbx0").exists(), "a part was bound");
}

#[test]
fn tells_whose_the_program_in_the_way_is() {
    let Some(place) = Place::new() else { return };
    let Some(other) = Place::new() else { return };
    let _net = Net::new();
    let occupant = |kernel: &mut Kernel| match refusal(kernel, &[("lbx0", AttachMode::Auto)]) {
        AttachError::Busy { occupant, .. } => occupant,
        error => panic!("{}", chain(&error)),
    };
    let mut kernel = place.open();
    let settings = decap::Settings::new(["10.9.0.1".parse().unwrap()]);
    decap::install(&other.path, "lbx0", AttachMode::Auto, settings).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(occupant(&mut kernel), Occupant::Decap { pin_path: Some(other.path.clone()) });
    // Without a link, as `ip` binds it: what `ip` put there, `ip` takes off.
    let program = other.path.join("pass");
    std::fs::rename(other.path.join("decap/prog-lbx0"), &program).unwrap();
    assert!(decap::remove(&other.path, "lbx0").unwrap());
    run("ip", &["link", "set", "dev", "lbx0", "xdpdrv", "pinned", program.to_str().unwrap()]);
    assert_eq!(occupant(&mut kernel), Occupant::Other);
    run("ip", &["link", "set", "dev", "lbx0", "xdpdrv", "off"]);
    attach(&mut kernel, &[("lbx0", AttachMode::Auto)]);
}

#[test]
fn falls_back_to_generic_mode_only_when_it_may() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = place.open();
    run("ip", &["link", "set", "lo", "up"]);
    // The loopback driver has no native XDP.
    let error = refusal(&mut kernel, &[("lo", AttachMode::Native)]);
    assert!(matches!(&error, AttachError::Refused { mode: "native", .. }), "{error}");
    let attached = attach(&mut kernel, &[("lo", AttachMode::Auto)]);
    assert_eq!(attached[0].hook, Hook::Generic);
    // What ran goes on when the mode that is asked for now cannot be had.
    refusal(&mut kernel, &[("lo", AttachMode::Native)]);
    let held = Kernel::open_existing(&place.path).unwrap().attached().unwrap();
    assert_eq!(held.len(), 1, "{held:?}");
}

#[test]
fn takes_interface_names_with_dots() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    run("ip", &["link", "set", "lbx0", "down"]);
    run("ip", &["link", "set", "lbx0", "name", "lb.100"]);
    let mut kernel = place.open();
    attach(&mut kernel, &[("lb.100", AttachMode::Auto)]);
    assert!(fs::exists(place.path.join("link-lb%2e100")).unwrap());
    drop(kernel);
    assert_eq!(Kernel::unload(&place.path).unwrap().detached, ["lb.100"]);
}

#[test]
fn a_link_takes_programs_for_one_buffer_and_for_several() {
    let Some(place) = Place::new() else { return };
    let Some(other) = Place::new() else { return };
    let _net = Net::new();
    let settings = || decap::Settings::new(["10.9.0.1".parse().unwrap()]);
    let unwrap = || {
        let done = decap::install(&other.path, "lbx0", AttachMode::Native, settings());
        done.unwrap_or_else(|error| panic!("{}", chain(&error))).attached
    };
    let made = unwrap();
    let (single, several) = (other.path.join("decap/link-lbx0"), place.path.join("link-lbx0"));
    let mut kernel = place.open();
    fs::rename(&single, &several).unwrap();
    // As a daemon does that finds the link of an earlier one, of another form.
    kernel.retune(&lb_common::maps::Tuning { hash_seed: 3, ..Default::default() }).unwrap();
    let shown = place.bpftool("link", "link-lbx0");
    assert_eq!(shown["prog_id"], kernel.program_id().unwrap());
    assert_ne!(shown["prog_id"], made.program);
    let kept = attach(&mut kernel, &[("lbx0", AttachMode::Native)]);
    assert_eq!((kept[0].change, kept[0].hook), (Change::Kept, Hook::Native));
    // And back.
    fs::rename(&several, &single).unwrap();
    let again = unwrap();
    assert_eq!((again.change, place.id("prog", "prog")), (Change::Kept, u64::from(kernel.program_id().unwrap())));
    assert_eq!(other.bpftool("link", "decap/link-lbx0")["prog_id"], again.program);
}

#[test]
fn names_the_mtu_that_keeps_a_program_off() {
    let Some(place) = Place::new() else { return };
    let Some(other) = Place::new() else { return };
    let _net = Net::new();
    run("ip", &["link", "set", "lbx0", "mtu", "9000"]);
    run("ip", &["link", "set", "lbx1", "mtu", "9000"]);
    let settings = || decap::Settings::new(["10.9.0.1".parse().unwrap()]);
    let mode = AttachMode::Native;
    let Err(error) = decap::install(&other.path, "lbx0", mode, settings()) else { panic!("veth takes it") };
    let text = error.to_string();
    assert!(matches!(&error, AttachError::FramesTooLarge { mtu: 9000, multi_buffer: false, .. }), "{text}");
    // The driver's own words, and the remedy.
    for words in ["lbx0", "Peer MTU is too large to set XDP", "9000", "`ip link set dev lbx0 mtu 1500`", "generic"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!xdp_shown(), "asking for the reason bound it");
    let mut kernel = place.open();
    let name = place.bpftool("prog", "prog")["name"].clone();
    if name == lb_common::maps::PROGRAM_FRAGS {
        let attached = attach(&mut kernel, &[("lbx0", AttachMode::Native)]);
        assert_eq!(attached[0].hook, Hook::Native, "it takes frames in several buffers");
    } else {
        println!("skipped: this kernel has no XDP of frames in several buffers");
    }
}

/// Numbers of the links that run a program.
fn links_of(program: u32) -> Vec<u64> {
    let output = std::process::Command::new("bpftool").args(["-j", "link", "show"]).output().unwrap();
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let running = links.as_array().unwrap().iter().filter(|link| link["prog_id"] == program);
    running.map(|link| link["id"].as_u64().unwrap()).collect()
}

fn xdp_shown() -> bool {
    let output = std::process::Command::new("ip").args(["link", "show"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("prog/xdp")
}
