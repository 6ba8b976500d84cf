//! Step 4: which target takes a new flow?

use lb_common::{
    layout::{ring::SLOTS_PER_BLOCK, vip::Vip},
    verdict::Verdict,
};

use crate::path::Tables;

/// The ring uses the 32 bits of the flow's hash from here on. The tag shares its upper part with them, which does no
/// harm: each is used alone.
const SHIFT: u32 = 20;

/// The target that the ring gives to this hash.
///
/// # Errors
/// [`Verdict::NoBackend`] if the ring is empty; [`Verdict::Inconsistent`] if it names a target that is not the VIP's.
#[inline(always)]
pub fn pick<T: Tables>(hash: u64, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    if vip.ring_slots == 0 {
        return Err(Verdict::NoBackend);
    }
    // A multiplication instead of a remainder: as even, and the verifier sees that it stays below the size.
    let position = ((u64::from((hash >> SHIFT) as u32) * u64::from(vip.ring_slots)) >> 32) as u32;
    let block = tables.ring(vip.ring_base.wrapping_add(position >> 5)).ok_or(Verdict::Inconsistent)?;
    let slot = block.slots.get(position as usize & (SLOTS_PER_BLOCK - 1)).ok_or(Verdict::Inconsistent)?;
    let id = vip.target_base.wrapping_add(u32::from(*slot));
    let target = tables.target(id).ok_or(Verdict::Inconsistent)?;
    // A target that went down after this packet read the ring is still the VIP's: one packet more reaches it.
    if target.vip == vip.id { Ok(id) } else { Err(Verdict::Inconsistent) }
}
