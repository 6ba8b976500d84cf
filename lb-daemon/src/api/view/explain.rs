//! From a packet's trace to what is told of it: names for numbers, words for states. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::{
    layout::{
        counter::PathEvent,
        flow::{FlowEntry, FlowState, TIME_SHIFT},
        prefix::AclRule,
        target::{Encap, Target},
        vip::{Vip, VipKey},
    },
    maps::{Tuning, feature},
    verdict::Action,
};
use lb_xdp::{
    parse::{Family, Kind},
    server_id::ServerId,
    wire::eth,
};

use crate::{
    api::types::{
        AccessStage, EntryStage, Explanation, FlowStage, LimitStage, NextHopStage, OuterStage, PacketStage, RingStage,
        ServerIdStage, Stages, TargetStage, VipStage,
    },
    controller::snapshot::{BackendView, VipView},
    explain::{Found, History, LimitKind, Remembered, Trace, tuple::flag_letters},
    model::Service,
    plan::{target::address_of, wanted::service},
};

mod words;

/// Names of what the tables know by numbers.
pub(crate) struct Names<'a> {
    vips: BTreeMap<Service, &'a VipView>,
    targets: BTreeMap<u32, &'a BackendView>,
    interface: &'a dyn Fn(u32) -> Option<String>,
}

impl<'a> Names<'a> {
    /// Those of VIPs and their backends. `interface` tells an interface's name.
    pub(crate) fn new(vips: &'a [VipView], interface: &'a dyn Fn(u32) -> Option<String>) -> Self {
        let targets = vips.iter().flat_map(|vip| &vip.backends);
        Self {
            targets: targets.filter_map(|backend| Some((backend.target?, backend))).collect(),
            vips: vips.iter().map(|vip| (vip.service, vip)).collect(),
            interface,
        }
    }

    fn vip(&self, key: &VipKey) -> Option<&'a VipView> {
        self.vips.get(&service(key)?).copied()
    }

    /// Name of the backend of a target; that of a backend that is not configured any more is not known.
    pub(crate) fn backend(&self, target: u32) -> Option<String> {
        self.targets.get(&target).map(|backend| backend.name.clone())
    }

    /// Name of a VIP; else what it serves.
    pub(crate) fn vip_name(&self, key: &VipKey) -> Option<String> {
        self.vip(key).map(|vip| vip.name.clone()).or_else(|| Some(service(key)?.to_string()))
    }

    /// Pool of the backend of a target.
    pub(crate) fn pool(&self, target: u32) -> Option<String> {
        self.targets.get(&target).map(|backend| backend.pool.clone()).filter(|pool| !pool.is_empty())
    }

    fn interface(&self, number: u32) -> String {
        (self.interface)(number).unwrap_or_else(|| format!("number {number}"))
    }
}

/// What is told of a packet that came as `frame` by interface `ingress`.
pub(crate) fn explanation(trace: &Trace, frame: &[u8], ingress: u32, tuning: &Tuning, names: &Names) -> Explanation {
    let target = trace.target.as_ref().map(|(number, target)| target_stage(*number, target, names));
    let sent = matches!(trace.action, Action::Transmit | Action::Redirect);
    let leaves_by = if trace.exit.ifindex == 0 { ingress } else { trace.exit.ifindex };
    let stages = Stages {
        packet: packet(trace, frame),
        vip: vip(trace, tuning, names),
        access: trace.access.iter().map(access).collect(),
        limits: trace.limits.iter().map(limit).collect(),
        server_id: server(trace, names),
        flow: trace.flow.as_ref().map(|flow| remembered(flow, trace, names)),
        fragment: trace.fragment.as_ref().map(|datagram| datagram_stage(datagram, names)),
        ring: ring(trace, names),
        next_hop: trace.target.as_ref().and_then(|(_, target)| next_hop(target, trace, names)),
        outer: trace.target.as_ref().and_then(|(_, target)| outer(target, trace)),
        events: trace.events.iter().map(|event| event.name().to_owned()).collect(),
        target,
    };
    let target = stages.target.as_ref();
    Explanation {
        tuple: trace.reading.tuple.as_ref().map(ToString::to_string),
        verdict: trace.exit.verdict.label().to_owned(),
        meaning: words::meaning(trace.exit.verdict).to_owned(),
        action: trace.action.name().to_owned(),
        leaves_by: (sent && leaves_by != 0).then(|| names.interface(leaves_by)),
        vip: stages.vip.name.clone(),
        pool: target.and_then(|target| target.pool.clone()),
        backend: target.and_then(|target| target.backend.clone()),
        address: target.map(|target| target.address),
        why: words::why(trace, &stages),
        frame: hex(frame),
        frame_out: hex(&trace.out),
        stages,
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn packet(trace: &Trace, frame: &[u8]) -> PacketStage {
    let reading = &trace.reading;
    let read = reading.packet();
    let family = |family: Family| match family {
        Family::V4 => "ipv4".to_owned(),
        Family::V6 => "ipv6".to_owned(),
    };
    let fragment = read.and_then(|packet| match packet.kind {
        Kind::LaterFragment => Some("later".to_owned()),
        _ => packet.first_fragment().map(|_| "first".to_owned()),
    });
    let is_tcp = reading.tuple.is_some_and(|tuple| tuple.protocol == lb_common::layout::vip::TCP);
    PacketStage {
        family: read.map(|packet| family(packet.family)),
        frame_length: frame.len(),
        length: read.map(|packet| packet.len),
        flags: read.filter(|packet| is_tcp && packet.kind == Kind::Flow).map(|packet| flag_letters(packet.flags)),
        vlans: vlans(&reading.tags),
        fragment,
        tunnel: reading.through.map(|through| [through.source, through.destination]),
        quoted: reading
            .quoted
            .filter(|_| trace.flow.is_some() || trace.ring.is_some())
            .map(|quoted| quoted.to_string()),
        unread: reading.packet.err().map(|verdict| verdict.label().to_owned()),
    }
}

/// Numbers of VLANs, from tags.
fn vlans(tags: &[[u8; 4]]) -> Vec<u16> {
    tags.iter().filter(|tag| **tag != [0; 4]).map(|[_, _, a, b]| u16::from_be_bytes([*a, *b]) & 0xfff).collect()
}

fn vip(trace: &Trace, tuning: &Tuning, names: &Names) -> VipStage {
    let none =
        |address_is_ours| VipStage { name: None, service: None, address_is_ours, tracked: None, disabled: false };
    let (key, value) = match &trace.found {
        Found::Nothing => return none(false),
        Found::Address(_) => return none(true),
        Found::Vip(key, value) => (key, value),
    };
    VipStage {
        name: names.vip_name(key),
        service: service(key).map(|service| service.to_string()),
        address_is_ours: true,
        tracked: Some(value.flags & Vip::UNTRACKED == 0 || tuning.features & feature::HASHES == 0),
        disabled: names.vip(key).is_some_and(|vip| vip.disabled.is_some()),
    }
}

fn access(rule: &crate::explain::Rule) -> AccessStage {
    let name = |number: u32| if number == AclRule::Deny as u32 { "deny" } else { "allow" };
    AccessStage {
        list: if rule.global { "all vips" } else { "vip" }.to_owned(),
        rule: rule.rule.map(|number| name(number).to_owned()),
        prefix: rule.prefix.map(prefix),
    }
}

fn prefix((address, bits): (IpAddr, u8)) -> String {
    format!("{address}/{bits}")
}

fn limit(limit: &crate::explain::Limit) -> LimitStage {
    let name = match limit.kind {
        LimitKind::SourcePackets => "source_packets",
        LimitKind::SourceFlows => "source_flows",
        LimitKind::VipFlows => "vip_flows",
        LimitKind::TooBig => "too_big",
    };
    LimitStage {
        limit: name.to_owned(),
        per_second: 1_000_000_000_u64.checked_div(limit.price_ns).unwrap_or(0),
        used_ms: limit.used_ns / 1_000_000,
        passes: limit.passes(),
    }
}

fn server(trace: &Trace, names: &Names) -> Option<ServerIdStage> {
    let server = trace.server?;
    let id = match server.id {
        ServerId::Given([high, low]) => Some(format!("{:x}", u128::from(high) << 64 | u128::from(low))),
        ServerId::NotYet | ServerId::Absent => None,
    };
    let used = trace.events.contains(&PathEvent::ServerIdRouted);
    Some(ServerIdStage { id, backend: server.target.and_then(|target| names.backend(target)), used })
}

/// An entry, its age told by the table's clock.
pub(crate) fn entry(entry: FlowEntry, now: u32, names: &Names) -> EntryStage {
    EntryStage {
        state: FlowState::try_from(entry.state()).map_or("unknown", FlowState::name).to_owned(),
        age_seconds: (u64::from(entry.age(now)) << TIME_SHIFT) / 1_000_000_000,
        target: entry.target(),
        backend: names.backend(entry.target()),
    }
}

fn remembered(flow: &Remembered, trace: &Trace, names: &Names) -> FlowStage {
    let befell = |event| trace.events.contains(&event);
    let created = trace.counted.iter().any(|(_, counted)| counted.flows_created > 0);
    let result = match flow.before {
        None => "miss",
        Some(_) if befell(PathEvent::Expired) => "expired",
        Some(_) if befell(PathEvent::Moved) => "moved",
        Some(_) if created => "reopened",
        Some(_) => "hit",
    };
    stage(flow, result, names)
}

fn stage(found: &Remembered, result: &str, names: &Names) -> FlowStage {
    let told = |one: FlowEntry| entry(one, found.now, names);
    FlowStage {
        result: result.to_owned(),
        entry: found.before.map(told),
        becomes: found.after.filter(|after| found.before != Some(*after)).map(told),
        remembered: found.after.is_some(),
        gives_way: found.displaced.map(told),
        bucket: found.bucket,
        used: found.used,
    }
}

fn datagram_stage(datagram: &Remembered, names: &Names) -> FlowStage {
    stage(datagram, if datagram.before.is_some() { "hit" } else { "miss" }, names)
}

fn ring(trace: &Trace, names: &Names) -> Option<RingStage> {
    let ring = trace.ring?;
    let route = ring.group.map(|group| group.prefix.map_or_else(|| format!("group {}", group.id), prefix));
    Some(RingStage {
        slot: ring.slot,
        slots: ring.slots,
        backend: ring.target.and_then(|target| names.backend(target)),
        tracked: ring.history.map(|history| history != History::Untracked),
        previous: match ring.history {
            Some(History::Tracked(target)) => names.backend(target),
            Some(History::Untracked) | None => None,
        },
        source_route: route,
    })
}

fn target_stage(number: u32, target: &Target, names: &Names) -> TargetStage {
    TargetStage {
        number,
        pool: names.pool(number),
        backend: names.backend(number),
        address: address_of(target.outer_destination),
        state: target_state(target).to_owned(),
        encap: match Encap::try_from(target.encap) {
            Ok(Encap::IpipV4 | Encap::IpipV6) => "ipip",
            Ok(Encap::GueV4 | Encap::GueV6) => "gue",
            Ok(Encap::L2) => "l2",
            Ok(Encap::Local) => "local",
            Err(_) => "none",
        }
        .to_owned(),
    }
}

/// What a target takes, in a word.
pub(crate) fn target_state(target: &Target) -> &'static str {
    if target.flags & Target::GONE != 0 {
        "gone"
    } else if target.serves == 0 {
        "down"
    } else if target.flags & Target::DRAINING != 0 {
        "draining"
    } else {
        "serving"
    }
}

fn next_hop(target: &Target, trace: &Trace, names: &Names) -> Option<NextHopStage> {
    if target.encap == Encap::Local as u32 {
        return None;
    }
    let length = trace.reading.packet().map_or(0, |packet| u32::from(packet.len));
    Some(NextHopStage {
        mac: super::mac(target.next_hop),
        interface: (target.ifindex != 0).then(|| names.interface(target.ifindex)),
        vlans: (target.flags & Target::KEEPS_TAGS == 0).then(|| vlans(&target.tags)),
        largest_packet: (target.mtu != Target::NO_LIMIT).then_some(target.mtu),
        fits: length <= target.mtu,
    })
}

/// The header that was put in front of the packet.
fn outer(target: &Target, trace: &Trace) -> Option<OuterStage> {
    if trace.exit.verdict != lb_common::verdict::Verdict::Forwarded {
        return None;
    }
    let (is_v4, has_ports) = match Encap::try_from(target.encap).ok()? {
        Encap::IpipV4 => (true, false),
        Encap::IpipV6 => (false, false),
        Encap::GueV4 => (true, true),
        Encap::GueV6 => (false, true),
        Encap::L2 | Encap::Local => return None,
    };
    let inner = usize::from(trace.reading.packet()?.len);
    let length = if is_v4 { 20 } else { 40 } + if has_ports { 8 } else { 0 };
    // The tags that the frame left with come before.
    let mut start = eth::LEN;
    while trace.out.get(start - 2..start).is_some_and(|kind| kind == eth::VLAN || kind == eth::QINQ) {
        start += eth::TAG_LEN;
    }
    let bytes = trace.out.get(start..start + length).filter(|_| trace.out.len() >= start + length + inner)?;
    let (source, destination) = if is_v4 { (12..16, 16..20) } else { (8..24, 24..40) };
    let address = |range: std::ops::Range<usize>| -> Option<IpAddr> {
        let bytes = bytes.get(range)?;
        match <[u8; 4]>::try_from(bytes) {
            Ok(v4) => Some(v4.into()),
            Err(_) => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        }
    };
    let ports = has_ports.then(|| bytes.get(length - 8..length - 4)).flatten();
    Some(OuterStage {
        bytes: hex(bytes),
        source: address(source)?,
        destination: address(destination)?,
        ports: ports.map(|ports| [u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])]),
    })
}
