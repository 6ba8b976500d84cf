//! A packet's way for people.

use std::fmt::Write as _;

use crate::api::types::{
    AccessStage, EntryStage, Explanation, FlowStage, LimitStage, NextHopStage, PacketStage, RingStage, Stages,
    TargetStage, VipStage,
};

/// All steps, and why; with the frames in `detail`.
pub(super) fn whole(told: &Explanation, opening: Option<&Explanation>, detail: bool) -> String {
    let mut rows = steps(&told.stages);
    let by = told.leaves_by.as_ref().map_or_else(String::new, |name| format!(" by {name}"));
    rows.push(["verdict".into(), format!("{}: {} ({}{by})", told.verdict, told.meaning, told.action)]);
    if detail {
        if !told.stages.events.is_empty() {
            rows.push(["counted".into(), told.stages.events.join(", ")]);
        }
        rows.push(["frame in".into(), told.frame.clone()]);
        rows.push(["frame out".into(), told.frame_out.clone()]);
    }
    let mut text = String::new();
    for [step, what] in rows {
        // Not a table, which would fold long lines. Writing to a string cannot fail.
        let _ = writeln!(text, "{step:<10}  {what}");
    }
    let _ = writeln!(text, "\n{}", told.why);
    if let Some(opening) = opening {
        let same = (&opening.verdict, &opening.address) == (&told.verdict, &told.address);
        let _ = if same && opening.stages.ring == told.stages.ring {
            writeln!(text, "a SYN of this tuple: likewise")
        } else {
            writeln!(text, "a SYN of this tuple: {}", opening.why)
        };
    }
    text
}

/// A packet of a capture in a line.
pub(super) fn line(number: u64, kept: Option<usize>, told: &Explanation) -> String {
    let tuple = told.tuple.as_deref().unwrap_or("unread");
    let flags = told.stages.packet.flags.as_deref().map_or_else(String::new, |flags| format!(" {flags}"));
    let to = match (&told.backend, &told.address) {
        (Some(backend), _) => format!(" {backend}"),
        (None, Some(address)) => format!(" {address}"),
        (None, None) => String::new(),
    };
    let cut = kept.map_or_else(String::new, |kept| format!(" (the capture kept {kept} bytes)"));
    format!("{number} {tuple}{flags}: {}{to}{cut}", told.verdict)
}

fn steps(stages: &Stages) -> Vec<[String; 2]> {
    let mut rows = vec![["packet".to_owned(), packet(&stages.packet)], ["vip".to_owned(), vip(&stages.vip)]];
    let mut row = |step: &str, what: String| rows.push([step.to_owned(), what]);
    for rule in &stages.access {
        row("access", access(rule));
    }
    for one in &stages.limits {
        row("limit", limit(one));
    }
    if let Some(server) = &stages.server_id {
        let id = server.id.as_ref().map_or("of no server yet".to_owned(), Clone::clone);
        let owner = server.backend.as_ref().map_or("no backend has it".to_owned(), |backend| format!("of {backend}"));
        row("server id", format!("{id}, {owner}{}", if server.used { "" } else { "; steered as without" }));
    }
    if let Some(stage) = &stages.flow {
        row("flow", flow(stage));
    }
    if let Some(stage) = &stages.fragment {
        row("datagram", flow(stage));
    }
    if let Some(stage) = &stages.ring {
        row("ring", ring(stage));
    }
    if let Some(stage) = &stages.target {
        row("target", target(stage));
    }
    if let Some(stage) = &stages.next_hop {
        row("next hop", next_hop(stage));
    }
    if let Some(outer) = &stages.outer {
        let ports = outer.ports.map_or_else(String::new, |[from, to]| format!(", udp {from} to {to}"));
        row("outer", format!("{} to {}{ports}: {}", outer.source, outer.destination, outer.bytes));
    }
    rows
}

fn packet(stage: &PacketStage) -> String {
    let mut parts = Vec::new();
    if let (Some(family), Some(length)) = (&stage.family, stage.length) {
        parts.push(format!("{family}, {length} bytes"));
    } else {
        parts.push(format!("a frame of {} bytes", stage.frame_length));
    }
    parts.extend(stage.flags.as_ref().map(|flags| format!("flags {flags}")));
    parts.extend(stage.fragment.as_ref().map(|which| format!("{which} fragment")));
    if !stage.vlans.is_empty() {
        parts.push(format!("in vlan {}", vlans(&stage.vlans)));
    }
    parts.extend(stage.tunnel.map(|[from, to]| format!("through the tunnel from {from} to {to}")));
    parts.extend(stage.quoted.as_ref().map(|quoted| format!("an error about {quoted}")));
    parts.extend(stage.unread.as_ref().map(|verdict| format!("not read: {verdict}")));
    parts.join(", ")
}

fn vlans(numbers: &[u16]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" in ")
}

fn vip(stage: &VipStage) -> String {
    match (&stage.name, &stage.service) {
        (Some(name), Some(service)) => {
            let untracked = if stage.tracked == Some(false) { ", flows are not remembered" } else { "" };
            if name == service { format!("{name}{untracked}") } else { format!("{name}, {service}{untracked}") }
        }
        _ if stage.address_is_ours => "none at that port; the address is a VIP's".to_owned(),
        _ => "none".to_owned(),
    }
}

fn access(rule: &AccessStage) -> String {
    match (&rule.rule, &rule.prefix) {
        (Some(name), Some(prefix)) => format!("list of {}: {name} by {prefix}", rule.list),
        (Some(name), None) => format!("list of {}: {name}", rule.list),
        (None, _) => format!("list of {}: no prefix has the source", rule.list),
    }
}

fn limit(stage: &LimitStage) -> String {
    let LimitStage { limit, per_second, used_ms, passes } = stage;
    let more = if *passes { "one more passes" } else { "one more is too many" };
    format!("{limit}, {per_second}/s: {used_ms} of 1000 ms used up, {more}")
}

fn entry(stage: &EntryStage) -> String {
    let backend = stage.backend.clone().unwrap_or_else(|| format!("target {}", stage.target));
    format!("{} at {backend}, {} s old", stage.state, stage.age_seconds)
}

fn flow(stage: &FlowStage) -> String {
    let found = match &stage.entry {
        Some(one) => format!("{}: {}", stage.result, entry(one)),
        None => stage.result.clone(),
    };
    let then = match (&stage.becomes, stage.remembered) {
        (Some(one), _) => {
            let backend = one.backend.clone().unwrap_or_else(|| format!("target {}", one.target));
            format!("; becomes {} at {backend}", one.state)
        }
        (None, false) => "; is not remembered".to_owned(),
        (None, true) => String::new(),
    };
    let way =
        stage.gives_way.as_ref().map_or_else(String::new, |one| format!(" in place of another flow, {}", entry(one)));
    format!("{found}{then}{way} (bucket {}, {} of 8 in use)", stage.bucket, stage.used)
}

fn ring(stage: &RingStage) -> String {
    let whose = stage.source_route.as_ref().map_or_else(String::new, |route| format!(" of source route {route}"));
    let history = match (stage.tracked, &stage.previous) {
        (None, _) => String::new(),
        (Some(false), _) => ", not tracked".to_owned(),
        (Some(true), None) => ", tracked".to_owned(),
        (Some(true), Some(previous)) => format!(", tracked, before: {previous}"),
    };
    match (stage.slot, &stage.backend) {
        (Some(slot), Some(backend)) => format!("slot {slot} of {}{whose}: {backend}{history}", stage.slots),
        (Some(slot), None) => format!("slot {slot} of {}{whose}{history}", stage.slots),
        (None, _) => format!("empty{whose}"),
    }
}

fn target(stage: &TargetStage) -> String {
    let name = match (&stage.pool, &stage.backend) {
        (Some(pool), Some(backend)) => format!("{pool}/{backend} {}", stage.address),
        _ => stage.address.to_string(),
    };
    format!("{name}, {}, by {}, number {}", stage.state, stage.encap, stage.number)
}

fn next_hop(stage: &NextHopStage) -> String {
    let interface = stage.interface.as_deref().unwrap_or("the interface that it came in by");
    let tags = match &stage.vlans {
        None => "tags kept".to_owned(),
        Some(none) if none.is_empty() => "untagged".to_owned(),
        Some(tags) => format!("vlan {}", vlans(tags)),
    };
    let fits = match (stage.largest_packet, stage.fits) {
        (None, _) => "any length fits".to_owned(),
        (Some(largest), true) => format!("up to {largest} bytes fit"),
        (Some(largest), false) => format!("only {largest} bytes fit"),
    };
    format!("{} by {interface}, {tags}, {fits}", stage.mac)
}
