//! VLAN tags before the outer header, and what Katran makes of protocol 41.

use etherparse::IpNumber;
use lb_common::maps::DecapVerdict;
use proptest::prelude::*;

use super::{TUNNEL, arrive, enclosed, flow, gue, inner, inner_flows, tunnelled, unwrapped};
use crate::fixture::frames::{BALANCER, ROUTER};

const CUSTOMER: [u8; 4] = [0x81, 0x00, 0x60, 0x64];
const PROVIDER: [u8; 4] = [0x88, 0xa8, 0x00, 0x0a];

/// A frame with these tags.
fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], tags.as_flattened(), &frame[12..]].concat()
}

#[test]
fn up_to_two_tags_stay_in_front_of_what_was_inside() {
    for tags in [&[][..], &[CUSTOMER], &[PROVIDER], &[PROVIDER, CUSTOMER], &[CUSTOMER, CUSTOMER]] {
        for destination in TUNNEL {
            for flow in inner_flows() {
                let packet = inner(flow, 0);
                let expected = tagged(&[&ROUTER, &BALANCER, &packet[12..]].concat(), tags);
                let ipip = arrive(&tagged(&tunnelled(&packet, destination, 0, b""), tags));
                assert_eq!(ipip, (unwrapped(&packet), expected.clone()), "{tags:x?}");
                let by_gue = arrive(&tagged(&gue::gue(&packet, destination, 0), tags));
                assert_eq!(by_gue, (gue::unwrapped(&packet), expected), "{tags:x?}");
            }
        }
    }
}

#[test]
fn three_tags_and_tags_of_nothing_are_untouched() {
    let demand = |frame: &[u8]| assert_eq!(arrive(frame), (DecapVerdict::Untouched, frame.to_vec()));
    for destination in TUNNEL {
        let wrapped = tunnelled(&inner(inner_flows()[0], 0), destination, 0, b"");
        demand(&tagged(&wrapped, &[PROVIDER, CUSTOMER, CUSTOMER]));
        demand(&tagged(&wrapped, &[[0x91, 0x00, 0, 1]]));
        let double = tagged(&wrapped, &[PROVIDER, CUSTOMER]);
        for cut in 0..=14 + 8 + 19 {
            demand(&double[..cut]);
        }
    }
}

/// Katran takes the outer header for 40 bytes then, and counts by the address of a variable.
#[test]
fn protocol_41_in_ipv4_is_cut_by_the_ipv4_header_and_counted_by_what_was_inside() {
    let packet = inner(inner_flows()[1], 0);
    let wrapped = tunnelled(&packet, TUNNEL[0], 0, b"");
    assert_eq!((wrapped[23], wrapped.len()), (41, packet.len() + 20));
    let (verdict, frame) = arrive(&wrapped);
    assert_eq!((verdict, &frame[14..]), (DecapVerdict::UnwrappedV6, &packet[14..]));
    let packet = inner(inner_flows()[0], 0);
    assert_eq!(arrive(&tunnelled(&packet, TUNNEL[0], 0, b"")).0, DecapVerdict::UnwrappedV4);
}

/// In the tables these stand for IPv4 addresses, and on a wire for nothing.
#[test]
fn mapped_addresses_in_an_ipv6_header_are_no_tunnels() {
    let packet = inner(inner_flows()[0], 0);
    let to_mapped = tunnelled(&packet, "::ffff:10.0.0.11", 0, b"");
    assert_eq!(arrive(&to_mapped), (DecapVerdict::Untouched, to_mapped));
    let mut from_mapped = tunnelled(&packet, TUNNEL[1], 0, b"");
    from_mapped[22..38].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 172, 16, 3, 4]);
    assert_eq!(arrive(&from_mapped), (DecapVerdict::Untouched, from_mapped));
}

/// One outer header is cut and no more: a loop of tunnels in tunnels ends here.
#[test]
fn a_tunnel_in_a_tunnel_is_unwrapped_once() {
    let packet = inner(inner_flows()[0], 0);
    for outer in TUNNEL {
        for inside in TUNNEL {
            let once = gue::gue(&packet, inside, 0);
            let (verdict, frame) = arrive(&tunnelled(&once, outer, 0, b""));
            assert_eq!((verdict, &frame[14..]), (unwrapped(&once), &once[14..]));
            let twice = enclosed(IpNumber::UDP, &gue::datagram(&once[14..], 6080, 0), outer, 0, b"");
            let (verdict, frame) = arrive(&twice);
            assert_eq!((verdict, &frame[14..]), (gue::unwrapped(&once), &once[14..]));
        }
    }
}

proptest! {
    #[test]
    fn any_tags_stay_as_they_are(
        flow in flow(),
        destination in prop::sample::select(TUNNEL.to_vec()),
        by_gue: bool,
        tags in prop::collection::vec((prop::sample::select(vec![CUSTOMER, PROVIDER]), any::<[u8; 2]>()), 0..=2),
    ) {
        let tags: Vec<[u8; 4]> = tags.into_iter().map(|([a, b, ..], [c, d])| [a, b, c, d]).collect();
        let packet = inner(flow, 0);
        let (wrapped, verdict) = if by_gue {
            (gue::gue(&packet, destination, 0), gue::unwrapped(&packet))
        } else {
            (tunnelled(&packet, destination, 0, b""), unwrapped(&packet))
        };
        let expected = tagged(&[&ROUTER, &BALANCER, &packet[12..]].concat(), &tags);
        prop_assert_eq!(arrive(&tagged(&wrapped, &tags)), (verdict, expected));
    }
}
