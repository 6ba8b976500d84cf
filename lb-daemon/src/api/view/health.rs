//! From what checks found to what goes over the socket. Pure.

use super::seconds;
use crate::{
    api::types::{CheckStatus, Health, HealthQuery, Transition},
    controller::{
        self,
        snapshot::{BackendView, Snapshot, VipView},
    },
    health::{HealthView, Member, Record, Records, Status},
    model::Check,
};

/// `GET /v1/health`: the backends that are asked for, in the order of the configuration.
pub(crate) fn health(snapshot: &Snapshot, view: &HealthView, query: &HealthQuery) -> Vec<Health> {
    let is_meant = |backend: &BackendView| {
        let fits = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        fits(&query.pool, &backend.pool) && fits(&query.backend, &backend.name)
    };
    let checks = controller::checks(&snapshot.config);
    let backends = snapshot.vips.iter().flat_map(|vip| vip.backends.iter().map(move |backend| (vip, backend)));
    backends
        .filter(|(_, backend)| is_meant(backend))
        .map(|(vip, backend)| {
            let member = Member { service: vip.service, backend: backend.address };
            let checks = checks.get(&member).map(|health| health.checks.as_slice()).unwrap_or_default();
            of_backend(vip, backend, checks, view, member)
        })
        .collect()
}

fn of_backend(vip: &VipView, backend: &BackendView, checks: &[Check], view: &HealthView, member: Member) -> Health {
    let standing = view.get(&member);
    let status = |check: &Check| of_check(check, standing.and_then(|standing| standing.checks.get(&check.name)));
    Health {
        pool: backend.pool.clone(),
        vip: vip.name.clone(),
        backend: backend.name.clone(),
        address: backend.address,
        up: standing.map(|standing| standing.up),
        reason: standing.map_or_else(|| backend.last_check.clone(), |standing| standing.reason.clone()),
        since: standing.and_then(|standing| standing.since).map(seconds),
        transitions: standing.map(|standing| records(&standing.transitions)).unwrap_or_default(),
        checks: checks.iter().map(status).collect(),
    }
}

fn of_check(check: &Check, status: Option<&Status>) -> CheckStatus {
    let unknown = Status { last: "no result yet".into(), ..Status::default() };
    let known = status.unwrap_or(&unknown);
    CheckStatus {
        name: check.name.to_string(),
        kind: check.ask.kind().to_owned(),
        up: status.map(|status| status.up),
        last: known.last.clone(),
        since: known.since.map(seconds),
        heard: known.heard.map(seconds),
        latency_seconds: known.latency.map(|latency| latency.as_secs_f64()),
        successes: known.successes,
        failures: known.failures,
        transitions: records(&known.transitions),
    }
}

fn records(records: &Records) -> Vec<Transition> {
    let transition = |record: &Record| Transition {
        at: seconds(record.at),
        up: record.up,
        reason: record.text.clone(),
        latency_seconds: record.latency.map(|latency| latency.as_secs_f64()),
    };
    records.iter().map(transition).collect()
}
