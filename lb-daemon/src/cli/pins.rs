//! What the pinned tables tell when no daemon does. They know addresses, not names.

use super::Global;
use crate::{
    api::{
        types::{Condition, Interface, Stats, Status},
        view as answer,
    },
    controller::{snapshot::VipView, totals::Totals, view},
    dataplane::kernel::Kernel,
};

/// The status as the tables have it.
///
/// # Errors
/// When nothing is pinned, or it cannot be read.
pub(super) fn status(global: &Global) -> Result<Status, anyhow::Error> {
    let pinned = Kernel::open_existing(&global.pin_path)?;
    let state = pinned.observe()?;
    let attached = pinned.attached()?;
    let vips = view::found(&state);
    let interface = |name: &str, mode: &str| Interface { name: name.into(), mode: mode.into() };
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: None,
        uptime_seconds: None,
        state: Condition::Unmanaged,
        problems: vec![format!(
            "this is read from the tables: no daemon answers on {}, so nobody checks backends",
            global.api.display()
        )],
        generation: None,
        config: None,
        pin_path: global.pin_path.display().to_string(),
        interfaces: attached.iter().map(|one| interface(&one.interface, one.hook.name())).collect(),
        vips: vips.len(),
        vips_without_backend: vips.iter().filter(|vip| vip.serving() == 0).map(|vip| vip.name.clone()).collect(),
        backends: vips.iter().map(|vip| vip.backends.len()).sum(),
        backends_serving: vips.iter().map(VipView::serving).sum(),
        last_reload: None,
        tables: answer::tables(view::used(&state), state.capacity),
    })
}

/// Counters as the tables have them.
///
/// # Errors
/// When nothing is pinned, or it cannot be read.
pub(super) fn stats(global: &Global) -> Result<Stats, anyhow::Error> {
    let pinned = Kernel::open_existing(&global.pin_path)?;
    let state = pinned.observe()?;
    let mut totals = Totals::default();
    totals.learn(&state);
    let figures = totals.figures(pinned.counters()?);
    Ok(answer::stats(&view::found(&state), &figures, &totals.flows(&pinned.flows())))
}
