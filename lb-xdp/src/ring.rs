//! Step 4: which target takes a new flow?

use lb_common::{
    layout::{
        counter::PathEvent,
        prefix::SourceKey,
        ring::{SLOTS_PER_BLOCK, UNTRACKED},
        vip::Vip,
    },
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

/// The target of an adaptive VIP's flow in a slot that is not tracked.
///
/// # Errors
/// As [`pick`]. While no backend takes new flows the ring is the last one of those that did, who may have left since:
/// [`Verdict::NoBackend`] if it names one that serves no more.
#[inline(always)]
pub fn pick_untracked<T: Tables>(hash: u64, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    if vip.flags & Vip::CLOSED == 0 {
        return pick(hash, vip, tables);
    }
    let id = vip.target_base.wrapping_add(u32::from(read(hash, vip.ring_base, vip.ring_slots, tables)?));
    if serves(id, vip, tables) { Ok(id) } else { Err(Verdict::NoBackend) }
}

#[inline(always)]
fn slot<T: Tables>(hash: u64, base: u32, slots: u32, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    if slots == 0 {
        return Err(Verdict::NoBackend);
    }
    let id = vip.target_base.wrapping_add(u32::from(read(hash, base, slots, tables)?));
    own(id, vip, tables)
}

/// A target that a ring leads to, if it is the VIP's.
#[inline(always)]
fn own<T: Tables>(id: u32, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    let target = tables.target(id).ok_or(Verdict::Inconsistent)?;
    // A target that went down after this packet read the ring is still the VIP's: one packet more reaches it.
    if target.vip == vip.id { Ok(id) } else { Err(Verdict::Inconsistent) }
}

/// Whether a target takes packets of the VIP's flows that it has.
#[inline(always)]
pub fn serves<T: Tables>(id: u32, vip: &Vip, tables: &T) -> bool {
    tables.target(id).is_some_and(|target| target.serves == vip.id)
}

/// What the ring at `base`, or a history there, says of this hash.
#[inline(always)]
fn read<T: Tables>(hash: u64, base: u32, slots: u32, tables: &T) -> Result<u16, Verdict> {
    // A multiplication instead of a remainder: as even, and the verifier sees that it stays below the size.
    let position = ((u64::from((hash >> SHIFT) as u32) * u64::from(slots)) >> 32) as u32;
    let block = tables.ring(base.wrapping_add(position >> 5)).ok_or(Verdict::Inconsistent)?;
    let slot = block.slots.get(position as usize & (SLOTS_PER_BLOCK - 1)).ok_or(Verdict::Inconsistent)?;
    Ok(*slot)
}

/// A slot of an adaptive VIP's ring whose target changed while flows may go on; zeros of one that is not tracked. Not an
/// `Option`, whose numbers are left undefined where there is none: kernel 6.1 refuses to copy these on the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// Its target.
    pub current: u32,
    /// The one that it had when it was last untracked: flows that are not remembered are there, whose packets are none that
    /// open one.
    pub previous: u32,
}

impl Tracked {
    /// None.
    pub const NONE: Self = Self { current: 0, previous: 0 };

    /// Whether the slot is tracked: number 0 is no target's.
    #[inline(always)]
    pub const fn is_tracked(self) -> bool {
        self.previous != 0
    }

    /// Where a flow that is not remembered has been all the time, while that serves; else the current one.
    ///
    /// # Errors
    /// As [`pick`].
    #[inline(always)]
    pub fn previous_if_serving<T: Tables>(self, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
        if serves(self.previous, vip, tables) { Ok(self.previous) } else { self.current(vip, tables) }
    }

    /// The current target.
    ///
    /// # Errors
    /// As [`pick`].
    #[inline(always)]
    pub fn current<T: Tables>(self, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
        if vip.flags & Vip::CLOSED == 0 { own(self.current, vip, tables) } else { Err(Verdict::NoBackend) }
    }
}

/// Whether a VIP's flows are remembered only where the ring changed. One without a ring remembers what it knows.
#[inline(always)]
pub fn is_adaptive<T: Tables>(vip: &Vip, tables: &T) -> bool {
    tables.has(feature::ADAPTIVE) && vip.flags & Vip::ADAPTIVE != 0 && vip.ring_slots != 0
}

/// The slot of an adaptive VIP; [`Tracked::NONE`] if it is not tracked.
///
/// # Errors
/// As [`pick`].
#[inline(always)]
pub fn tracked<T: Tables>(hash: u64, vip: &Vip, tables: &T) -> Result<Tracked, Verdict> {
    if !vip.has_history() {
        return Ok(Tracked::NONE);
    }
    let previous = read(hash, vip.history_base, vip.ring_slots, tables)?;
    if previous == UNTRACKED {
        return Ok(Tracked::NONE);
    }
    // Which of the two may be used is asked where it is: a ring that nobody takes new flows by names who left, too.
    let current = read(hash, vip.ring_base, vip.ring_slots, tables)?;
    let id = |place: u16| vip.target_base.wrapping_add(place.into());
    Ok(Tracked { current: id(current), previous: id(previous) })
}
