//! What holds for any bytes at all.

use lb_common::verdict::{Action, Verdict};
use proptest::{prelude::*, strategy::ValueTree as _};

use super::{Scene, Tunnelled, scenes};
use crate::fixture::{
    NEXT_HOP,
    frames::{Ends, echo, ends, flags::SYN, ip},
};

/// Good frames of all kinds, for and not for VIPs.
fn good() -> Vec<Vec<u8>> {
    let others = [
        ends("198.51.100.7:51000", "192.0.2.10:22").tcp(SYN),
        ends("198.51.100.7:51000", "192.0.2.11:22").tcp(SYN),
        ends("[2001:db8:c::7]:51000", "[2001:db8::99]:53").udp(),
        echo([198, 51, 100, 7].into(), [192, 0, 2, 10].into(), 1, 1, b"ping"),
        echo([0xfd00, 0, 0, 0, 0, 0, 0, 7].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10].into(), 1, 1, b"ping"),
    ];
    let to_vips = Scene::web().into_iter().map(|ends| ends.tcp(SYN)).chain(Scene::dns().map(Ends::udp));
    to_vips.chain(others).chain([with_extensions(4), with_extensions(5), later_fragment(), unreachable()]).collect()
}

/// A segment behind so many headers of destination options.
fn with_extensions(number: u8) -> Vec<u8> {
    let mut frame = Scene::web()[1].tcp(SYN);
    let headers = (0..number).rev().flat_map(|left| [if left == 0 { 6 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
    frame.splice(54..54, headers);
    frame[20] = 60;
    frame[19] += number * 8;
    frame
}

fn later_fragment() -> Vec<u8> {
    let mut frame = Scene::dns()[0].udp();
    frame[21] = 1;
    frame
}

/// "Port unreachable" about a packet of the VIP.
fn unreachable() -> Vec<u8> {
    let quoted = ends("192.0.2.10:443", "198.51.100.7:51000").tcp(SYN);
    let from_router = ends("198.51.100.1:0", "192.0.2.10:0");
    let payload: Vec<u8> = [3, 3, 0, 0, 0, 0, 0, 0].into_iter().chain(quoted[14..14 + 28].iter().copied()).collect();
    from_router.ip_of(ip(from_router, 64)).raw(etherparse::IpNumber::ICMP, &payload)
}

/// Bytes changed where headers are, and an end cut off or padded.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((12..80_usize, any::<u8>()), 0..4);
    (prop::sample::select(good()), changes, prop_oneof![4 => Just(None), 1 => (0..120_usize).prop_map(Some)]).prop_map(
        |(mut frame, changes, length)| {
            for (at, byte) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            if let Some(length) = length {
                frame.resize(length, 0xee);
            }
            frame
        },
    )
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => damaged(), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// Length of the IP packet by its own header.
fn packet_len(frame: &[u8]) -> usize {
    match frame[12..14] {
        [0x08, 0x00] => usize::from(u16::from_be_bytes([frame[16], frame[17]])),
        _ => usize::from(u16::from_be_bytes([frame[18], frame[19]])) + 40,
    }
}

fn destination_is_a_vip(frame: &[u8]) -> bool {
    let vips = [[192, 0, 2, 10], [192, 0, 2, 11]];
    match frame.get(12..14) {
        Some([0x08, 0x00]) => vips.iter().any(|vip| frame.get(30..34) == Some(vip)),
        Some([0x86, 0xdd]) => frame.get(38..54) == Some(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]),
        _ => false,
    }
}

fn demand_sense(scene: &Scene, frame: &[u8]) -> Result<(), TestCaseError> {
    let sent = scene.world.send(frame);
    let verdict = sent.exit.verdict;
    if verdict.action() != Action::Pass {
        prop_assert!(destination_is_a_vip(frame), "{:?} of a frame to no VIP", verdict);
    }
    match verdict {
        Verdict::Forwarded => {
            let tunnelled = Tunnelled::read(&sent.frame, packet_len(frame));
            prop_assert_eq!(&tunnelled.inner, &frame[14..]);
            prop_assert_eq!(tunnelled.ethernet.destination, NEXT_HOP);
        }
        Verdict::EchoReplied => {
            prop_assert_eq!(sent.frame.len(), frame.len());
            prop_assert_eq!(&sent.frame[..6], &frame[6..12]);
            // Nothing behind the ICMP sum changes.
            let icmp = if frame[12] == 0x08 { 14 + 4 * usize::from(frame[14] & 15) } else { 54 };
            prop_assert_eq!(&sent.frame[icmp + 4..], &frame[icmp + 4..]);
        }
        Verdict::Inconsistent | Verdict::NoBackend | Verdict::NoHeadroom => {
            prop_assert!(false, "{:?} with sound tables", verdict);
        }
        _ => prop_assert_eq!(&sent.frame, frame, "{:?} leaves the frame alone", verdict),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_bytes_get_a_sensible_verdict(frame in any_frame()) {
        thread_local! {
            static SCENES: [Scene; 2] = scenes();
        }
        SCENES.with(|scenes| scenes.iter().try_for_each(|scene| demand_sense(scene, &frame)))?;
    }

    #[test]
    fn the_same_frame_gets_the_same_twice(frame in any_frame()) {
        for scene in scenes() {
            let (first, second) = (scene.world.send(&frame), scene.world.send(&frame));
            // The second packet of a flow follows the first.
            prop_assert_eq!(first, second);
        }
    }
}

#[test]
fn damaged_frames_reach_every_verdict_that_sound_tables_allow() {
    // Else the properties above would show little.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    let [scene, _] = scenes();
    for _ in 0..20_000 {
        let frame = any_frame().new_tree(&mut runner).expect("a frame").current();
        seen.insert(scene.world.send(&frame).exit.verdict);
    }
    // What needs a feature, a limit or a short way is for other tests.
    let others = [
        Verdict::NoBackend,
        Verdict::NoHeadroom,
        Verdict::Inconsistent,
        Verdict::UnknownPort,
        Verdict::TooBigAnswered,
        Verdict::TooBig,
        Verdict::TooBigLimited,
        Verdict::Denied,
        Verdict::NewFlowLimit,
        Verdict::SourceLimit,
        Verdict::Local,
        Verdict::TunnelSource,
        Verdict::TunnelLoop,
        Verdict::CongestionLost,
        Verdict::Withdrawn,
    ];
    let missing: Vec<_> = Verdict::ALL.iter().filter(|one| !seen.contains(one) && !others.contains(one)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
