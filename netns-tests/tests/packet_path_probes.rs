//! Health probes, one packet at a time: what the program makes of a packet of this host, byte for byte.

use lb_common::{
    layout::target::{Encap, Target},
    maps::ProbeTuning,
};
use netns_tests::{
    packet::{
        Frame, Given,
        frame::{BALANCER, flags::SYN},
        given::SOURCE_MAC,
        probe::{Fate, Prober},
    },
    scenario::is_root,
};

const TAG: u32 = 0x1b00_0000;
/// An interface that a frame did not come in by.
const AWAY: u32 = 4000;
const TAGS: [&[[u8; 4]]; 3] = [&[], &[[0x81, 0, 0, 7]], &[[0x88, 0xa8, 0, 5], [0x81, 0, 0, 7]]];

fn probes() -> ProbeTuning {
    ProbeTuning { tag: TAG, ifindex: 3, mac: BALANCER, pad: [0; 2] }
}

/// A VIP of each family with one backend, numbers 1 and 2, reached in this way.
fn site(encap: Encap, tags: &[[u8; 4]]) -> Given {
    let backend = if matches!(encap, Encap::IpipV6 | Encap::GueV6) { "fd00::11" } else { "10.0.0.11" };
    let given = Given::nothing().vip("192.0.2.10:443", 6, &[backend]).vip("[2001:db8::10]:443", 6, &[backend]);
    (1..=2).fold(given, |given, id| {
        given.encap(id, encap).target(id, |target| {
            target.ifindex = AWAY;
            for (place, tag) in target.tags.iter_mut().zip(tags) {
                *place = *tag;
            }
        })
    })
}

fn packets() -> [Frame; 2] {
    let v4 = Frame::tcp("198.51.100.7:51000", "192.0.2.10:443", SYN);
    [v4, Frame::tcp("[2001:db8:c::7]:51000", "[2001:db8::10]:443", SYN)]
}

fn prober(given: &Given) -> Prober {
    Prober::new(given, probes()).expect("the program")
}

#[test]
fn a_probe_leaves_as_data_does_in_every_encapsulation() {
    if !is_root() {
        return;
    }
    for encap in [Encap::IpipV4, Encap::IpipV6, Encap::GueV4, Encap::GueV6, Encap::L2] {
        for tags in TAGS {
            let given = site(encap, tags);
            let prober = prober(&given);
            for (id, packet) in (1..).zip(packets()) {
                for payload in [0, 1, 2, 3, 700, 1200] {
                    let udp = if packet.is_v4() {
                        Frame::udp("198.51.100.7:51000", "192.0.2.10:53")
                    } else {
                        Frame::udp("[2001:db8:c::7]:51000", "[2001:db8::10]:53")
                    };
                    for packet in [packet.clone(), udp] {
                        let packet = packet.payload(&vec![0xa5; payload]);
                        let sent = prober.send(&packet.build(), TAG | id).expect("a test run");
                        // The mark has done its work.
                        let expected = Fate::Redirected { frame: given.sent(&packet, id), mark: 0 };
                        assert_eq!(sent, expected, "{encap:?}, {tags:?}, {payload} bytes: {packet:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_backend_that_is_down_is_probed_all_the_same() {
    if !is_root() {
        return;
    }
    let given = site(Encap::IpipV4, &[]).target(1, |target| (target.serves, target.flags) = (0, Target::DRAINING));
    let [packet, _] = packets();
    let sent = prober(&given).send(&packet.build(), TAG | 1).expect("a test run");
    assert_eq!(sent, Fate::Redirected { frame: given.sent(&packet, 1), mark: 0 });
}

#[test]
fn without_an_interface_of_its_own_a_probe_leaves_by_the_one_that_is_given() {
    if !is_root() {
        return;
    }
    let given = site(Encap::IpipV4, &[]).target(1, |target| target.ifindex = 0);
    let [packet, _] = packets();
    // As if it had come in by that interface, to the balancer's address.
    let from = packet.clone().macs(SOURCE_MAC, SOURCE_MAC).build();
    let sent = prober(&given).send(&from, TAG | 1).expect("a test run");
    assert_eq!(sent, Fate::Redirected { frame: given.sent(&packet, 1), mark: 0 });
}

#[test]
fn nothing_else_passes() {
    if !is_root() {
        return;
    }
    let given = site(Encap::IpipV4, &[]).target(2, |target| target.mtu = 100);
    let prober = prober(&given);
    let [v4, v6] = packets();
    let long = v6.clone().payload(&[0; 41]);
    let echo = Frame::echo("198.51.100.7", "192.0.2.10", 1);
    for (name, packet, mark) in [
        ("no mark", &v4, 1),
        ("another tag", &v4, 0x1c00_0000 | 1),
        ("more than the tag", &v4, 0x9b00_0000 | 1),
        ("number 0", &v4, TAG),
        ("a number that no target has", &v4, TAG | 0x28),
        ("a number outside of the table", &v4, TAG | 0xf_ffff),
        ("not TCP or UDP", &echo, TAG | 1),
        ("longer than the way takes", &long, TAG | 2),
    ] {
        assert_eq!(prober.send(&packet.build(), mark).expect("a test run"), Fate::Dropped, "{name}");
    }
    assert_ne!(prober.send(&v6.payload(&[0; 40]).build(), TAG | 2).expect("a test run"), Fate::Dropped);
}
