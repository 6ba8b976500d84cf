//! Puts VIPs in force, each with its ring.

use std::net::IpAddr;

use lb_common::layout::{ring::blocks, vip::Vip};

use super::{
    RingCache,
    diff::PlanError,
    draft::{Draft, ring_blocks},
    place::Placed,
    rings::{Member, Recipe},
    turns::{Renewal, turns},
    wanted::{Disposition, WantedTarget, service},
};

/// Writes the rings that differ and puts VIPs in force.
///
/// # Errors
/// When there is no room for a ring beside those that it must not overwrite.
pub(super) fn install(draft: &mut Draft, placed: &[Placed], rings: &mut RingCache) -> Result<(), PlanError> {
    let start = draft.mark();
    let in_turn = in_turn(draft, placed, rings);
    if in_turn.is_err() {
        // A ring that took the wrong blocks may be all that is in the way.
        draft.back_to(start);
        if by_search(draft, placed, rings) {
            return Ok(());
        }
    }
    in_turn
}

/// One VIP after the other. Rings for which there is no room wait until those before have given up theirs.
fn in_turn(draft: &mut Draft, placed: &[Placed], rings: &mut RingCache) -> Result<(), PlanError> {
    let mut waiting: Vec<&Placed> = placed.iter().collect();
    loop {
        let before = waiting.len();
        waiting.retain(|vip| !set_vip(draft, vip, rings));
        let Some(first) = waiting.first() else { return Ok(()) };
        if !draft.settle_blocks() && waiting.len() == before {
            let (free, longest) = draft.free_blocks();
            return Err(PlanError::RingSpace {
                service: service(&first.key).map(|service| service.to_string()).unwrap_or_default(),
                needed: blocks(first.wanted.ring_size),
                longest,
                free,
                places: draft.state().capacity.ring_blocks,
            });
        }
    }
}

/// In the order that [`turns`] finds, if any; says whether it does.
fn by_search(draft: &mut Draft, placed: &[Placed], rings: &mut RingCache) -> bool {
    let mut waiting = Vec::new();
    for vip in placed {
        let recipe = recipe(vip);
        match ring_in_force(draft, vip, &recipe, rings) {
            Some(base) => put_in_force(draft, vip, base, &recipe),
            None => waiting.push((vip, recipe)),
        }
    }
    draft.settle_blocks();
    let renewal = |(vip, recipe): &(&Placed, Recipe)| Renewal {
        needed: blocks(recipe.1),
        held: draft.state().vips.get(&vip.key).map(ring_blocks).unwrap_or_default(),
    };
    let renewals: Vec<Renewal> = waiting.iter().map(renewal).collect();
    let Some(turns) = turns(draft.blocks(), &renewals) else { return false };
    for (at, base) in turns {
        let (vip, recipe) = &waiting[at];
        draft.take_blocks_at(base, recipe.1);
        draft.write_ring(base, rings.slots(recipe));
        put_in_force(draft, vip, base, recipe);
    }
    true
}

/// Puts one VIP in force with its ring; `false` if there is no room for the ring.
fn set_vip(draft: &mut Draft, vip: &Placed, rings: &mut RingCache) -> bool {
    let recipe = recipe(vip);
    let base = ring_in_force(draft, vip, &recipe, rings).or_else(|| {
        let base = draft.take_blocks(recipe.1)?;
        draft.write_ring(base, rings.slots(&recipe));
        Some(base)
    });
    if let Some(base) = base {
        put_in_force(draft, vip, base, &recipe);
    }
    base.is_some()
}

/// First block of the VIP's ring, if none has to be written: it is there, or the VIP gets none.
fn ring_in_force(draft: &Draft, vip: &Placed, recipe: &Recipe, rings: &mut RingCache) -> Option<u32> {
    if recipe.0.is_empty() {
        return Some(0);
    }
    let now = draft.state().vips.get(&vip.key).filter(|now| now.ring_slots == recipe.1)?;
    draft.has_ring(now.ring_base, rings.digest(recipe)).then_some(now.ring_base)
}

fn put_in_force(draft: &mut Draft, placed: &Placed, ring_base: u32, recipe: &Recipe) {
    let ring_slots = if recipe.0.is_empty() { 0 } else { recipe.1 };
    let Placed { key, id, base, count, .. } = *placed;
    let vip = Vip { id, target_base: base, target_count: count, ring_base, ring_slots, ..Vip::default() };
    draft.set_vip(key, vip);
}

/// What the VIP's ring is made of: those of its backends that may take new flows.
fn recipe(placed: &Placed) -> Recipe {
    let takes_new = |wanted: &WantedTarget| wanted.effective() == Disposition::Serving && wanted.weight > 0;
    let member = |(&address, wanted): (&IpAddr, &WantedTarget)| {
        let place = placed.places.get(&address).copied()?;
        takes_new(wanted).then_some(Member { address, place, weight: wanted.weight })
    };
    (placed.wanted.backends.iter().filter_map(member).collect(), placed.wanted.ring_size)
}
