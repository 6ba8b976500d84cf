//! Version 3 as the next layout reads it.

use lb_common::{
    layout::{
        flow::{FlowEntry, FlowState},
        vip::Vip,
    },
    maps,
};

use super::{Ends, OpenError, Origin, copy, same_size};

pub(super) const ORIGIN: Origin = Origin {
    changed: &[maps::VIPS, maps::PREFIX_VIPS, maps::TARGETS, maps::FLOWS],
    size: same_size,
    copy: copy_changed,
    entry,
};

/// Bytes of a VIP's value.
const VIP: usize = 40;
/// The numbers of a target that have changed places: its flags and its MTU.
const FLAGS: usize = 2;
const MTU: usize = 13;

fn copy_changed(ends: Ends) -> Result<(), OpenError> {
    match ends.name {
        // Read as if their values were of this layout, which are of the same size.
        maps::VIPS => ends.vips(|old| vip(zerocopy::transmute!(old))),
        maps::PREFIX_VIPS => ends.trie::<[u8; VIP], Vip>(vip),
        maps::TARGETS => ends.words::<8>(target),
        _ => copy::same(ends),
    }
}

fn vip(old: [u8; VIP]) -> Vip {
    let numbers: [u32; VIP / 4] = zerocopy::transmute!(old);
    let [
        id,
        flags,
        target_base,
        target_count,
        ring_base,
        ring_slots,
        new_flow_ns,
        quic_lengths,
        wildcard_bits,
        history_base,
    ] = numbers;

    Vip {
        id,
        flags,
        target_base,
        target_count,
        ring_base,
        ring_slots,
        new_flow_ns,
        quic_lengths,
        wildcard_bits,
        history_base,
        ..Vip::default()
    }
}

fn target(old: [u64; 8]) -> [u64; 8] {
    let mut numbers: [u32; 16] = zerocopy::transmute!(old);
    numbers.swap(FLAGS, MTU);
    zerocopy::transmute!(numbers)
}

/// From the top `tag:28 | target:20 | time:12 | stray:1 | state:3`.
fn entry(old: u64) -> FlowEntry {
    if old == 0 {
        return FlowEntry(0);
    }
    let part = |at: u32, bits: u32| u32::try_from(old >> at & ((1 << bits) - 1)).unwrap_or_default();
    let state = FlowState::try_from(part(0, 3)).unwrap_or(FlowState::PickedUp);
    FlowEntry::new(part(36, 28), part(16, 20), part(4, 12), state).stray(part(3, 1) == 1)
}

#[cfg(test)]
mod tests {
    use lb_common::layout::target::Target;

    use super::*;

    #[test]
    fn each_field_keeps_its_meaning() {
        let numbers: [u32; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let read = vip(zerocopy::transmute!(numbers));
        assert_eq!((read.id, read.flags, read.target_base, read.target_count), (1, 2, 3, 4));
        assert_eq!((read.ring_base, read.ring_slots, read.new_flow_ns), (5, 6, 7));
        assert_eq!((read.quic_lengths, read.wildcard_bits, read.history_base), (8, 9, 10));

        let numbers: [u32; 16] = std::array::from_fn(|at| u32::try_from(at).unwrap() + 1);
        let read: Target = zerocopy::transmute!(target(zerocopy::transmute!(numbers)));
        assert_eq!((read.serves, read.vip, read.flags, read.encap), (1, 2, 3, 4));
        assert_eq!((read.ifindex, read.checksum, read.mtu), (12, 13, 14));

        let read = entry(0xabc_def0 << 36 | 77 << 16 | 1234 << 4 | 3);
        assert_eq!(read, FlowEntry::new(0xabc_def0, 77, 1234, FlowState::Established));
        assert_eq!(entry(0), FlowEntry(0));
    }
}
