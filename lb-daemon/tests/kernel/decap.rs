//! `lb decap`: in place, replaced in place, off.

use std::{net::UdpSocket, process::Command, thread, time::Duration};

use lb_common::maps::{DECAP_PROGRAM, DecapVerdict};
use lb_daemon::{
    dataplane::kernel::{
        AttachError, Change, Hook, OpenError,
        decap::{self, Installed, Settings},
    },
    model::AttachMode,
};

use super::place::{Net, Place, chain, run};

/// Header of every frame here.
const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

/// IPv4 with an empty UDP datagram.
fn inner() -> Vec<u8> {
    [&ipv4(28, 17, [198, 51, 100, 7], [192, 0, 2, 10])[..], &[0x30, 0x39, 0, 53, 0, 8, 0, 0]].concat()
}

/// An Ethernet frame: IPv4 to `destination`, in it IPv4.
fn tunnelled(destination: [u8; 4]) -> Vec<u8> {
    [&ETHERNET[..], &ipv4(48, 4, [172, 16, 0, 1], destination), &inner()].concat()
}

/// The same by GUE at a port.
fn gue(source: [u8; 4], port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let udp = [0x12, 0x34, high, low, 0, 36, 0, 0];
    [&ETHERNET[..], &ipv4(56, 17, source, [10, 9, 0, 1]), &udp, &inner()].concat()
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

fn settings(addresses: &[&str]) -> Settings {
    Settings::new(addresses.iter().map(|text| text.parse().unwrap()))
}

fn install(place: &Place, interface: &str, settings: Settings) -> Installed {
    decap::install(&place.path, interface, AttachMode::Auto, settings)
        .unwrap_or_else(|error| panic!("{}", chain(&error)))
}

#[test]
fn unwraps_for_the_interfaces_own_addresses_or_those_given() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    run("ip", &["addr", "add", "10.9.0.1/24", "dev", "lbx0"]);
    run("ip", &["addr", "add", "2001:db8:9::1/64", "dev", "lbx0"]);
    let install = |addresses: &[&str]| install(&place, "lbx0", settings(addresses));
    let first = install(&[]);
    let own: Vec<String> = first.settings.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["10.9.0.1", "2001:db8:9::1"], "all but link-local ones");
    assert_eq!((first.attached.hook, first.attached.change), (Hook::Native, Change::Made));
    assert_eq!(place.bpftool("prog", "decap/prog-lbx0")["name"], DECAP_PROGRAM);
    send(&place, &tunnelled([10, 9, 0, 2]));
    assert_eq!(unwrapped(&place), 0);
    send(&place, &tunnelled([10, 9, 0, 1]));
    assert_eq!(unwrapped(&place), 1);

    let link = place.id("link", "decap/link-lbx0");
    let second = install(&["10.9.0.2"]);
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
fn replaces_all_its_settings_at_once() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let count = |verdict| decap::counters(&place.path, "lbx0").unwrap()[&verdict];
    let first = install(&place, "lbx0", settings(&["10.9.0.1", "2001:db8:9::1"]));
    assert_eq!(decap::settings(&place.path, "lbx0").unwrap(), first.settings);
    send(&place, &gue([10, 9, 0, 7], 6080));
    assert_eq!(count(DecapVerdict::GueUnwrappedV4), 1);
    send(&place, &gue([10, 9, 0, 7], 7000));
    assert_eq!(count(DecapVerdict::GueUnwrappedV4), 1, "another port");

    let link = place.id("link", "decap/link-lbx0");
    let sources = ["10.9.0.8/31", "::/0", "2001:db8::/32"].map(|text| text.parse().unwrap()).into();
    let other = Settings { sources, gue_port: 7000, ..settings(&["10.9.0.1"]) };
    install(&place, "lbx0", other.clone());
    assert_eq!(decap::settings(&place.path, "lbx0").unwrap(), other, "read back from the pinned tables");
    assert_eq!(place.bpftool("map", "decap/sources-lbx0")["type"], "lpm_trie");
    assert_eq!(place.id("link", "decap/link-lbx0"), link, "replaced in place");
    let pins = ["addresses", "counters", "gue-port", "link", "prog", "sources"];
    let pins: Vec<String> = pins.iter().map(|what| format!("decap/{what}-lbx0")).collect();
    assert_eq!(place.names(), [&["decap".to_owned()][..], &pins].concat());
    for (source, port, unwrapped, foreign) in [
        ([10, 9, 0, 7], 7000, 1, 1),
        ([10, 9, 0, 8], 7000, 2, 1),
        ([10, 9, 0, 9], 7000, 3, 1),
        ([10, 9, 0, 10], 7000, 3, 2),
        ([10, 9, 0, 8], 6080, 3, 2),
    ] {
        send(&place, &gue(source, port));
        let seen = (count(DecapVerdict::GueUnwrappedV4), count(DecapVerdict::ForeignSource));
        assert_eq!(seen, (unwrapped, foreign), "{source:?} {port}");
    }
    send(&place, &tunnelled([10, 9, 0, 1]));
    assert_eq!((count(DecapVerdict::UnwrappedV4), count(DecapVerdict::ForeignSource)), (0, 3));
    install(&place, "lbx0", settings(&["10.9.0.1"]));
    send(&place, &tunnelled([10, 9, 0, 1]));
    assert_eq!(count(DecapVerdict::UnwrappedV4), 1, "from anywhere again");
    assert!(decap::remove(&place.path, "lbx0").unwrap());
    assert!(!place.path.exists());
}

#[test]
fn misses_no_packet_while_it_is_replaced() {
    const DATAGRAMS: u64 = 2000;
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mac = "02:00:00:00:00:77";
    run("ip", &["link", "set", "lbx0", "address", mac]);
    // To an address behind lbx1's wire, so to lbx0.
    run("ip", &["addr", "add", "10.9.1.1/24", "dev", "lbx1"]);
    run("ip", &["neigh", "add", "10.9.1.77", "lladdr", mac, "dev", "lbx1"]);
    install(&place, "lbx0", settings(&["10.9.1.77"]));
    let socket = UdpSocket::bind("10.9.1.1:0").unwrap();
    let sender = thread::spawn(move || {
        for _ in 0..DATAGRAMS {
            socket.send_to(&inner(), "10.9.1.77:6080").unwrap();
            thread::sleep(Duration::from_micros(200));
        }
    });
    let mut replaced = 0;
    while !sender.is_finished() {
        // What changes is of no concern to these packets.
        let sources = if replaced % 2 == 0 { vec!["10.9.1.0/24"] } else { vec![] };
        let sources = sources.into_iter().map(|text| text.parse().unwrap()).collect();
        install(&place, "lbx0", Settings { sources, ..settings(&["10.9.1.77"]) });
        replaced += 1;
    }
    sender.join().unwrap();
    assert!(replaced > 2, "{replaced}: nothing was tested");
    // The last ones may still be on their way.
    let count = || decap::counters(&place.path, "lbx0").unwrap()[&DecapVerdict::GueUnwrappedV4];
    for _ in 0..100 {
        if count() == DATAGRAMS {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(count(), DATAGRAMS, "replaced {replaced} times");
    assert!(decap::remove(&place.path, "lbx0").unwrap());
}

#[test]
fn lives_beside_a_balancer() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let kernel = place.open();
    let settings = || settings(&["10.9.0.1"]);
    let on = |interface| decap::install(&place.path, interface, AttachMode::Generic, settings()).map(|_| ());
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
    let refusal = |interface| decap::install(&place.path, interface, AttachMode::Auto, settings(&[])).unwrap_err();
    assert!(matches!(refusal("lbx0"), AttachError::NoAddress { .. }));
    assert!(matches!(refusal("nosuch"), AttachError::NoInterface { .. }));
    assert!(!place.path.exists());
}

#[test]
fn leaves_nothing_behind_when_it_is_refused() {
    let Some(place) = Place::new() else { return };
    let Some(other) = Place::new() else { return };
    let _net = Net::new();
    let install =
        |place: &Place, interface, mode| decap::install(&place.path, interface, mode, settings(&["10.9.0.1"]));
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
    let install = |mode| decap::install(&place.path, "lo", mode, settings(&["10.9.0.1"]));
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
    install(&place, "lbx0", settings(&["10.9.0.1"]));
    assert!(decap::counters(&place.path, "lbx0").is_ok());
    run("ip", &["link", "del", "lbx0"]);
    assert!(matches!(decap::counters(&place.path, "lbx0"), Err(OpenError::NoDecap { .. })));
    assert!(decap::remove(&place.path, "lbx0").unwrap());
    assert!(!place.path.exists());
}
