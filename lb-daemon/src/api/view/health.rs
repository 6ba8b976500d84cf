//! From what checks found to what goes over the socket. Pure.

use std::sync::Arc;

use super::seconds;
use crate::{
    api::types::{AgentStatus, BackendQuery, CheckStatus, Health, Hindrance, Transition},
    controller::{
        self,
        snapshot::{BackendView, Snapshot, VipView},
    },
    health::{self, CheckId, HealthView, Heard, Hindered, Member, Record, Records, Status},
    model::{self, Check},
};

/// What is known of all checks.
type Known<'a> = (&'a HealthView, &'a Hindered);

/// `GET /v1/health`: the backends that are asked for, in the order of the configuration.
pub(crate) fn health(snapshot: &Snapshot, known: Known<'_>, query: &BackendQuery) -> Vec<Health> {
    let checks = controller::checks(&snapshot.config);
    let backends = snapshot.vips.iter().flat_map(|vip| vip.backends.iter().map(move |backend| (vip, backend)));
    backends
        .filter(|(_, backend)| query.is_for(&backend.pool, &backend.name))
        .map(|(vip, backend)| {
            let member = Member { service: vip.service, backend: backend.address };
            of_backend(vip, backend, checks.get(&member).map(AsRef::as_ref), known, member)
        })
        .collect()
}

fn of_backend(
    vip: &VipView,
    backend: &BackendView,
    asked: Option<&model::Health>,
    (view, hindered): Known<'_>,
    member: Member,
) -> Health {
    let standing = view.get(&member);
    let heard = standing.and_then(|standing| standing.agent.as_ref());
    let hindrance = |check: &Check| {
        let found = hindered.get(&CheckId { member, check: Arc::clone(&check.name) })?;
        Some(Hindrance { since: seconds(found.since), reason: found.why.clone() })
    };
    let status = |check: &Check| {
        let status = standing.and_then(|standing| standing.checks.get(&check.name));
        of_check(check, status, hindrance(check))
    };
    Health {
        pool: backend.pool.clone(),
        vip: vip.name.clone(),
        backend: backend.name.clone(),
        address: backend.address,
        up: standing.map(|standing| standing.up),
        reason: standing.map_or_else(|| backend.last_check.clone(), |standing| standing.reason.clone()),
        since: standing.and_then(|standing| standing.since).map(seconds),
        transitions: standing.map(|standing| records(&standing.transitions)).unwrap_or_default(),
        checks: asked.map(|asked| asked.checks.iter().map(status).collect()).unwrap_or_default(),
        agent: asked.and_then(|asked| asked.agent.as_ref()).map(|agent| of_agent(heard, hindrance(agent))),
    }
}

fn of_agent(heard: Option<&Heard>, hindrance: Option<Hindrance>) -> AgentStatus {
    let Heard { status, word } = heard.cloned().unwrap_or_default();
    AgentStatus {
        answers: heard.map(|_| status.up),
        last: if heard.is_some() { status.last } else { "not asked yet".into() },
        since: status.since.map(seconds),
        heard: status.heard.map(seconds),
        hindrance,
        latency_seconds: status.latency.map(|latency| latency.as_secs_f64()),
        word: word.to_string(),
        weight_percent: f64::from(word.permille()) * 100.0 / f64::from(health::WHOLE),
        transitions: records(&status.transitions),
    }
}

fn of_check(check: &Check, status: Option<&Status>, hindrance: Option<Hindrance>) -> CheckStatus {
    let unknown = Status { last: "no result yet".into(), ..Status::default() };
    let known = status.unwrap_or(&unknown);
    CheckStatus {
        name: check.name.to_string(),
        kind: check.ask.kind().to_owned(),
        up: status.map(|status| status.up),
        last: known.last.clone(),
        since: known.since.map(seconds),
        heard: known.heard.map(seconds),
        hindrance,
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
