//! Why a backend is up or down.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::Api;
use crate::{
    api::types::{AgentStatus, Backend, CheckStatus, Health, Hindrance, Transition},
    controller::tests::rig::{TEXT, config},
    health::{self, CheckId, Heard, Record, Records, Standing, Status, agent::Said},
};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn records(nth: impl IntoIterator<Item = u64>) -> Records {
    let mut records = Records::default();
    for nth in nth {
        let (up, text) = (nth.is_multiple_of(2), format!("result {nth}"));
        records.push(Record { at: at(nth), up, text, latency: Some(Duration::from_millis(nth)) });
    }
    records
}

#[tokio::test]
async fn tells_of_each_check_what_it_found_and_when_it_was_otherwise() {
    let api = Api::new().await;
    let status = Status {
        up: false,
        last: "connection refused".into(),
        since: Some(at(25)),
        heard: Some(at(30)),
        latency: Some(Duration::from_millis(1500)),
        failures: 3,
        transitions: records([24, 25]),
        ..Status::default()
    };
    api.rig.health.send_modify(|view| {
        for (member, standing) in
            Arc::make_mut(view).iter_mut().filter(|(member, _)| member.backend.to_string() == "10.0.0.2")
        {
            let checks = [("tcp".into(), status.clone()), ("gone".into(), status.clone())].into();
            let (reason, since) = (format!("for {}", member.service), Some(at(25)));
            let transitions = records(0..25);
            *standing = Standing { up: false, reason, since, transitions, checks, ..Standing::default() };
        }
    });
    let told = health::Hindrance { since: at(31), why: "Too many open files".into() };
    api.rig.hindered.send_modify(|hindered| {
        let member = api.rig.health.borrow().keys().find(|member| member.backend.to_string() == "10.0.0.2").copied();
        Arc::make_mut(hindered).insert(CheckId { member: member.unwrap(), check: "tcp".into() }, told);
    });
    let found: Vec<Health> = api.client().get("/v1/health?pool=web&backend=web-2").await.unwrap();
    let vips: Vec<&str> = found.iter().map(|health| health.vip.as_str()).collect();
    assert_eq!(vips, ["web", "web-v6"]);
    let web = &found[0];
    let told = (web.up, web.reason.as_str(), web.since, web.address.to_string(), web.pool.as_str());
    assert_eq!(told, (Some(false), "for 192.0.2.10:80 tcp", Some(25), "10.0.0.2".into(), "web"));
    assert_eq!((web.transitions.len(), web.transitions[0].at), (20, 5), "the latest twenty");
    let transition =
        |at, up, latency| Transition { at, up, reason: format!("result {at}"), latency_seconds: Some(latency) };
    let check = CheckStatus {
        name: "tcp".into(),
        kind: "tcp".into(),
        up: Some(false),
        last: "connection refused".into(),
        since: Some(25),
        heard: Some(30),
        hindrance: Some(Hindrance { since: 31, reason: "Too many open files".into() }),
        latency_seconds: Some(1.5),
        successes: 0,
        failures: 3,
        transitions: vec![transition(24, true, 0.024), transition(25, false, 0.025)],
    };
    assert_eq!(web.checks, [check], "those that are configured");
    assert_eq!(found[1].checks[0].hindrance, None, "it is asked for another VIP");
    let all: Vec<Health> = api.client().get("/v1/health").await.unwrap();
    assert!(all.len() > 2 && all.iter().any(|health| health.pool == "dns" && health.checks.is_empty()));
    let none: Vec<Health> = api.client().get("/v1/health?backend=nobody").await.unwrap();
    assert_eq!(none, []);
    let backends: Vec<Backend> = api.client().get("/v1/backends").await.unwrap();
    let heard = |name: &str| backends.iter().find(|backend| backend.name == name).unwrap().heard;
    assert_eq!(
        (heard("web-2"), heard("web-1"), backends.iter().filter(|one| one.pool == "dns").find_map(|one| one.heard)),
        (Some(30), None, None),
        "the rig has no results for the others, and nobody asks the third pool"
    );
    // What the controller tells follows at once, though nothing went up or down.
    let problems = api.rig.handle.snapshot().problems();
    assert!(problems[0].starts_with("1 check of pool web (web-2) could not be made for "), "{problems:?}");
    assert!(problems[0].ends_with(", all stays as it was: Too many open files"), "{problems:?}");
}

#[tokio::test]
async fn tells_of_an_agent_what_it_said_and_what_holds() {
    let api = Api::new().await;
    let text = TEXT.replace("[pool.web.health]", "[pool.web.agent]\nport = 9707\n[pool.web.health]");
    api.rig.reload(config(&text)).await.unwrap();
    let found: Vec<Health> = api.client().get("/v1/health?pool=web&backend=web-1").await.unwrap();
    let AgentStatus { answers, last, word, weight_percent, .. } = found[0].agent.clone().unwrap();
    assert_eq!((answers, last.as_str(), word.as_str()), (None, "not asked yet", "ready"));
    assert!((weight_percent - 100.0).abs() < f64::EPSILON);
    let mut heard =
        Heard { status: Status { last: "no answer within 1s".into(), ..Status::default() }, ..Heard::default() };
    heard.word.take(&Said::read(b"33% down #disk full").unwrap());
    let standing = Standing { agent: Some(heard), ..Standing::default() };
    api.rig.report_as("10.0.0.1", &standing);
    let found: Vec<Health> = api.client().get("/v1/health?pool=web&backend=web-1").await.unwrap();
    let AgentStatus { answers, last, word, weight_percent, .. } = found[0].agent.clone().unwrap();
    assert_eq!((answers, last.as_str()), (Some(false), "no answer within 1s"));
    assert_eq!(word, "33% down (#disk full)");
    assert!((weight_percent - 33.0).abs() < f64::EPSILON);
    let others: Vec<Health> = api.client().get("/v1/health?pool=dns").await.unwrap();
    assert!(others.iter().all(|health| health.agent.is_none()));
}

#[tokio::test]
async fn a_check_without_result_says_so_and_a_misspelt_question_is_refused() {
    let api = Api::new().await;
    api.rig.health.send_modify(|view| Arc::make_mut(view).clear());
    let found: Vec<Health> = api.client().get("/v1/health?backend=web-1").await.unwrap();
    assert_eq!((found[0].up, found[0].checks[0].up, found[0].checks[0].last.as_str()), (None, None, "no result yet"));
    let refused = api.client().get::<Vec<Health>>("/v1/health?pol=web").await.unwrap_err().to_string();
    assert!(refused.contains("pol"), "{refused}");
}
