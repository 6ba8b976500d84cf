use lb_common::{
    layout::{target::Encap, vip::TCP},
    maps::feature,
    verdict::Verdict,
};
use proptest::prelude::*;

use super::{carry, sum_when_complete};
use crate::{
    checksum,
    fixture::{
        INGRESS, World,
        frames::{Ends, ends, flags::SYN, ip},
    },
    frame::Frame,
    host::HostFrame,
    path::Exit,
    wire::eth::Mac,
};

/// The interface of targets that name none.
const MAC: [u8; 6] = [0x02, 0, 0, 0, 0xdd, 0x01];

fn flows() -> [Ends; 2] {
    [ends("198.51.100.7:51000", "192.0.2.10:443"), ends("[2001:db8:c::7]:51000", "[2001:db8::10]:443")]
}

/// A balancer with one backend of this encapsulation, reached by an interface or by whichever comes.
fn world(encap: Encap, ifindex: u32) -> World {
    let mut world = World::new(64);
    world.tables.tuning.features = feature::GUE | feature::UNWRAPPED;
    let backend = match encap {
        Encap::IpipV6 | Encap::GueV6 => "fd00::11",
        _ => "10.0.0.11",
    };
    let backend = backend.parse().expect("an address");
    for flow in flows() {
        world.serve(flow.to.ip(), 443, TCP, &[backend]);
    }
    for id in [1, 2] {
        let target = &mut world.tables.targets[id];
        (target.encap, target.ifindex, target.mtu) = (encap as u32, ifindex, 1500);
    }
    world
}

fn probe(world: &World, id: u32, bytes: &[u8]) -> (Result<Exit, Verdict>, Vec<u8>) {
    let mut frame = HostFrame::new(bytes, u32::MAX);
    let exit = carry(&mut frame, id, Mac::from_bytes(&MAC), &world.tables);
    (exit, frame.bytes().to_vec())
}

#[test]
fn a_probe_is_wrapped_as_data_is() {
    for encap in [Encap::IpipV4, Encap::IpipV6, Encap::GueV4, Encap::GueV6, Encap::L2] {
        for (id, flow) in (1..).zip(flows()) {
            for tags in [[[0; 4]; 2], [[0x81, 0, 0, 7], [0; 4]], [[0x88, 0xa8, 0, 5], [0x81, 0, 0, 7]]] {
                let mut world = world(encap, INGRESS + 1);
                world.tables.targets[id as usize].tags = tags;
                let frame = flow.tcp(SYN);
                let data = world.send(&frame);
                let (exit, carried) = probe(&world, id, &frame);
                assert_eq!(exit, Ok(data.exit), "{encap:?}");
                assert_eq!(carried, data.frame, "{encap:?}");
            }
        }
    }
}

#[test]
fn a_probe_reaches_a_backend_that_is_down() {
    let mut world = world(Encap::IpipV4, INGRESS + 1);
    let frame = flows()[0].tcp(SYN);
    let (_, while_up) = probe(&world, 1, &frame);
    world.take_down(1);
    let (exit, carried) = probe(&world, 1, &frame);
    assert_eq!((exit.map(|exit| exit.verdict), carried), (Ok(Verdict::Forwarded), while_up));
}

#[test]
fn a_target_without_interface_is_reached_from_the_address_that_is_given() {
    let world = world(Encap::IpipV4, 0);
    let (exit, carried) = probe(&world, 1, &flows()[0].tcp(SYN));
    assert_eq!(exit, Ok(Exit { verdict: Verdict::Forwarded, ifindex: 0 }));
    assert_eq!(carried[6..12], MAC);
}

#[test]
fn what_is_no_probe_to_a_target_goes_nowhere() {
    let world = world(Encap::IpipV4, INGRESS + 1);
    let [flow, _] = flows();
    let verdict = |id, frame: &[u8]| probe(&world, id, frame).0.map(|exit| exit.verdict);
    assert_eq!(verdict(0, &flow.tcp(SYN)), Err(Verdict::Inconsistent), "a target that is free");
    assert_eq!(verdict(1 << 19, &flow.tcp(SYN)), Err(Verdict::Inconsistent), "no target");
    let long = flow.ip_of(ip(flow, 64)).segment(SYN, &[0; 1500]);
    assert_eq!(verdict(1, &long), Err(Verdict::TooBig));
    let icmp = crate::fixture::frames::echo(flow.from.ip(), flow.to.ip(), 1, 1, b"ping");
    assert_eq!(verdict(1, &icmp), Err(Verdict::NotBalanced));
}

proptest! {
    #[test]
    fn the_sum_without_the_payload_is_that_with_it(payload: Vec<u8>, port in 1_u16.., udp: bool, hops: u8) {
        for flow in flows().map(|flow| flow.with_port(port)) {
            let frame = if udp { flow.udp() } else { flow.ip_of(ip(flow, hops)).segment(SYN, &payload) };
            let frame = HostFrame::new(&frame, INGRESS);
            let whole = frame.sum(14, frame.len() - 14).expect("a packet");
            let told = sum_when_complete(&frame, 14).expect("a packet");
            // -0 and 0 are the same.
            prop_assert_eq!(checksum::fold(whole) % 0xffff, checksum::fold(told) % 0xffff);
        }
    }
}
