//! Broken packets: dropped under their own verdict if they are for a VIP, passed if not.

use lb_common::verdict::Verdict;

use super::{Scene, scenes};
use crate::{
    fixture::frames::{Ends, echo, ends, flags::ACK, ip},
    path::Exit,
};

/// Flows to a VIP's address and, otherwise alike, to another one.
fn pairs() -> Vec<(Ends, Ends)> {
    let others = ["192.0.2.99:443", "[2001:db8::99]:443", "192.0.2.99:53", "[2001:db8::99]:53"];
    let ours = Scene::web().into_iter().chain(Scene::dns());
    ours.zip(others).map(|(own, other)| (own, Ends { to: other.parse().expect("a socket address"), ..own })).collect()
}

#[track_caller]
fn demand(frame: &[u8], verdict: Verdict) {
    for scene in scenes() {
        let sent = scene.world.send(frame);
        assert_eq!(sent.exit, Exit::from(verdict), "{frame:02x?}");
        assert_eq!(sent.frame, frame);
        assert_eq!(scene.world.verdict_counter(verdict), (1, frame.len() as u64));
        assert_eq!(scene.world.flows(), []);
    }
}

/// The same break done to packets to a VIP and to another address.
#[track_caller]
fn demand_blame(verdict: Verdict, of: fn(Ends) -> Vec<u8>, applies: fn(&Ends) -> bool, damage: impl Fn(&mut Vec<u8>)) {
    for (own, other) in pairs().into_iter().filter(|(own, _)| applies(own)) {
        for (ends, verdict) in [(own, verdict), (other, Verdict::Unreadable)] {
            let mut frame = of(ends);
            damage(&mut frame);
            demand(&frame, verdict);
        }
    }
}

fn is_v4(ends: &Ends) -> bool {
    ends.from.is_ipv4()
}

fn any(_: &Ends) -> bool {
    true
}

fn segment(ends: Ends) -> Vec<u8> {
    ends.ip_of(ip(ends, 64)).segment(ACK, b"")
}

#[test]
fn an_ip_header_length_that_cannot_be() {
    for words in 0..5 {
        demand_blame(Verdict::BadHeader, segment, is_v4, |frame| frame[14] = 0x40 | words);
        demand_blame(Verdict::BadHeader, Ends::udp, is_v4, |frame| frame[14] = 0x40 | words);
    }
}

#[test]
fn an_ip_version_that_the_ethertype_denies() {
    for version in (0..16).filter(|version| *version != 4) {
        demand_blame(Verdict::BadHeader, segment, is_v4, |frame| frame[14] = version << 4 | 5);
    }
    for version in (0..16).filter(|version| *version != 6) {
        demand_blame(Verdict::BadHeader, segment, |ends| !is_v4(ends), |frame| frame[14] = version << 4);
    }
}

#[test]
fn a_header_that_is_longer_than_the_packet() {
    // Options that the packet has no room for.
    for words in 6..16 {
        demand_blame(Verdict::Truncated, segment, is_v4, |frame| {
            frame.truncate(14 + 20 + 4 * (usize::from(words) - 5) + 4);
            frame[14] = 0x40 | words;
            let length = frame.len() as u16 - 14;
            frame[16..18].copy_from_slice(&length.to_be_bytes());
        });
    }
}

#[test]
fn a_length_beyond_the_frame() {
    for more in [1_u16, 8, 1000, 60_000] {
        let longer = |frame: &mut Vec<u8>| {
            let at = if frame[12] == 0x08 { 16 } else { 18 };
            let length = u16::from_be_bytes([frame[at], frame[at + 1]]) + more;
            frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
        };
        demand_blame(Verdict::Truncated, segment, any, longer);
        demand_blame(Verdict::Truncated, Ends::udp, any, longer);
    }
}

#[test]
fn a_length_that_ends_within_the_headers_though_the_frame_goes_on() {
    for (of, header) in [(segment as fn(Ends) -> Vec<u8>, 20_u16), (Ends::udp, 8)] {
        for length in 0..header {
            demand_blame(Verdict::Truncated, of, is_v4, |frame| {
                frame.resize(200, 0xee);
                frame[16..18].copy_from_slice(&(20 + length).to_be_bytes());
            });
            demand_blame(
                Verdict::Truncated,
                of,
                |ends| !is_v4(ends),
                |frame| {
                    frame.resize(200, 0xee);
                    frame[18..20].copy_from_slice(&length.to_be_bytes());
                },
            );
        }
        // An IPv4 length that does not even hold its own header.
        for length in [0_u16, 1, 19] {
            demand_blame(Verdict::Truncated, of, is_v4, |frame| {
                frame[16..18].copy_from_slice(&length.to_be_bytes());
            });
        }
    }
}

#[test]
fn a_tcp_header_length_that_cannot_be() {
    for words in 0..5 {
        demand_blame(Verdict::BadHeader, segment, any, |frame| {
            let tcp = frame.len() - 20;
            frame[tcp + 12] = words << 4;
        });
    }
    // Options that are not there.
    for words in 6..16 {
        demand_blame(Verdict::Truncated, segment, any, |frame| {
            let tcp = frame.len() - 20;
            frame[tcp + 12] = words << 4;
            frame.resize(frame.len() + 60, 0);
        });
    }
}

#[test]
fn a_frame_cut_at_any_length() {
    for (own, other) in pairs() {
        for of in [segment as fn(Ends) -> Vec<u8>, Ends::udp] {
            let (own, other) = (of(own), of(other));
            let address_ends = if own[12] == 0x08 { 34 } else { 54 };
            for length in 0..own.len() {
                let ours = if length < address_ends { Verdict::Unreadable } else { Verdict::Truncated };
                demand(&own[..length], ours);
                demand(&other[..length], Verdict::Unreadable);
            }
        }
    }
}

#[test]
fn an_echo_request_cut_at_any_length() {
    for (from, to) in [("198.51.100.7", "192.0.2.10"), ("2001:db8:c::7", "2001:db8::10")] {
        let frame = echo(from.parse().expect("an address"), to.parse().expect("an address"), 1, 1, b"");
        let address_ends = if frame[12] == 0x08 { 34 } else { 54 };
        for length in address_ends..frame.len() {
            demand(&frame[..length], Verdict::Truncated);
        }
    }
}

#[test]
fn a_broken_packet_to_another_port_of_a_vips_address_is_dropped_too() {
    // A broken packet's port cannot be trusted to be there at all.
    let mut frame = segment(ends("198.51.100.7:51000", "192.0.2.10:22"));
    frame.truncate(14 + 20 + 2);
    demand(&frame, Verdict::Truncated);
}
