//! Verdicts and reasons in words.

use lb_common::{layout::counter::PathEvent, verdict::Verdict};

use crate::{
    api::types::{FlowStage, RingStage, Stages},
    explain::{Found, History, Trace},
};

/// What a verdict means.
pub(super) const fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forwarded => "sent to a backend",
        Verdict::EchoReplied => "an echo request to a VIP, answered here",
        Verdict::NotIp => "neither IPv4 nor IPv6: passed to this host",
        Verdict::NotBalanced => "an IP protocol that is not balanced: passed to this host",
        Verdict::NotVip => "to no VIP: passed to this host",
        Verdict::Fragment => "a fragment to no VIP: passed to this host",
        Verdict::Icmp => "ICMP that is about no VIP's packet: passed to this host",
        Verdict::Unreadable => "cannot be read, and is not known to be for a VIP: passed to this host",
        Verdict::Truncated => "shorter than its headers say: dropped",
        Verdict::BadHeader => "a length in a header cannot be: dropped",
        Verdict::NoBackend => "the VIP has no backend that may take it: dropped",
        Verdict::NoHeadroom => "no room before the frame for the outer header: dropped",
        Verdict::Inconsistent => "a table lacks what should be there: aborted",
        Verdict::ExtensionHeaders => "more IPv6 extension headers than are walked: dropped",
        Verdict::FragmentUnknown => "a later fragment of a datagram whose first is not known: dropped",
        Verdict::BadQuote => "an ICMP error that quotes too little to tell its flow: dropped",
        Verdict::UnknownPort => "to a port of a VIP's address that no VIP serves: dropped, as the configuration says",
        Verdict::TooBigAnswered => "larger than the way to the backend: the sender is told",
        Verdict::TooBig => "larger than the way to the backend, and the sender cannot be told: dropped",
        Verdict::TooBigLimited => "larger than the way to the backend, and the sender was told just before: dropped",
        Verdict::Denied => "the access lists keep its source out: dropped",
        Verdict::NewFlowLimit => "a new flow beyond the VIP's limit: dropped",
        Verdict::SourceLimit => "beyond the limit of its source: dropped",
        Verdict::Local => "its backend is this host: passed up",
        Verdict::TunnelSource => "a tunnel packet from a source that is not allowed: dropped",
        Verdict::TunnelLoop => "a tunnel packet that went from lb to lb for too long: dropped",
        Verdict::CongestionLost => "its tunnel reports congestion, which it cannot carry: dropped",
        Verdict::Withdrawn => "no daemon has shown a sign of life for 5 s, so pings to VIPs are not answered: dropped",
    }
}

/// What decided, in one sentence.
pub(super) fn why(trace: &Trace, stages: &Stages) -> String {
    let subject = trace.reading.tuple.map_or_else(|| "the frame".to_owned(), |tuple| tuple.to_string());
    let verdict = trace.exit.verdict;
    let Some(target) = &stages.target else {
        return format!("{subject} gets {}: {}", verdict.label(), without_target(trace, stages));
    };
    let address = target.address;
    let backend = match &target.backend {
        Some(name) if *name != address.to_string() => format!("{name} ({address})"),
        _ => address.to_string(),
    };
    let because = because(trace, stages);
    match verdict {
        Verdict::Forwarded | Verdict::Local => format!("{subject} goes to {backend} because {because}"),
        other => format!("{subject} would go to {backend} because {because}; but it is {}", meaning(other)),
    }
}

fn because(trace: &Trace, stages: &Stages) -> String {
    if let Some(id) = stages.server_id.as_ref().filter(|server| server.used).and_then(|server| server.id.as_ref()) {
        return format!("it bears server ID {id}");
    }
    if stages.packet.fragment.as_deref() == Some("later") {
        return "the first fragment of its datagram went there".to_owned();
    }
    let about = if stages.packet.quoted.is_some() { "the flow that it quotes" } else { "its flow" };
    match (&stages.flow, &stages.ring) {
        (Some(FlowStage { entry: Some(entry), .. }), None) => {
            format!("{about} was remembered {}", ago(entry.age_seconds))
        }
        (Some(FlowStage { entry: Some(entry), result, .. }), Some(RingStage { tracked: Some(true), .. }))
            if result == "hit" =>
        {
            format!("{about} was remembered {}", ago(entry.age_seconds))
        }
        (_, Some(ring)) if is_at_previous(trace) => {
            format!("{about} is not remembered, and {} before the ring changed", slot(ring, stages, "led"))
        }
        (flow, Some(ring)) => {
            let before = match flow.as_ref().map(|flow| flow.result.as_str()) {
                Some("expired") => format!("{about} was silent for too long and "),
                Some("moved") => format!("the backend of {about} is down or gone and "),
                _ => String::new(),
            };
            format!("{before}{}", slot(ring, stages, "leads"))
        }
        _ if trace.events.contains(&PathEvent::IcmpSteered) => format!("{about} is known"),
        _ => "its VIP says so".to_owned(),
    }
}

/// Whether the packet went where its slot led before the ring of an adaptive VIP changed.
fn is_at_previous(trace: &Trace) -> bool {
    let sent = trace.target.map(|(target, _)| target);
    trace.ring.is_some_and(|ring| match ring.history {
        Some(History::Tracked(previous)) => sent == Some(previous) && sent != ring.target,
        Some(History::Untracked) | None => false,
    })
}

fn slot(ring: &RingStage, stages: &Stages, leads: &str) -> String {
    let whose = match (&ring.source_route, &stages.vip.name) {
        (Some(route), _) => format!("source route {route}"),
        (None, Some(name)) => format!("vip {name}"),
        (None, None) => "the vip".to_owned(),
    };
    match ring.slot {
        Some(slot) => format!("slot {slot} of {} of {whose} {leads} there", ring.slots),
        None => format!("the ring of {whose} {leads} there"),
    }
}

/// An age in words: the table's clock has units of 4.3 s.
pub(super) fn ago(seconds: u64) -> String {
    if seconds == 0 { "less than 5 s ago".to_owned() } else { format!("about {seconds} s ago") }
}

fn without_target(trace: &Trace, stages: &Stages) -> String {
    let says = |name: &str, prefix: &Option<String>| match prefix {
        Some(prefix) => format!("the list of {name} denies {prefix}"),
        None => format!("the list of {name} denies its source"),
    };
    let denied = stages.access.iter().find(|access| access.rule.as_deref() == Some("deny"));
    let name = stages.vip.name.as_deref().unwrap_or("the vip");
    match (trace.exit.verdict, denied, &trace.found) {
        (Verdict::Denied, Some(access), _) if access.list == "vip" => says(&format!("vip {name}"), &access.prefix),
        (Verdict::Denied, Some(access), _) => says("all vips", &access.prefix),
        (Verdict::NoBackend, ..) if stages.vip.disabled => format!("an operator disabled vip {name}"),
        (Verdict::NoBackend, _, Found::Vip(..)) => format!("no backend of vip {name} takes new flows"),
        (Verdict::NotVip, _, Found::Nothing) => {
            "no VIP serves that address, protocol and port; it is passed".to_owned()
        }
        (verdict, _, _) => meaning(verdict).to_owned(),
    }
}
