//! `lb decap`: in place, replaced in place, off.

use std::{net::IpAddr, process::Command};

use lb_common::maps::{DECAP_PROGRAM, DecapVerdict};
use lb_daemon::{
    dataplane::kernel::{AttachError, Change, Hook, OpenError, decap},
    model::AttachMode,
};

use super::place::{Net, Place, chain, run};

/// An Ethernet frame: IPv4 to `destination`, in it IPv4 with an empty UDP datagram.
fn tunnelled(destination: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend(ipv4(48, 4, [172, 16, 0, 1], destination));
    frame.extend(ipv4(28, 17, [198, 51, 100, 7], [192, 0, 2, 10]));
    frame.extend([0x30, 0x39, 0, 53, 0, 8, 0, 0]);
    frame
}

fn ipv4(length: u8, protocol: u8, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, length, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    header.extend(source.into_iter().chain(destination));
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// Runs a frame through the program that is pinned.
fn send(place: &Place, frame: &[u8]) {
    let input = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(input.path(), frame).unwrap();
    let mut command = Command::new("bpftool");
    command.args(["prog", "run", "pinned"]).arg(place.path.join("decap/prog-lbx0")).arg("data_in").arg(input.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Frames that were unwrapped so far. Of others the kernel's own neighbour discovery sends some.
fn unwrapped(place: &Place) -> u64 {
    let counters = decap::counters(&place.path, "lbx0").unwrap();
    assert_eq!((counters[&DecapVerdict::Malformed], counters[&DecapVerdict::UnwrappedV6]), (0, 0));
    counters[&DecapVerdict::UnwrappedV4]
}

#[test]
fn unwraps_for_the_interfaces_own_addresses_or_those_given() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    run("ip", &["addr", "add", "10.9.0.1/24", "dev", "lbx0"]);
    run("ip", &["addr", "add", "2001:db8:9::1/64", "dev", "lbx0"]);
    let install = |addresses: &[IpAddr]| {
        decap::install(&place.path, "lbx0", AttachMode::Auto, addresses)
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    };
    let first = install(&[]);
    let own: Vec<String> = first.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["10.9.0.1", "2001:db8:9::1"], "all but link-local ones");
    assert_eq!((first.attached.hook, first.attached.change), (Hook::Native, Change::Made));
    assert_eq!(place.bpftool("prog", "decap/prog-lbx0")["name"], DECAP_PROGRAM);
    send(&place, &tunnelled([10, 9, 0, 2]));
    assert_eq!(unwrapped(&place), 0);
    send(&place, &tunnelled([10, 9, 0, 1]));
    assert_eq!(unwrapped(&place), 1);

    let link = place.id("link", "decap/link-lbx0");
    let second = install(&["10.9.0.2".parse().unwrap()]);
    assert_eq!(second.attached.change, Change::Kept);
    assert_ne!(second.attached.program, first.attached.program);
    assert_eq!(place.id("link", "decap/link-lbx0"), link, "replaced in place");
    assert_eq!(unwrapped(&place), 1, "the counters go on");
    send(&place, &tunnelled([10, 9, 0, 1]));
    assert_eq!(unwrapped(&place), 1);
    send(&place, &tunnelled([10, 9, 0, 2]));
    assert_eq!(unwrapped(&place), 2);

    assert!(decap::remove(&place.path, "lbx0").unwrap());
    assert!(!place.path.exists());
    assert!(!decap::remove(&place.path, "lbx0").unwrap());
}

#[test]
fn lives_beside_a_balancer() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let kernel = place.open();
    let address = ["10.9.0.1".parse().unwrap()];
    let on = |interface| decap::install(&place.path, interface, AttachMode::Generic, &address).map(|_| ());
    on("lbx0").unwrap_or_else(|error| panic!("{}", chain(&error)));
    on("lbx1").unwrap_or_else(|error| panic!("{}", chain(&error)));
    drop(kernel);
    let done = lb_daemon::dataplane::kernel::Kernel::unload(&place.path).unwrap();
    assert_eq!(done.left, [place.path.join("decap")], "a backend goes on when its balancer ends");
    assert!(decap::remove(&place.path, "lbx0").unwrap());
    assert!(place.path.join("decap/link-lbx1").exists());
    assert!(decap::remove(&place.path, "lbx1").unwrap());
    assert!(!place.path.exists());
}

#[test]
fn refuses_what_cannot_work() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    run("sysctl", &["-qw", "net.ipv6.conf.lbx0.disable_ipv6=1"]);
    let refusal = |interface| decap::install(&place.path, interface, AttachMode::Auto, &[]).unwrap_err();
    assert!(matches!(refusal("lbx0"), AttachError::NoAddress { .. }));
    assert!(matches!(refusal("nosuch"), AttachError::NoInterface { .. }));
    assert!(!place.path.exists());
}

#[test]
fn leaves_nothing_behind_when_it_is_refused() {
    let Some(place) = Place::new() else { return };
    let Some(other) = Place::new() else { return };
    let _net = Net::new();
    let address: [IpAddr; 1] = ["10.9.0.1".parse().unwrap()];
    let install = |place: &Place, interface, mode| decap::install(&place.path, interface, mode, &address);
    install(&other, "lbx0", AttachMode::Auto).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let error = install(&place, "lbx0", AttachMode::Auto).unwrap_err();
    assert!(matches!(error, AttachError::Busy { .. }), "{}", chain(&error));
    assert!(!place.path.exists(), "{:?}", place.names());
    // Beside one that is in place on another interface, that one stays.
    install(&place, "lbx1", AttachMode::Auto).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let before = place.names();
    install(&place, "lbx0", AttachMode::Auto).unwrap_err();
    assert_eq!(place.names(), before);
    assert!(matches!(decap::counters(&place.path, "lbx0"), Err(OpenError::NoDecap { .. })));
    assert!(decap::remove(&other.path, "lbx0").unwrap());
    assert!(decap::remove(&place.path, "lbx1").unwrap());
}

#[test]
fn goes_on_when_its_replacement_is_refused() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    run("ip", &["link", "set", "lo", "up"]);
    let install = |mode| decap::install(&place.path, "lo", mode, &["10.9.0.1".parse().unwrap()]);
    install(AttachMode::Generic).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let before = place.names();
    assert!(matches!(install(AttachMode::Native), Err(AttachError::Refused { .. })), "loopback has no native XDP");
    assert_eq!(place.names(), before);
    // What is pinned is what runs.
    assert_eq!(place.bpftool("link", "decap/link-lo")["prog_id"].as_u64(), Some(place.id("prog", "decap/prog-lo")));
    assert!(decap::counters(&place.path, "lo").is_ok());
    assert!(decap::remove(&place.path, "lo").unwrap());
}

#[test]
fn shows_nothing_when_its_interface_is_gone() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let address = ["10.9.0.1".parse().unwrap()];
    decap::install(&place.path, "lbx0", AttachMode::Auto, &address).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(decap::counters(&place.path, "lbx0").is_ok());
    run("ip", &["link", "del", "lbx0"]);
    assert!(matches!(decap::counters(&place.path, "lbx0"), Err(OpenError::NoDecap { .. })));
    assert!(decap::remove(&place.path, "lbx0").unwrap());
    assert!(!place.path.exists());
}
