//! A preview for people: what matters at a glance first, then the details.

use crate::{
    api::types::{BackendChange, Change, Moved, Outline, Preview, RouteChange, Setting, VipChange},
    cli::{ask::percent, output::table},
};

/// VIPs that are told of in detail; JSON has all.
const MOST_VIPS: usize = 20;
/// Backends of a VIP that are told of.
const MOST_BACKENDS: usize = 40;

/// The whole of it.
pub(in crate::cli) fn whole(preview: &Preview) -> String {
    let mut parts = vec![format!("{}\n", summary(&preview.outline()))];
    if !preview.vips.is_empty() {
        parts.push(overview(preview));
        parts.extend(preview.vips.iter().take(MOST_VIPS).filter_map(details));
    }
    parts.extend(others(preview));
    if preview.vips.len() > MOST_VIPS {
        parts.push(format!("details of {} more VIPs: -o json\n", preview.vips.len() - MOST_VIPS));
    }
    parts.join("\n")
}

/// What happens, in one line.
pub(in crate::cli) fn summary(outline: &Outline) -> String {
    if !outline.differs {
        return "no difference".into();
    }
    let Outline { vips_changed, vips_added, vips_removed, slots, flows, .. } = outline;
    let counted = [
        (*vips_changed, "change", "changes"),
        (*vips_added, "are added", "is added"),
        (*vips_removed, "are removed", "is removed"),
    ];
    let mut vips: Vec<String> = Vec::new();
    for (count, many, one) in counted.into_iter().filter(|(count, ..)| *count > 0) {
        let verb = if count == 1 { one } else { many };
        let noun = if !vips.is_empty() {
            ""
        } else if count == 1 {
            " VIP"
        } else {
            " VIPs"
        };
        vips.push(format!("{}{noun} {verb}", grouped(count as u64)));
    }
    let vips = if vips.is_empty() { "no VIP changes".into() } else { vips.join(", ") };
    format!("{vips}; {}", moves(slots, &flows.unwrap_or_default()))
}

/// How many slots and flows move.
fn moves(slots: &Moved, flows: &Moved) -> String {
    let flows_of =
        || format!("{} of {} live flows ({})", grouped(flows.moved), grouped(flows.total), percent(flows.share));
    match (slots.moved, flows.moved) {
        (0, 0) => "no slot and no live flow moves".into(),
        (0, _) => format!("no slot and {} move", flows_of()),
        (_, 0) => format!("{} of slots move, and no live flow", percent(slots.share)),
        _ => format!("{} of slots and {} move", percent(slots.share), flows_of()),
    }
}

fn overview(preview: &Preview) -> String {
    let row = |vip: &VipChange| {
        let backends = |change: Change| vip.backends.iter().filter(|backend| backend.change == change).count();
        let counts = [Change::Added, Change::Removed, Change::Changed].map(|change| (sign(change), backends(change)));
        let differing = counts.into_iter().filter(|(_, count)| *count > 0);
        let differing: Vec<String> = differing.map(|(sign, count)| format!("{sign}{count}")).collect();
        let after = vip.backends.len() - backends(Change::Removed);
        let backends =
            if differing.is_empty() { after.to_string() } else { format!("{after} ({})", differing.join(" ")) };
        [
            format!("{} {}", sign(vip.change), vip.name),
            vip.service.clone(),
            backends,
            share(&vip.slots),
            share(&vip.flows),
        ]
    };
    let rows = preview.vips.iter().take(10 * MOST_VIPS).map(row);
    table(["  VIP", "SERVICE", "BACKENDS", ">SLOTS MOVED", ">FLOWS MOVED"], rows)
}

/// What happens to a VIP's settings, backends and routes; nothing if its line in the overview says all.
fn details(vip: &VipChange) -> Option<String> {
    let mut parts = vec![settings(&vip.settings, "  ")];
    let told = |backend: &&BackendChange| backend.change != Change::Unchanged || shifts(backend);
    let backends: Vec<&BackendChange> = vip.backends.iter().filter(told).collect();
    if !backends.is_empty() {
        let rows = backends.iter().take(MOST_BACKENDS).map(|backend| row(backend));
        parts.push(table(["    BACKEND", "ADDRESS", ">NEW FLOWS", ">LIVE FLOWS", ">MOVED", "WHAT CHANGES"], rows));
        if let Some(more @ 1..) = backends.len().checked_sub(MOST_BACKENDS) {
            parts.push(format!("    and {more} more: -o json\n"));
        }
    }
    parts.extend(vip.routes.iter().map(route));
    let text = parts.concat();
    (!text.is_empty()).then(|| format!("{} {}\n{text}", sign(vip.change), vip.name))
}

fn route(route: &RouteChange) -> String {
    let Moved { moved, total, share } = route.slots;
    let (verb, slots) = match route.change {
        Change::Added => ("are added", None),
        Change::Removed => ("are removed", Some(total)),
        Change::Changed | Change::Unchanged => ("lead to other backends", Some(total)),
    };
    let slots = slots.map(|total| format!(": {moved} of {total} slots move ({})", percent(share))).unwrap_or_default();
    format!("  routes to {} {verb}{slots}\n", route.to)
}

fn row(backend: &BackendChange) -> [String; 6] {
    let BackendChange { name, address, change, settings, share_before, share_after, flows, .. } = backend;
    let (before, after) = (percent(*share_before), percent(*share_after));
    let shift = if before == after { after } else { format!("{before} -> {after}") };
    let mut words: Vec<String> = match change {
        Change::Added => vec!["added".into()],
        Change::Removed => vec!["removed".into()],
        Change::Changed | Change::Unchanged => settings.iter().map(setting).collect(),
    };
    match (&backend.state_before, &backend.state_after) {
        (Some(before), Some(after)) if before != after => words.push(format!("{before} -> {after}")),
        (None, Some(after)) if after != "serving" => words.push(after.clone()),
        _ => {}
    }
    [
        format!("  {} {name}", sign(*change)),
        address.map(|address| address.to_string()).unwrap_or_default(),
        shift,
        grouped(flows.total),
        grouped(flows.moved),
        words.join(", "),
    ]
}

/// Whether the backend gets another share of new flows, as far as it is shown.
fn shifts(backend: &BackendChange) -> bool {
    percent(backend.share_before) != percent(backend.share_after)
}

/// What is not about one VIP.
fn others(preview: &Preview) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = |title: &str, text: String| {
        if !text.is_empty() {
            parts.push(format!("{title}\n{text}"));
        }
    };
    let pools = preview.pools.iter().map(|pool| match pool.change {
        Change::Added | Change::Removed => format!("  {} {}\n", sign(pool.change), pool.name),
        Change::Changed | Change::Unchanged => {
            let settings: Vec<String> = pool.settings.iter().map(setting).collect();
            format!("  {} {}: {}\n", sign(pool.change), pool.name, settings.join(", "))
        }
    });
    part("POOLS", lines(pools));
    part("FOR ALL VIPS", settings(&preview.settings, "  "));
    let features = [("+", &preview.features_added), ("-", &preview.features_removed)];
    let features =
        features.into_iter().flat_map(|(sign, names)| names.iter().map(move |name| format!("  {sign} {name}\n")));
    part("THE PROGRAM", lines(features));
    let tables = preview.tables.iter().map(|one| match one.bytes {
        0 => format!("  {}\n", one.table),
        bytes => format!("  {}: {}\n", one.table, size(bytes)),
    });
    part("TABLES OF ANOTHER SIZE", lines(tables));
    let restart = preview.restart.iter().map(|one| format!("  {}: {}\n", setting(&one.setting), one.remedy));
    part("NOT BY A RELOAD", lines(restart));
    let overrides = preview.overrides.iter().map(|one| format!("  {one}\n"));
    part("OVERRIDES THAT STAY IN FORCE", lines(overrides));
    let assumptions = preview.assumptions.iter().map(|one| format!("  {one}\n"));
    part("ASSUMED", lines(assumptions));
    parts
}

fn settings(settings: &[Setting], indent: &str) -> String {
    lines(settings.iter().map(|one| format!("{indent}{}\n", setting(one))))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().concat()
}

fn setting(setting: &Setting) -> String {
    format!("{} {} -> {}", setting.key, setting.from, setting.to)
}

/// How many move, and of what share that is.
fn share(moved: &Moved) -> String {
    match (moved.moved, moved.total) {
        (_, 0) => "-".into(),
        (0, _) => "0".into(),
        (count, _) => format!("{} ({})", grouped(count), percent(moved.share)),
    }
}

fn sign(change: Change) -> &'static str {
    match change {
        Change::Added => "+",
        Change::Removed => "-",
        Change::Changed => "~",
        Change::Unchanged => " ",
    }
}

/// A number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in the largest unit that leaves a whole number in front of the point.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests;
