//! `[pool.NAME.damping]`

use std::{ops::RangeInclusive, time::Duration};

use super::super::{duration, number};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::Spanned,
        raw::Section,
        schema,
    },
    model::Damping,
};

const FLAPS: RangeInclusive<u32> = 2..=Damping::MOST_FLAPS;
const DEFAULT_FLAPS: u32 = 3;
const TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
const DEFAULT_TIME: Duration = Duration::from_mins(1);

/// What becomes of backends that go up and down all the time, in a pool that has checks or an agent, or neither.
pub(super) fn damping(pool: &Section<'_>, is_checked: bool) -> Option<Damping> {
    let (place, _) = pool.entry("damping")?;
    let section = pool.child("damping", &schema::DAMPING);
    let time = |key| duration(&section, key, &TIME).map_or(DEFAULT_TIME, Spanned::into_inner);
    let range = u64::from(*FLAPS.start())..=u64::from(*FLAPS.end());
    let flaps = number(&section, "flaps", &range).unwrap_or(DEFAULT_FLAPS);
    let damping = Damping { flaps, within: time("within"), hold_for: time("hold_for") };
    if !is_checked {
        let complaint =
            Complaint::new(Code::NoEffect, place.span(), "`damping` has no effect without a health check or an agent");
        section.complain(complaint.hint("remove it, or add a health check or an agent to the pool"));
    }
    Some(damping)
}
