//! `[pool.NAME.passive]`

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::{At, Spanned},
        quantity,
        raw::Section,
        schema,
        validate::{duration, number, pool::ReadPool},
    },
    model::{AdminState, Backend, FlowTracking, Passive, Protocol, Vip},
};

/// A member's samples of the longest take some 4 KiB.
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(1);
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);
/// What fewer tell may be chance.
const MIN_NEW_FLOWS: RangeInclusive<u64> = 10..=1_000_000;
const DEFAULT_MIN_NEW_FLOWS: u32 = 20;
const SUCCESS_BELOW: RangeInclusive<u8> = 1..=99;
const DEFAULT_SUCCESS_BELOW: u8 = 50;
const EJECT_FOR: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
const DEFAULT_EJECT_FOR: Duration = Duration::from_secs(30);
const MAX_EJECTED: RangeInclusive<u8> = 1..=100;
const DEFAULT_MAX_EJECTED: u8 = 30;

/// The section, if it is there, and its place. `backends` are the pool's.
pub(in crate::config::validate) fn passive(pool: &Section<'_>, backends: &[Backend]) -> Option<(Passive, At)> {
    let own = pool.child("passive", &schema::PASSIVE);
    let length = |key, range, default| duration(&own, key, range).map_or(default, Spanned::into_inner);
    let share = |key, range, default| percentage(&own, key, range).unwrap_or(default);
    let passive = Passive {
        window: length("window", &WINDOW, DEFAULT_WINDOW),
        min_new_flows: number(&own, "min_new_flows", &MIN_NEW_FLOWS).unwrap_or(DEFAULT_MIN_NEW_FLOWS),
        success_below: share("success_below", &SUCCESS_BELOW, DEFAULT_SUCCESS_BELOW),
        eject_for: length("eject_for", &EJECT_FOR, DEFAULT_EJECT_FOR),
        max_ejected: share("max_ejected", &MAX_EJECTED, DEFAULT_MAX_EJECTED),
    };
    if !own.is_present() {
        return None;
    }
    ejects_none(&own, passive, backends);
    Some((passive, own.span()))
}

/// A whole percentage under `key` within `range`.
fn percentage(section: &Section<'_>, key: &'static str, range: &RangeInclusive<u8>) -> Option<u8> {
    let given = section.quantity(key, "%", quantity::percent)?;
    if range.contains(given.get_ref()) {
        return Some(given.into_inner());
    }
    let (low, high) = (range.start(), range.end());
    let complaint = Complaint::new(Code::OutOfRange, given.span(), format!("`{key}` is out of range"));
    let hint = format!("give `{key}` a value from \"{low}%\" to \"{high}%\"");
    section.complain(complaint.label(format!("not from {low}% to {high}%")).hint(hint));
    None
}

/// Warns of a share that is less than one of the backends that may take new flows.
fn ejects_none(section: &Section<'_>, passive: Passive, backends: &[Backend]) {
    let takes = |backend: &&Backend| backend.weight > 0 && backend.state == AdminState::Active;
    let backends = backends.iter().filter(takes).count();
    let share = passive.max_ejected;
    let (message, hint) = match backends {
        // A pool without any is complained about already.
        0 => return,
        1 => {
            let message = "passive health has no effect: of one backend none is ejected".to_owned();
            (message, "remove the section, or give the pool a second backend to compare with".to_owned())
        }
        _ if backends * usize::from(share) < 100 => {
            let message = format!("passive health has no effect: {share}% of {backends} backends is less than one");
            (message, format!("give `max_ejected` at least \"{}%\"", 100_usize.div_ceil(backends)))
        }
        _ => return,
    };
    let place = section.entry("max_ejected").map_or_else(|| section.span(), |(_, value)| value.span());
    section.complain(Complaint::new(Code::NoEffect, place, message).label("ejects none").hint(hint));
}

/// Warns of a VIP whose handshakes are not seen.
pub(in crate::config::validate) fn unseen(section: &Section<'_>, vip: &Vip, pools: &[&ReadPool]) {
    if vip.flow_tracking == FlowTracking::Always || vip.service.protocol == Protocol::Udp {
        return;
    }
    for (pool, place) in pools.iter().filter_map(|pool| Some((&pool.pool, pool.passive?))) {
        let message = format!("passive health of pool {} has no effect for this VIP", pool.name);
        let at = section.entry("flow_tracking").map_or_else(|| section.span(), |(_, value)| value.span());
        let complaint =
            Complaint::new(Code::NoEffect, at, message).label("no handshake is seen of flows that are not remembered");
        let hint = "write `flow_tracking = \"always\"`, or give the VIP a pool without passive health";
        section.complain(complaint.also(place, "the pool's passive health").hint(hint));
    }
}

/// Warns of pools whose VIPs all serve UDP, which has no handshakes.
pub(in crate::config::validate) fn udp_alone(root: &Section<'_>, pools: &BTreeMap<String, ReadPool>, vips: &[Vip]) {
    let used_by = |protocol| {
        let vips = vips.iter().filter(move |vip| vip.service.protocol == protocol);
        vips.flat_map(Vip::pools).collect::<BTreeSet<&str>>()
    };
    let (tcp, udp) = (used_by(Protocol::Tcp), used_by(Protocol::Udp));
    for name in udp.difference(&tcp) {
        if let Some(place) = pools.get(*name).and_then(|pool| pool.passive) {
            let message = format!("passive health of pool {name} has no effect: its VIPs serve UDP");
            let complaint = Complaint::new(Code::NoEffect, place, message).label("UDP has no handshakes");
            root.complain(
                complaint.hint(format!("remove the section, and check the backends by [pool.{name}.health]")),
            );
        }
    }
}
