//! All that is known of a backend: `lb backend show`.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::{known, state, unknown};
use crate::{
    api::types::{AgentStatus, Backend, CheckStatus, Health, Hindrance, Transition},
    cli::{
        Global, ask,
        history::time,
        order,
        output::{columns, table},
    },
};

/// A backend of a VIP, with what its checks found.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    backend: Backend,
    /// Absent without a daemon.
    health: Option<Health>,
}

/// Asks the daemon, if there is one, what the checks of these backends found.
///
/// # Errors
/// When the daemon refuses.
pub(super) fn with_health(backends: Vec<Backend>, global: &Global) -> Result<Vec<Shown>, anyhow::Error> {
    let mut all: Vec<Health> = Vec::new();
    for backend in &backends {
        let is_known = |health: &Health| health.backend == backend.name && health.pool == backend.pool;
        // Without a daemon a backend has no pool: tables know none.
        if !backend.pool.is_empty() && !all.iter().any(is_known) {
            let [pool, name] = [&backend.pool, &backend.name].map(|text| ask::escape(text));
            let found: Result<Vec<Health>, _> = ask::get(global, &format!("/v1/health?pool={pool}&backend={name}"));
            match found {
                Ok(found) => all.extend(found),
                // It ended a moment ago; the rest is shown all the same.
                Err(error) if ask::found_no_daemon(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let with = |backend: Backend| {
        let is_its = |health: &&Health| {
            (&health.vip, &health.pool, &health.backend) == (&backend.vip, &backend.pool, &backend.name)
        };
        Shown { health: all.iter().find(is_its).cloned(), backend }
    };
    Ok(backends.into_iter().map(with).collect())
}

/// For people.
pub(super) fn text(shown: &Shown) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut text = of_backend(&shown.backend, now);
    if let Some(health) = &shown.health {
        text.push_str(&of_health(health, now));
    }
    text
}

/// Its checks, and what went up or down lately.
fn of_health(health: &Health, now: u64) -> String {
    if health.checks.is_empty() && health.agent.is_none() && health.transitions.is_empty() {
        return String::new();
    }
    let headings = ["CHECK", "TYPE", "STATE", "SINCE", "LAST RESULT", ">AGE", ">LATENCY", ">IN A ROW"];
    let row = |check: &CheckStatus| {
        vec![
            check.name.clone(),
            check.kind.clone(),
            word(check.up).into(),
            check.since.map_or_else(unknown, time),
            known(&check.last),
            check.heard.map_or_else(unknown, |heard| age(heard, now)),
            latency(check.latency_seconds),
            check.successes.max(check.failures).to_string(),
        ]
    };
    let mut text = String::new();
    if !health.checks.is_empty() || health.agent.is_none() {
        text = format!("\n{}", columns(&headings, health.checks.iter().map(row)));
    }
    text.extend(health.agent.iter().map(|agent| of_agent(agent, now)));
    let hindered = health.checks.iter().map(|check| (format!("check {}", check.name), &check.hindrance));
    let hindered = hindered.chain(health.agent.iter().map(|agent| (AGENT.to_owned(), &agent.hindrance)));
    for (name, Hindrance { since, reason }) in hindered.filter_map(|(name, told)| Some((name, told.as_ref()?))) {
        let _ = writeln!(text, "! {name} could not be made for {}: {reason}", age(*since, now));
    }
    let of_all = health.transitions.iter().map(|one| ("", one));
    // What the only check found is what the backend is, but for what holds it down besides.
    let is_told = |one: &&Transition| {
        health.checks.len() == 1 && health.transitions.iter().any(|told| (told.at, told.up) == (one.at, one.up))
    };
    let of_each = health
        .checks
        .iter()
        .flat_map(|check| check.transitions.iter().filter(|one| !is_told(one)).map(|one| (check.name.as_str(), one)));
    let of_agent = health.agent.iter().flat_map(|agent| agent.transitions.iter().map(|one| (AGENT, one)));
    let mut all: Vec<(&str, &Transition)> = of_all.chain(of_each).chain(of_agent).collect();
    if !all.is_empty() {
        // What a check found comes before what it brought about.
        all.sort_by_key(|(name, one)| (one.at, name.is_empty()));
        let row = |(name, one): &(&str, &Transition)| {
            let (who, went) = match *name {
                "" => ("the backend".to_owned(), word(Some(one.up))),
                AGENT => (AGENT.to_owned(), answers(Some(one.up))),
                name => (format!("check {name}"), word(Some(one.up))),
            };
            vec![time(one.at), who, went.into(), known(&one.reason), latency(one.latency_seconds)]
        };
        let headings = ["TIME", "WHO", "WENT", "WHY", ">LATENCY"];
        text.push('\n');
        text.push_str(&columns(&headings, all.iter().map(row)));
    }
    text
}

/// Who it is among those that went up or down. No check's name has a space.
const AGENT: &str = "the agent";

fn of_agent(agent: &AgentStatus, now: u64) -> String {
    let headings = ["AGENT", "SINCE", "LAST RESULT", ">AGE", ">LATENCY", "IN FORCE"];
    let row = vec![
        answers(agent.answers).into(),
        agent.since.map_or_else(unknown, time),
        known(&agent.last),
        agent.heard.map_or_else(unknown, |heard| age(heard, now)),
        latency(agent.latency_seconds),
        agent.word.clone(),
    ];
    format!("\n{}", columns(&headings, [row]))
}

fn answers(answers: Option<bool>) -> &'static str {
    match answers {
        Some(true) => "answers",
        Some(false) => "silent",
        None => "unknown",
    }
}

fn word(up: Option<bool>) -> &'static str {
    match up {
        Some(true) => "up",
        Some(false) => "down",
        None => "unknown",
    }
}

/// The time since then; none if the clock was set back.
fn age(then: u64, now: u64) -> String {
    humantime::format_duration(Duration::from_secs(now.saturating_sub(then))).to_string()
}

/// With three digits or so: more of them say nothing.
fn latency(seconds: Option<f64>) -> String {
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        None => unknown(),
        Some(time) if time >= Duration::from_secs(1) => format!("{:.1}s", time.as_secs_f64()),
        Some(time) => format!("{:.1}ms", time.as_secs_f64() * 1000.0),
    }
}

fn of_backend(backend: &Backend, now: u64) -> String {
    let next_hop = match (&backend.next_hop, backend.ifindex) {
        (None, _) => "none".into(),
        (Some(mac), 0) => format!("{mac}, by the interface that a packet came in by"),
        (Some(mac), ifindex) => format!("{mac}, by interface number {ifindex}"),
    };
    let traffic = &backend.traffic;
    let weight = backend.weight.zip(backend.share);
    let weight = weight.map(|(weight, share)| format!("{weight}, {} of new flows", ask::percent(share)));
    let flows = match backend.live_flows {
        Some(live) => format!("{live} live, {} remembered", backend.flows),
        None => format!("{} now", backend.flows),
    };
    let asked = backend.heard.map(|heard| format!(", {} ago", age(heard, now)));
    let given = backend.r#override.as_ref();
    let given = given.map(|given| ["override".into(), format!("{}; {}", order::given(given), order::by(given))]);
    let rows: [[String; 2]; 13] = [
        ["vip".into(), backend.vip.clone()],
        ["pool".into(), known(&backend.pool)],
        ["address".into(), backend.address.to_string()],
        ["state".into(), state(backend)],
        ["wanted".into(), backend.admin_state.clone().unwrap_or_else(unknown)],
        ["weight".into(), weight.unwrap_or_else(unknown)],
        ["last check".into(), known(&backend.last_check) + &asked.unwrap_or_default()],
        ["next hop".into(), next_hop],
        ["target".into(), backend.target.map_or("none".into(), |target| target.to_string())],
        ["forwarded".into(), format!("{} packets, {} bytes", traffic.packets, traffic.bytes)],
        ["flows".into(), format!("{flows}, {} created, {} moved here", traffic.flows_created, traffic.flows_moved)],
        [
            "tcp".into(),
            format!("{} openings, {} repeated, {} answered", traffic.syns, traffic.syn_retransmits, traffic.handshakes),
        ],
        ["tcp ends".into(), format!("{} by FIN, {} by RST", traffic.fins, traffic.rsts)],
    ];
    format!("{}\n{}", backend.name, table(["", ""], rows.into_iter().chain(given)).trim_start_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(at: u64, up: bool, reason: &str) -> Transition {
        Transition { at, up, reason: reason.into(), latency_seconds: Some(0.001_25) }
    }

    fn check(name: &str, transitions: Vec<Transition>) -> CheckStatus {
        CheckStatus {
            name: name.into(),
            kind: "http".into(),
            up: Some(false),
            last: "503 Service Unavailable".into(),
            since: Some(60),
            heard: Some(61),
            hindrance: None,
            latency_seconds: Some(0.001_25),
            successes: 0,
            failures: 4,
            transitions,
        }
    }

    fn health(transitions: Vec<Transition>, checks: Vec<CheckStatus>) -> Health {
        Health {
            pool: "web".into(),
            vip: "web".into(),
            backend: "web-1".into(),
            address: "10.0.0.1".parse().unwrap(),
            up: Some(false),
            reason: "503".into(),
            since: Some(60),
            transitions,
            checks,
            agent: None,
        }
    }

    #[test]
    fn one_check_is_told_once() {
        let fell = || transition(60, false, "503 Service Unavailable");
        let held = transition(90, false, "held down");
        let hindrance = Some(Hindrance { since: 64, reason: "Too many open files".into() });
        let check = CheckStatus { hindrance, ..check("site", vec![fell()]) };
        let text = of_health(&health(vec![fell(), held], vec![check]), 200);
        assert_eq!(
            text.lines().map(str::trim_end).collect::<Vec<_>>(),
            [
                "",
                "CHECK  TYPE  STATE  SINCE                 LAST RESULT                 AGE  LATENCY  IN A ROW",
                "site   http  down   1970-01-01T00:01:00Z  503 Service Unavailable  2m 19s    1.2ms         4",
                "! check site could not be made for 2m 16s: Too many open files",
                "",
                "TIME                  WHO          WENT  WHY                      LATENCY",
                "1970-01-01T00:01:00Z  the backend  down  503 Service Unavailable    1.2ms",
                "1970-01-01T00:01:30Z  the backend  down  held down                  1.2ms",
            ]
        );
    }

    #[test]
    fn of_several_each_is_told_in_the_order_of_time() {
        let one = check("one", vec![transition(10, true, "200 OK"), transition(60, false, "503")]);
        let two = check("two", vec![transition(20, true, "200 OK")]);
        let text = of_health(
            &health(vec![transition(20, true, "one: 200 OK"), transition(60, false, "one: 503")], vec![one, two]),
            0,
        );
        let who = |line: &str| line.split("  ").nth(1).unwrap_or_default().to_owned();
        let lately = text.lines().skip_while(|line| !line.starts_with("TIME")).skip(1);
        assert_eq!(
            lately.map(who).collect::<Vec<_>>(),
            ["check one", "check two", "the backend", "check one", "the backend"]
        );
        assert_eq!(of_health(&health(vec![], vec![]), 0), "");
    }

    #[test]
    fn an_agent_is_told_with_what_holds_and_when_it_fell_silent() {
        let agent = AgentStatus {
            answers: Some(false),
            last: "connection refused".into(),
            since: Some(60),
            heard: Some(61),
            hindrance: None,
            latency_seconds: Some(0.001_25),
            word: "drain 25%".into(),
            weight_percent: 0.0,
            transitions: vec![transition(60, false, "connection refused")],
        };
        let text =
            of_health(&Health { agent: Some(agent), ..health(vec![transition(70, true, "200 OK")], vec![]) }, 64);
        assert_eq!(
            text.lines().map(str::trim_end).collect::<Vec<_>>(),
            [
                "",
                "AGENT   SINCE                 LAST RESULT         AGE  LATENCY  IN FORCE",
                "silent  1970-01-01T00:01:00Z  connection refused   3s    1.2ms  drain 25%",
                "",
                "TIME                  WHO          WENT    WHY                 LATENCY",
                "1970-01-01T00:01:00Z  the agent    silent  connection refused    1.2ms",
                "1970-01-01T00:01:10Z  the backend  up      200 OK                1.2ms",
            ]
        );
    }

    #[test]
    fn latencies_are_told_with_few_digits() {
        let told = [None, Some(0.000_06), Some(0.25), Some(1.25), Some(-1.0)].map(latency);
        assert_eq!(told, ["-", "0.1ms", "250.0ms", "1.2s", "-"]);
    }
}
