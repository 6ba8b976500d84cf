use std::{collections::BTreeSet, net::Ipv4Addr};

use lb_common::layout::{flow::FlowState, vip::TCP};
use proptest::prelude::*;

use super::*;
use crate::{
    dataplane::{Dataplane, memory::Memory},
    model,
    nexthop::NextHop,
    plan::wanted::WantedTarget,
};

mod chosen;
pub(crate) mod lab;
mod named;
mod patched;
mod previewed;
mod selected;
mod short;

use lab::{Lab, ROOMY, check_reached, kept_numbers};

/// An address of the pool that the generated VIPs draw from, both families.
fn address(number: u8) -> IpAddr {
    if number.is_multiple_of(3) {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)])
    } else {
        Ipv4Addr::new(10, 0, 0, number).into()
    }
}

fn hop(mtu: u32) -> NextHop {
    NextHop { ifindex: 2, source_mac: [2; 6], mac: [4; 6], mtu, tags: [[0; 4]; 2], on_link: false }
}

fn serving(weight: u32) -> WantedTarget {
    let (encap, local) = (model::Encap::Ipip, false);
    WantedTarget { weight, disposition: Disposition::Serving, next_hop: Some(hop(1500)), encap, local }
}

fn key(number: u8) -> VipKey {
    // Two services on each IPv4 address, one on each IPv6 address.
    let address = if number < 4 { Ipv4Addr::new(192, 0, 2, number / 2).into() } else { address(number * 3) };
    VipKey::service(super::super::target::address_bytes(address), [0, number], TCP)
}

fn any_target() -> impl Strategy<Value = WantedTarget> {
    let disposition =
        prop_oneof![6 => Just(Disposition::Serving), 1 => Just(Disposition::Draining), 1 => Just(Disposition::Down)];
    let next_hop = prop_oneof![6 => Just(Some(hop(1500))), 1 => Just(Some(hop(9000))), 1 => Just(None)];
    (0_u32..4, disposition, next_hop).prop_map(|(weight, disposition, next_hop)| {
        let disposition = if next_hop.is_none() { Disposition::Down } else { disposition };
        WantedTarget { weight, disposition, next_hop, ..serving(0) }
    })
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let backends = prop::collection::btree_map((0_u8..24).prop_map(address), any_target(), 0..=12);
    let tracking = prop_oneof![4 => Just(0), 3 => Just(Vip::ADAPTIVE), 1 => Just(Vip::UNTRACKED)];
    let vip = (prop::sample::select(vec![7, 31, 61]), tracking, backends)
        .prop_map(|(ring_size, flags, backends)| WantedVip { ring_size, flags, backends, ..WantedVip::default() });
    prop::collection::btree_map((0_u8..6).prop_map(key), vip, 0..=5)
        .prop_map(|vips| Wanted { vips, ..Wanted::default() })
}

/// States to reach one after the other, each with the ops at which it fails first.
fn any_history(wanted: impl Strategy<Value = Wanted>) -> impl Strategy<Value = Vec<(Wanted, Vec<usize>)>> {
    prop::collection::vec((wanted, prop::collection::vec(0_usize..60, 0..3)), 1..7)
}

/// So many cases, or as many as `PROPTEST_CASES` says: [`ProptestConfig::with_cases`] alone would not heed it.
fn cases(few: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(few))
}

/// Tables so small that plans must free before they fill, and write rings in batches.
const TIGHT: Capacity = Capacity { vips: 12, targets: 60, ring_blocks: 8, ..ROOMY };

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn every_history_ends_as_wanted(history in any_history(chosen::any_wanted())) {
        let mut lab = Lab::new(ROOMY);
        for (wanted, faults) in &history {
            let before = lab.memory.observe().unwrap();
            lab.reach(wanted, faults).unwrap();
            let after = lab.memory.observe().unwrap();
            check_reached(&mut lab, wanted);
            if faults.is_empty() {
                kept_numbers(&before, &after);
            }
        }
    }

    #[test]
    fn tight_tables_are_no_less_safe(history in any_history(any_wanted())) {
        let mut lab = Lab::new(TIGHT);
        for (wanted, faults) in &history {
            // What does not fit is refused and leaves everything as it was; but a failure must not make it so.
            if lab.clone().reach(wanted, &[]).is_ok() {
                lab.reach(wanted, faults).unwrap();
                check_reached(&mut lab, wanted);
            }
        }
    }

    #[test]
    fn what_is_needed_fits(wanted in chosen::any_wanted()) {
        let mut lab = Lab::new(needs(&wanted));
        lab.reach(&wanted, &[]).unwrap();
    }
}

proptest! {
    // Each case is as many runs as the second plan has ops.
    #![proptest_config(cases(8))]

    #[test]
    fn a_failure_at_any_op_is_made_good(first in chosen::any_wanted(), second in chosen::any_wanted()) {
        let mut lab = Lab::new(ROOMY);
        lab.reach(&first, &[]).unwrap();
        let ops = plan(&lab.memory.observe().unwrap(), &second, &mut RingCache::default()).unwrap();
        for fault in 0..ops.len() {
            let mut lab = lab.clone();
            lab.reach(&second, &[fault]).unwrap();
            check_reached(&mut lab, &second);
        }
    }
}
