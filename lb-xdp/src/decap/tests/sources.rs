//! Where tunnel packets may come from.

use lb_common::{
    layout::{prefix::SourceKey, vip::mapped},
    maps::DecapVerdict,
};

use super::{TUNNEL, address, arrive_at, backend, gue, inner, inner_flows, tunnelled};
use crate::{fixture::octets, host::Backend};

/// A backend that takes packets from these prefixes alone; tests send from `172.16.3.4` and `100::102:304`.
fn only(sources: &[(&str, u32)]) -> Backend {
    let mut backend = backend();
    backend.tuning.only_sources = 1;
    let keys = sources.iter().map(|(text, bits)| (SourceKey::new(0, octets(address(text)).0, *bits), 1));
    backend.sources = keys.collect();
    backend
}

/// What such a backend makes of IP-in-IP and GUE over both families.
fn verdicts(backend: &Backend) -> [[DecapVerdict; 2]; 2] {
    let packet = inner(inner_flows()[0], 0);
    TUNNEL.map(|destination| {
        let frames = [tunnelled(&packet, destination, 0, b""), gue::gue(&packet, destination, 0)];
        frames.map(|frame| {
            let (verdict, after) = arrive_at(backend, &frame);
            assert_eq!(verdict == DecapVerdict::ForeignSource, after == frame);
            verdict
        })
    })
}

const TAKEN: [DecapVerdict; 2] = [DecapVerdict::UnwrappedV4, DecapVerdict::GueUnwrappedV4];
const FOREIGN: [DecapVerdict; 2] = [DecapVerdict::ForeignSource; 2];

#[test]
fn tunnel_packets_of_others_are_dropped() {
    assert_eq!(verdicts(&backend()), [TAKEN, TAKEN], "from anywhere");
    assert_eq!(verdicts(&only(&[])), [FOREIGN, FOREIGN], "from nowhere");
    assert_eq!(verdicts(&only(&[("172.16.0.0", 96 + 16), ("100::", 64)])), [TAKEN, TAKEN]);
    assert_eq!(verdicts(&only(&[("172.16.0.0", 96 + 16)])), [TAKEN, FOREIGN]);
    assert_eq!(verdicts(&only(&[("172.17.0.0", 96 + 16), ("100::", 64)])), [FOREIGN, TAKEN]);
    assert_eq!(verdicts(&only(&[("172.16.3.4", 128)])), [TAKEN, FOREIGN]);
    assert_eq!(verdicts(&only(&[("172.16.3.5", 128)])), [FOREIGN, FOREIGN]);
}

#[test]
fn a_longer_prefix_takes_back_what_a_shorter_one_allows() {
    let mut backend = only(&[("::", 0)]);
    assert_eq!(verdicts(&backend), [TAKEN, TAKEN]);
    backend.sources.insert(SourceKey::new(0, mapped([0; 4]), 96), 0);
    assert_eq!(verdicts(&backend), [FOREIGN, TAKEN]);
    backend.sources.insert(SourceKey::new(0, mapped([172, 16, 0, 0]), 112), 1);
    assert_eq!(verdicts(&backend), [TAKEN, TAKEN]);
}

#[test]
fn the_source_is_asked_of_before_what_is_inside_and_of_tunnel_packets_only() {
    let backend = only(&[]);
    let packet = inner(inner_flows()[0], 0);
    for destination in TUNNEL {
        let broken = &tunnelled(&packet, destination, 0, b"")[..60];
        assert_eq!(arrive_at(&backend, broken).0, DecapVerdict::ForeignSource);
        let broken = &gue::gue(&packet, destination, 0)[..70];
        assert_eq!(arrive_at(&backend, broken).0, DecapVerdict::ForeignSource);
        let mut other = gue::gue(&packet, destination, 0);
        other[gue::udp_start(destination) + 8] = 0;
        assert_eq!(arrive_at(&backend, &other).0, DecapVerdict::Untouched, "another variant of GUE");
    }
    assert_eq!(arrive_at(&backend, &packet).0, DecapVerdict::Untouched);
    assert_eq!(arrive_at(&backend, &tunnelled(&packet, "10.0.0.12", 0, b"")).0, DecapVerdict::Untouched);
}
