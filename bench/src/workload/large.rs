//! Plain packets where there is much of everything.

use super::{
    Action, Case, FULL, OUTER4, SMALL, VIP4, Verdict, Workload, four,
    frame::{Frame, Transport},
};
use crate::balancer::{FIRST_OF_MANY, Scale, Wish};

/// Names, with the numbers of VIPs and of backends of each that they stand for: more VIPs, and more backends of one.
const SITES: [(&str, u32, u32); 10] = [
    ("vips-1", 1, 16),
    ("vips-10", 10, 16),
    ("vips-100", 100, 16),
    ("vips-1000", 1000, 16),
    ("vips-4000", 4000, 16),
    ("backends-100", 1, 100),
    ("backends-1000", 1, 1000),
    ("backends-10000", 1, 10_000),
    ("backends-65000", 1, 65_000),
    ("100x100", 100, 100),
];

/// Flows divided among many VIPs, and one VIP of many backends.
pub(super) fn many() -> Vec<Workload> {
    let row = |(packet, vips, backends)| Workload {
        frame: Frame::build(four(FIRST_OF_MANY), Transport::Udp, SMALL).to_many(vips),
        ..plain(Case::Scale, packet, Scale { sites: Some((vips, backends)), flow_table: None })
    };
    SITES.into_iter().map(row).collect()
}

/// Flows that fill a flow table.
pub(super) fn full() -> Vec<Workload> {
    vec![plain(Case::Full, "udp4", Scale { sites: None, flow_table: Some(FULL) })]
}

fn plain(case: Case, packet: &'static str, scale: Scale) -> Workload {
    Workload {
        case,
        packet,
        frame: Frame::build(four(VIP4), Transport::Udp, SMALL),
        before: None,
        wish: Wish { scale, ..Wish::default() },
        expected: Verdict { action: Action::Tx, grown: OUTER4 },
    }
}
