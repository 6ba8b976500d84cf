//! From the controller's snapshot and counters to what goes over the socket. Pure.

pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod overrides;

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters},
        flow::FlowState,
    },
    verdict::Verdict,
};

use super::{
    Facts,
    types::{
        Backend, BackendFlows, BackendQuery, Condition, Confinement, Effect, Flows, Generation, Interface, LastReload,
        Places, Standing, Stats, Status, Traffic, VerdictCount, Vip, VipSettings, Waiting,
    },
};
use crate::{
    controller::{
        features::names,
        snapshot::{self, BackendView, InForce, Snapshot, VipView},
        totals,
    },
    health::{HealthView, Member, Standing as Judged},
    http::Accounts,
    plan::{Capacity, wanted::Disposition},
    privileges,
    state::{About, Pending},
};

/// `GET /v1/status`
pub(crate) fn status(facts: &Facts, snapshot: &Snapshot, flows: Option<&totals::Flows>) -> Status {
    let problems = snapshot.problems();
    let state = match (snapshot.is_starting(), problems.is_empty()) {
        (true, _) => Condition::Starting,
        (false, true) => Condition::Serving,
        (false, false) => Condition::Degraded,
    };
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: Some(std::process::id()),
        uptime_seconds: Some(facts.started.elapsed().as_secs()),
        state,
        problems,
        generation: Some(snapshot.in_force.about.number),
        in_force: Some(generation(&snapshot.in_force.about, &snapshot.in_force, SystemTime::now())),
        differs_from_file: Some(snapshot.in_force.differs_from_file),
        applied: Some(snapshot.applied),
        config: Some(facts.config.display().to_string()),
        pin_path: facts.pin_path.display().to_string(),
        interfaces: snapshot
            .attached
            .iter()
            .map(|attached| Interface { name: attached.interface.clone(), mode: attached.mode.to_owned() })
            .collect(),
        features: Some(names(snapshot.features).into_iter().map(str::to_owned).collect()),
        vips: snapshot.vips.len(),
        vips_without_backend: snapshot.without_backend().map(|vip| vip.name.clone()).collect(),
        backends: snapshot.vips.iter().map(|vip| vip.backends.len()).sum(),
        backends_serving: snapshot.vips.iter().map(VipView::serving).sum(),
        last_reload: Some(last_reload(&snapshot.last_reload)),
        tables: all_tables(snapshot.used, snapshot.capacity),
        overrides: Some(overrides::listed(snapshot, flows)),
        confinement: Some(confinement(&facts.confinement)),
    }
}

fn confinement(found: &privileges::Confinement) -> Confinement {
    let words = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Confinement {
        capabilities: words(&found.capabilities),
        while_loading: words(&found.while_loading),
        files: found.files.to_string(),
        calls: found.calls.to_string(),
    }
}

/// A generation, where `in_force` is.
pub(crate) fn generation(about: &About, in_force: &InForce, now: SystemTime) -> Generation {
    let waiting = in_force.pending.as_ref().filter(|pending| pending.generation == about.number);
    Generation {
        generation: about.number,
        at: about.time,
        origin: about.origin.name().into(),
        uid: about.author.uid,
        author: about.author.name.clone(),
        reason: about.reason.clone(),
        of: about.of,
        state: match waiting {
            Some(_) => Standing::Unconfirmed,
            None if about.number == in_force.about.number => Standing::InForce,
            None => Standing::Former,
        },
        waiting: waiting.map(|pending| self::waiting(pending, now)),
        digest: about.digest.clone(),
        bytes: about.bytes,
    }
}

/// What waits for confirmation.
pub(crate) fn waiting(pending: &Pending, now: SystemTime) -> Waiting {
    let &Pending { generation, back_to, deadline, .. } = pending;
    Waiting { generation, back_to, deadline, seconds_left: pending.left(seconds(now)) }
}

/// How full the tables are, those of prefixes included.
fn all_tables(used: Capacity, all: Capacity) -> BTreeMap<String, Places> {
    let mut tables = tables(used, all);
    tables.insert("prefixes".into(), Places { used: used.prefixes, capacity: all.prefixes });
    tables
}

/// How full the tables are that can be read at once.
pub(crate) fn tables(used: Capacity, all: Capacity) -> BTreeMap<String, Places> {
    let places = |used, capacity| Places { used, capacity };
    BTreeMap::from([
        ("vips".into(), places(used.vips, all.vips)),
        ("targets".into(), places(used.targets, all.targets)),
        ("ring_blocks".into(), places(used.ring_blocks, all.ring_blocks)),
        ("groups".into(), places(used.groups, all.groups)),
        ("server_ids".into(), places(used.servers, all.servers)),
    ])
}

fn last_reload(last: &snapshot::LastReload) -> LastReload {
    LastReload {
        ok: last.refused.is_none(),
        at: seconds(last.at),
        succeeded_at: seconds(last.succeeded_at),
        reason: last.refused.clone(),
    }
}

/// Seconds since 1970; 0 for a clock that is set before it.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is told of VIPs by the tables alone.
pub(crate) fn vips(vips: &[VipView], figures: &totals::Figures) -> Vec<Vip> {
    let accounts = Accounts::default();
    let vip = |vip: &VipView| Vip {
        name: vip.name.clone(),
        address: vip.service.address,
        prefix_length: vip.service.prefix().prefix_len(),
        port: vip.service.port,
        protocol: vip.service.protocol.to_string(),
        pool: vip.pool.clone(),
        settings: None,
        r#override: vip.disabled.map(|given| overrides::of_vip(given, &accounts)),
        backends: vip.backends.len(),
        backends_serving: vip.serving(),
        backends_healthy: None,
        up: None,
        problems: Vec::new(),
        ring_slots: vip.ring_slots,
        tracked_slots: vip.tracked_slots,
        ring_digest: vip.ring_digest.map(|digest| format!("{digest:016x}")),
        traffic: figures.vips.get(&vip.service).map(traffic).unwrap_or_default(),
    };
    vips.iter().map(vip).collect()
}

/// `GET /v1/vips`: the same, with how they are configured.
pub(crate) fn configured_vips(snapshot: &Snapshot, figures: &totals::Figures) -> Vec<Vip> {
    let word = |on: bool, [yes, no]: [&str; 2]| if on { yes } else { no }.to_owned();
    let mut vips = vips(&snapshot.vips, figures);
    // All are in the order of the file.
    for ((vip, configured), view) in vips.iter_mut().zip(&snapshot.config.vips).zip(&snapshot.vips) {
        vip.backends_healthy = Some(view.healthy.usable);
        vip.up = Some(view.is_up());
        vip.problems = view.lacks().into_iter().chain(view.panic()).collect();
        vip.settings = Some(VipSettings {
            encap: configured.encap.to_string(),
            hash: configured.hash.to_string(),
            flow_tracking: configured.flow_tracking.to_string(),
            unknown_port: word(configured.drops_unknown_port, ["drop", "pass"]),
            panic_threshold: configured.panic_threshold,
            min_healthy: configured.min_healthy.map(|least| least.to_string()),
            quic: configured.quic.to_string(),
            quic_lb: configured.quic.lengths().to_vec(),
            tcp_server_id: configured.tcp_server_id,
            udp_stable: configured.udp_stable,
            max_new_flows_per_second: configured.max_new_flows_per_second,
            allow: configured.access.allow.len(),
            deny: configured.access.deny.len(),
            source_routes: configured.source_routes.len(),
        });
    }
    vips
}

/// The elements of `GET /v1/backends` that are about `vip` and are asked for; `left` is of all VIPs.
pub(crate) fn backends<'a>(
    vip: &'a VipView,
    query: &'a BackendQuery,
    figures: &'a totals::Figures,
    flows: &'a totals::Flows,
    left: &'a overrides::Left,
    health: &'a HealthView,
) -> impl Iterator<Item = Backend> + 'a {
    let wanted = vip.backends.iter().filter(|backend| query.is_for(&backend.pool, &backend.name));
    wanted.map(move |backend| {
        let pair = (vip.service, backend.address);
        Backend {
            pool: backend.pool.clone(),
            vip: vip.name.clone(),
            name: backend.name.clone(),
            address: backend.address,
            state: effect(backend.effect),
            reason: reason(backend),
            admin_state: Some(backend.admin.to_string()),
            weight: Some(backend.weight),
            r#override: left.told(backend),
            share: Some(backend.share),
            up: backend.up,
            last_check: backend.last_check.clone(),
            heard: health.get(&Member { service: vip.service, backend: backend.address }).and_then(heard).map(seconds),
            next_hop: backend.next_hop.map(mac),
            ifindex: backend.ifindex,
            target: backend.target,
            flows: flows.backends.get(&pair).copied().unwrap_or(0),
            live_flows: Some(flows.live_backends.get(&pair).copied().unwrap_or(0)),
            traffic: figures.backends.get(&pair).map(traffic).unwrap_or_default(),
        }
    })
}

/// When the oldest of the results came that a backend is judged by.
fn heard(standing: &Judged) -> Option<SystemTime> {
    let agent = standing.agent.iter().map(|agent| &agent.status);
    standing.checks.values().chain(agent).filter_map(|status| status.heard).min()
}

/// Why a backend is as it is, and what it waits for.
fn reason(backend: &BackendView) -> Option<String> {
    let waits = backend.waits.as_ref().map(|waits| waits.told(SystemTime::now()));
    match (&backend.reason, waits) {
        (Some(reason), Some(waits)) => Some(format!("{reason}, {waits}")),
        (reason, waits) => reason.clone().or(waits),
    }
}

/// `GET /v1/flows/count`
pub(crate) fn flows(vips: &[VipView], flows: &totals::Flows) -> Flows {
    let mut backends = Vec::new();
    for vip in vips {
        for backend in &vip.backends {
            let pair = (vip.service, backend.address);
            if let Some(all) = flows.backends.get(&pair) {
                let (vip, pool, backend) = (vip.name.clone(), backend.pool.clone(), backend.name.clone());
                let live = flows.live_backends.get(&pair).copied().unwrap_or(0);
                backends.push(BackendFlows { vip, pool, backend, flows: *all, live: Some(live) });
            }
        }
    }
    let states = used_states(&flows.by_state);
    Flows {
        capacity: flows.capacity,
        entries: states.iter().map(|(_, entries)| entries).sum(),
        live: Some(flows.live),
        states: states.iter().map(|(state, entries)| (state.name().to_owned(), *entries)).collect(),
        backends,
    }
}

/// Entries by state, without the empty ones.
pub(crate) fn used_states(by_state: &[u64; 7]) -> Vec<(FlowState, u64)> {
    FlowState::ALL.into_iter().zip(*by_state).filter(|(state, _)| *state != FlowState::Empty).collect()
}

/// `GET /v1/stats`
pub(crate) fn stats(vips: &[VipView], figures: &totals::Figures, count: &totals::Flows) -> Stats {
    let verdicts = verdicts(figures)
        .map(|(verdict, packets, bytes)| VerdictCount {
            verdict: verdict.label().into(),
            action: verdict.action().name().into(),
            packets,
            bytes,
        })
        .collect();
    let path = path_events(figures).map(|(event, count)| (event.name().to_owned(), count)).collect();
    Stats { verdicts, path, flows: flows(vips, count) }
}

/// Packets and bytes of each verdict. Forwarded packets are counted at their targets, so theirs are the targets' sums.
pub(crate) fn verdicts(figures: &totals::Figures) -> impl Iterator<Item = (Verdict, u64, u64)> {
    Verdict::ALL.iter().map(|verdict| {
        if *verdict == Verdict::Forwarded {
            return (*verdict, figures.forwarded.packets, figures.forwarded.bytes);
        }
        let counted = figures.verdicts.get(*verdict as usize).copied().unwrap_or_default();
        (*verdict, counted.packets, counted.bytes)
    })
}

/// Count of each event of the way.
pub(crate) fn path_events(figures: &totals::Figures) -> impl Iterator<Item = (PathEvent, u64)> {
    PathEvent::ALL.into_iter().map(|event| (event, figures.path.get(event as usize).copied().unwrap_or(0)))
}

/// What a backend takes, in the words of the API.
pub(crate) fn effect(disposition: Disposition) -> Effect {
    match disposition {
        Disposition::Serving => Effect::Serving,
        Disposition::Draining => Effect::Draining,
        Disposition::Down => Effect::Down,
    }
}

fn traffic(counters: &TargetCounters) -> Traffic {
    let TargetCounters { packets, bytes, flows_created, flows_moved, syns, syn_retransmits, handshakes, fins, rsts } =
        *counters;
    Traffic { packets, bytes, flows_created, flows_moved, syns, syn_retransmits, handshakes, fins, rsts }
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}
