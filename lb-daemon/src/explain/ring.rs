//! Rings as they lie in the tables: which slot leads to whom, and whether another lb's leads likewise.

use std::net::IpAddr;

use lb_common::layout::{ring::blocks, vip::Vip};
use sha2::{Digest, Sha256};

use crate::{
    dataplane::lookups::Lookups,
    plan::target::{address_bytes, address_of},
};

/// The target of each slot of a VIP's own ring that new flows go by, and that one's address.
pub fn slots<L: Lookups>(vip: &Vip, tables: &L) -> Vec<(u32, IpAddr)> {
    let count = vip.open_slots();
    let all = (0..blocks(count)).filter_map(|block| tables.ring(vip.ring_base.wrapping_add(block)));
    let places = all.flat_map(|block| block.slots).take(count as usize);
    let mut known: Vec<Option<IpAddr>> = Vec::new();
    let led = |place: u16| {
        let target = vip.target_base.wrapping_add(u32::from(place));
        let place = usize::from(place);
        if known.len() <= place {
            known.resize(place + 1, None);
        }
        let read = || tables.target(target).map_or(IpAddr::from([0; 4]), |target| address_of(target.outer_destination));
        (target, *known[place].get_or_insert_with(read))
    };
    places.map(led).collect()
}

/// A digest of what a ring does: equal where every flow gets the backend of the same address, on this lb and on others.
///
/// It is made of the addresses by slot, of what decides the slot, and of the seed. That is a secret, which a hash that
/// cannot be turned back keeps. Source routes are not in it.
pub fn digest(slots: impl Iterator<Item = IpAddr>, vip: &Vip, seed: u64) -> String {
    let mix = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        product ^ product >> 32
    };
    let add = |hash: u64, address: IpAddr| {
        let halves: [[u8; 8]; 2] = zerocopy::transmute!(address_bytes(address));
        halves.map(u64::from_be_bytes).into_iter().fold(hash, mix)
    };
    let order = slots.fold(0, add);
    let mode = vip.flags & Vip::HASH_MASK;
    let count = vip.open_slots();
    let parts = [&seed.to_be_bytes()[..], &mode.to_be_bytes(), &count.to_be_bytes(), &order.to_be_bytes()];
    shorten(&Sha256::digest(parts.concat()))
}

/// One digest of several.
pub fn digest_of_all<'a>(digests: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut all = Sha256::new();
    for (service, digest) in digests {
        all.update(format!("{service} {digest}\n"));
    }
    shorten(&all.finalize())
}

/// As much of a digest as people compare.
fn shorten(digest: &[u8]) -> String {
    format!("{:016x}", digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn what_steers_otherwise_has_another_digest() {
        let vip = Vip { ring_slots: 3, ..Vip::default() };
        let of = |last: [u8; 3], vip: &Vip, seed| digest(last.into_iter().map(address), vip, seed);
        let one = of([1, 2, 1], &vip, 7);
        // Neither the place in the tables nor the number of the VIP counts.
        assert_eq!(one, of([1, 2, 1], &Vip { id: 9, target_base: 40, ring_base: 8, ..vip }, 7));
        let others = [
            of([1, 1, 2], &vip, 7),
            of([1, 2, 3], &vip, 7),
            of([1, 2, 1], &vip, 8),
            of([1, 2, 1], &Vip { flags: Vip::HASH_SOURCE, ..vip }, 7),
        ];
        assert!(others.iter().all(|other| *other != one), "{others:?}");
        assert_eq!(one.len(), 16);
        // A closed VIP leads new flows nowhere, whatever ring it had.
        let nowhere = |vip: &Vip| digest([].into_iter(), vip, 7);
        assert_eq!(nowhere(&Vip { flags: Vip::CLOSED, ..vip }), nowhere(&Vip::default()));
    }
}
