//! What keeps a VIP from harm while many of its backends are down: `min_healthy`, `max_ring_change`.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    duration,
    pool::{MAX_BACKENDS, ReadPool},
};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::Spanned,
        quantity::{self, Wrong, wrong},
        raw::Section,
    },
    model::{Least, RingChange},
};

/// Times over which changes are counted, and that a slow start takes.
pub(super) const PACE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
const DEFAULT_PER: Duration = Duration::from_secs(10);
/// However little changes, Maglev moves some dozens of slots.
const FEWEST_SLOTS: u32 = 100;

/// `min_healthy`: a count, or a share in quotes.
pub(super) fn least(section: &Section<'_>, pool: Option<&ReadPool>) -> Option<Least> {
    let (_, value) = section.entry("min_healthy")?;
    if value.get_ref().as_integer().is_some() {
        let count = section.integer("min_healthy", &(1..=MAX_BACKENDS as u64))?;
        let all = pool.map(|pool| pool.pool.backends.len() as u64);
        if let Some(all) = all.filter(|all| count.get_ref() > all) {
            let message = format!("`min_healthy` is more than the {all} backends of the pool");
            let complaint = Complaint::new(Code::Conflict, count.span(), message).label("it would always be down");
            section.complain(complaint.hint(format!("give `min_healthy` at most {all}, or a share such as \"50%\"")));
        }
        return u32::try_from(count.into_inner()).ok().map(Least::Count);
    }
    if value.get_ref().as_str().is_none() {
        let hint = "write a number of backends, such as 2, or a share of them in quotes, such as \"50%\"";
        section.mistyped("min_healthy", value, "an integer or a string", hint.into());
        return None;
    }
    let given = |text: &str| match text.parse::<u16>() {
        Ok(count) => Err(wrong("a count needs no quotes", format!("write {count}, or a share such as \"50%\""))),
        Err(_) => share(text),
    };
    section.parsed("min_healthy", given).map(|percent| Least::Share(percent.into_inner()))
}

/// `max_ring_change` with `max_ring_change_per`.
pub(super) fn ring_change(section: &Section<'_>, ring_size: u32) -> Option<RingChange> {
    let percent = section.quantity("max_ring_change", "%", share);
    let per = duration(section, "max_ring_change_per", &PACE);
    if let Some((key, _)) = section.entry("max_ring_change_per")
        && section.entry("max_ring_change").is_none()
    {
        let message = "`max_ring_change_per` has no effect without `max_ring_change`";
        let complaint = Complaint::new(Code::NoEffect, key.span(), message).label("nothing is limited");
        section.complain(complaint.hint("add `max_ring_change = \"10%\"`, or remove it"));
    }
    let percent = percent?;
    let change = RingChange { percent: *percent.get_ref(), per: per.map_or(DEFAULT_PER, Spanned::into_inner) };
    let slots = change.slots(ring_size);
    if slots < FEWEST_SLOTS {
        let message = format!("`max_ring_change` is {slots} slots of a ring of {ring_size}");
        let complaint =
            Complaint::new(Code::Conflict, percent.span(), message).label("too few to move one backend's share");
        let enough = (FEWEST_SLOTS * 100).div_ceil(ring_size);
        section.complain(complaint.hint(format!(
            "give `max_ring_change` at least \"{enough}%\", or `ring_size` a prime of at least {}: {FEWEST_SLOTS} slots",
            FEWEST_SLOTS * 100 / u32::from(change.percent)
        )));
    }
    Some(change)
}

/// A percentage above 0.
fn share(text: &str) -> Result<u8, Wrong> {
    let above = |wrong: Wrong| Wrong { hint: "write a whole percentage from \"1%\" to \"100%\"".into(), ..wrong };
    match quantity::percent(text).map_err(above)? {
        0 => Err(wrong("0% would be never", "write \"1%\" to \"100%\", or leave the key out")),
        percent => Ok(percent),
    }
}
