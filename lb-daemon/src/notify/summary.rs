//! The state on one line.

use std::{collections::BTreeSet, fmt::Write};

use crate::{
    controller::{
        Snapshot,
        snapshot::{BackendView, VipView},
    },
    model::AdminState,
    plan::wanted::Disposition,
};

/// The state in words: `generation 7, 12 of 12 VIPs serving, 3 backends down`.
pub fn summary(snapshot: &Snapshot) -> String {
    let mut line = if (snapshot.applied == 0 || snapshot.fresh) && snapshot.failing.is_none() {
        "starting, waiting for first results".to_owned()
    } else {
        format!("generation {}, {}", snapshot.in_force.about.number, serving(&snapshot.vips))
    };
    match down(&snapshot.vips) {
        _ if snapshot.applied == 0 || snapshot.fresh => {}
        0 => {}
        1 => line.push_str(", 1 backend down"),
        // Writing to a string cannot fail.
        number => _ = write!(line, ", {number} backends down"),
    }
    if snapshot.failing.is_some() {
        line.push_str(", applying fails");
    }
    if snapshot.last_reload.refused.is_some() {
        line.push_str(", the last reload was refused");
    }
    line
}

fn serving(vips: &[VipView]) -> String {
    let serving = vips.iter().filter(|vip| vip.serving() > 0).count();
    format!("{serving} of {} VIPs serving", vips.len())
}

/// Number of backends that take nothing although they should; one of several VIPs counts once.
fn down(vips: &[VipView]) -> usize {
    let is_down = |backend: &&BackendView| backend.effect == Disposition::Down && backend.admin != AdminState::Disabled;
    let down = vips.iter().flat_map(|vip| &vip.backends).filter(is_down);
    down.map(|backend| (&backend.pool, &backend.name)).collect::<BTreeSet<_>>().len()
}
