use std::collections::BTreeSet;

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

use super::*;
use crate::workload::{Case, Workload};

/// The packet as the replaying program makes it.
fn packet(frame: &Frame, flow: u32) -> Vec<u8> {
    let setup = frame.setup(1 << 24, Order::Ascending);
    let fields = setup.fields(flow);
    let mut bytes = frame.bytes().to_vec();
    let mut put = |at: u32, value: &[u8]| {
        let at = at as usize;
        if at != 0 {
            bytes[at..at + value.len()].copy_from_slice(value);
        }
    };
    put(setup.source_at, &fields.source.to_ne_bytes());
    put(setup.destination_at, &fields.destination.to_ne_bytes());
    put(setup.port_at, &fields.port.to_ne_bytes());
    put(setup.ip_sum_at, &fields.ip_sum.to_ne_bytes());
    put(setup.transport_sum_at, &fields.transport_sum.to_ne_bytes());
    bytes
}

/// Those whose flows differ by address and port.
fn flowing() -> impl Iterator<Item = Workload> {
    let fixed = [Case::Packets, Case::Vips];
    Case::ALL.into_iter().filter(move |case| !fixed.contains(case)).flat_map(Case::workloads)
}

/// Source address and port, after a look at the checksums.
fn checked(bytes: &[u8]) -> (Vec<u8>, Option<u16>) {
    let headers = PacketHeaders::from_ethernet_slice(bytes).unwrap();
    let transport = headers.transport.unwrap();
    let mut anew = transport.clone();
    let source = match headers.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            anew.update_checksum_ipv4(&ip, headers.payload.slice()).unwrap();
            ip.source.to_vec()
        }
        NetHeaders::Ipv6(ip, _) => {
            anew.update_checksum_ipv6(&ip, headers.payload.slice()).unwrap();
            ip.source.to_vec()
        }
        NetHeaders::Arp(_) => panic!("arp"),
    };
    assert_eq!(transport, anew);
    let port = match transport {
        TransportHeader::Udp(udp) => Some(udp.source_port),
        TransportHeader::Tcp(tcp) => Some(tcp.source_port),
        _ => None,
    };
    (source, port)
}

#[test]
fn every_flow_of_every_packet_is_valid_and_its_own() {
    for workload in flowing() {
        let mut seen = BTreeSet::new();
        let flows = [0, 1, 1023, 1024, 1025, (1 << 20) - 1, 1 << 20, (1 << 24) - 1];
        for flow in flows {
            let key = checked(&packet(&workload.frame, flow));
            assert!(seen.insert(key) || workload.frame.setup.port_at == 0, "{} flow {flow}", workload.packet);
        }
    }
}

#[test]
fn flows_are_divided_evenly_among_destinations() {
    let frame = Case::Rotate.workloads()[0].frame.clone().to_many(1000);
    let setup = frame.setup(1 << 12, Order::Scattered);
    let mut counts = vec![0; 1000];
    for flow in 0..1 << 12 {
        counts[(setup.fields(flow).destination.to_be() - setup.destination) as usize] += 1;
    }
    assert!(counts.iter().all(|count| (4..=5).contains(count)), "{counts:?}");
    checked(&packet(&frame, (1 << 24) - 1));
    assert_ne!(packet(&frame, 0), packet(&frame, 1 << 23));
}

#[test]
fn a_flow_by_itself_has_the_fields_that_it_has_among_others() {
    let setup = Case::Rotate.workloads()[0].frame.clone().to_many(300).setup(1 << 14, Order::Ascending);
    for flow in [0, 1, 1024, 5000, (1 << 14) - 1] {
        let (alone, among) = (setup.alone(flow).fields(0), setup.fields(flow));
        assert_eq!(
            (alone.source, alone.port, alone.destination),
            (among.source, among.port, among.destination),
            "{flow}"
        );
        assert_eq!((alone.ip_sum, alone.transport_sum), (among.ip_sum, among.transport_sum), "{flow}");
    }
}

#[test]
fn flow_0_is_the_frame_as_built() {
    for workload in Case::ALL.iter().flat_map(|case| case.workloads()) {
        assert_eq!(packet(&workload.frame, 0), workload.frame.bytes(), "{}", workload.packet);
    }
}

#[test]
fn packets_that_are_not_plain_are_valid() {
    for workload in [Case::Packets, Case::Vips].into_iter().flat_map(Case::workloads) {
        let bytes = workload.frame.bytes();
        let headers = PacketHeaders::from_ethernet_slice(bytes).expect(workload.packet);
        match headers.net.unwrap() {
            NetHeaders::Ipv4(ip, _) => {
                assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "{}", workload.packet);
                assert_eq!(workload.frame.is_v6(), workload.packet.contains('6') && !workload.packet.contains("gue"));
            }
            NetHeaders::Ipv6(ip, extensions) => {
                assert!(workload.frame.is_v6() && !extensions.is_empty(), "{} {ip:?}", workload.packet);
            }
            NetHeaders::Arp(_) => panic!("arp"),
        }
        // Of a fragment the rest is elsewhere.
        assert_eq!(headers.transport.is_none(), workload.packet.starts_with("frag"), "{}", workload.packet);
        if headers.transport.is_some() {
            checked(bytes);
        }
    }
}

#[test]
fn every_flow_comes_once_per_pass_in_either_order() {
    let workload = &Case::Rotate.workloads()[0];
    for order in [Order::Scattered, Order::Ascending] {
        for flows in [1_u32, 2, 8, 1024, 1 << 17] {
            let setup = workload.frame.setup(flows, order);
            let pass = |n: u32| (n * flows..(n + 1) * flows).map(|n| setup.flow(n.into())).collect::<BTreeSet<u32>>();
            let all: BTreeSet<u32> = (0..flows).collect();
            assert_eq!((pass(0), pass(3)), (all.clone(), all), "{flows} {order:?}");
        }
    }
}

#[test]
fn a_run_goes_on_where_another_one_ended() {
    let whole = Case::SynNew.workloads()[0].frame.setup(1 << 10, Order::Scattered);
    let rest = Setup { first: 300, ..whole };
    assert!((0..2000).all(|n| rest.flow(n) == whole.flow(n + 300)));
}

#[test]
fn scattered_flows_are_no_neighbours() {
    let setup = Case::Rotate.workloads()[0].frame.setup(1 << 17, Order::Scattered);
    let near = (0..1000_u64).filter(|&n| setup.flow(n).abs_diff(setup.flow(n + 1)) < 64).count();
    assert!(near < 10, "{near} of 1000");
}

#[test]
fn frames_are_as_long_as_asked_for() {
    let lengths = |case: Case| case.workloads().iter().map(|w| w.frame.bytes().len()).collect::<Vec<_>>();
    // A TCP segment over IPv6 does not fit in 64 bytes.
    assert_eq!(lengths(Case::Hit), [64, 64, 64, 74, 64, 64, 1400]);
}
