//! Step 4: which target takes a new flow?

use lb_common::{
    layout::{counter::PathEvent, prefix::SourceKey, ring::SLOTS_PER_BLOCK, vip::Vip},
    maps::feature,
    verdict::Verdict,
};

use crate::{hash, path::Tables};

/// The ring uses the 32 bits of the flow's hash from here on. The tag shares its upper part with them, which does no
/// harm: each is used alone.
const SHIFT: u32 = 20;

/// Who asks: what the ring may go by.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Hash of the 5-tuple.
    pub hash: u64,
    /// The client's address: little-endian loads of its halves.
    pub source: [u64; 2],
    /// As [`crate::parse::Packet::ports`].
    pub ports: u32,
}

/// What the ring of a VIP goes by, other than the hash of the 5-tuple.
#[inline(always)]
pub const fn is_special(vip: &Vip) -> bool {
    vip.flags & (Vip::HASH_MASK | Vip::SOURCE_ROUTES) != 0
}

/// The target of a VIP that asks for another hash or has source routes.
///
/// # Errors
/// As [`pick`].
#[inline(always)]
pub fn pick_special<T: Tables>(origin: &Origin, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    let hash = if tables.has(feature::HASHES) { hash_for(origin, vip, tables) } else { origin.hash };
    let (mut base, mut slots) = (vip.ring_base, vip.ring_slots);
    if tables.has(feature::SOURCE_ROUTES) && vip.flags & Vip::SOURCE_ROUTES != 0 {
        let key = SourceKey::from_words(vip.id, origin.source);
        let group = tables.source_route(&key).and_then(|id| tables.group(id));
        if let Some(group) = group
            && group.vip == vip.id
            && group.ring_slots != 0
        {
            tables.event(PathEvent::SourceRouted);
            (base, slots) = (group.ring_base, group.ring_slots);
        }
    }
    slot(hash, base, slots, vip, tables)
}

/// The hash that decides the slot. Neither the destination address nor the protocol is in it, so that a client finds the
/// same backend of a pool by whichever VIP.
#[inline(always)]
fn hash_for<T: Tables>(origin: &Origin, vip: &Vip, tables: &T) -> u64 {
    let port = origin.ports >> 16;
    let (source, port) = match vip.flags & Vip::HASH_MASK {
        Vip::HASH_SOURCE => (origin.source, 0),
        Vip::HASH_SOURCE_PORT => (origin.source, port),
        Vip::HASH_PORT => ([0; 2], port),
        _ => return origin.hash,
    };
    hash::v6(source, [0; 2], port, 0, tables.hash_seed())
}

/// The target that the ring gives to this hash.
///
/// # Errors
/// [`Verdict::NoBackend`] if the ring is empty; [`Verdict::Inconsistent`] if it names a target that is not the VIP's.
#[inline(always)]
pub fn pick<T: Tables>(hash: u64, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    slot(hash, vip.ring_base, vip.ring_slots, vip, tables)
}

#[inline(always)]
fn slot<T: Tables>(hash: u64, base: u32, slots: u32, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    if slots == 0 {
        return Err(Verdict::NoBackend);
    }
    // A multiplication instead of a remainder: as even, and the verifier sees that it stays below the size.
    let position = ((u64::from((hash >> SHIFT) as u32) * u64::from(slots)) >> 32) as u32;
    let block = tables.ring(base.wrapping_add(position >> 5)).ok_or(Verdict::Inconsistent)?;
    let slot = block.slots.get(position as usize & (SLOTS_PER_BLOCK - 1)).ok_or(Verdict::Inconsistent)?;
    let id = vip.target_base.wrapping_add(u32::from(*slot));
    let target = tables.target(id).ok_or(Verdict::Inconsistent)?;
    // A target that went down after this packet read the ring is still the VIP's: one packet more reaches it.
    if target.vip == vip.id { Ok(id) } else { Err(Verdict::Inconsistent) }
}
