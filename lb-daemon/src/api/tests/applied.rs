//! Applying a configuration, and what is told of it.

use std::fs;

use lb_common::layout::flow::{FlowEntry, FlowState};
use serde_json::json;

use super::{Api, Bundle, ClientError, Status, TEXT};
use crate::{
    api::types::{Applied, ApplyRequest},
    dataplane::flows::Liveness,
};

#[tokio::test]
async fn an_apply_tells_what_it_changes_and_keeps_to_its_limit() {
    let api = Api::new().await;
    let flow = FlowEntry::new(1, api.rig.target("web", "web-1"), Liveness::now(7).now, FlowState::Established);
    assert!(api.rig.tables().memory.remember(0, flow));
    let text = TEXT.replace("  { name = \"web-1\", address = \"10.0.0.1\" },\n", "");
    let apply = async |max_disruption: f64| {
        let bundle = Bundle::of("/etc/lb.toml", &*text);
        let request =
            ApplyRequest { bundle, confirm_seconds: None, max_disruption: Some(max_disruption), reason: None };
        api.client().post::<Applied>("/v1/apply", &request).await
    };
    for (limit, complaint) in [
        (0.5, "1 of 1 live flows (100%) would lose their backend, more than the 50% that may"),
        (-0.1, "max_disruption: not from 0 to 1; 0.05 is 5%"),
        (5.0, "max_disruption: not from 0 to 1; 0.05 is 5%"),
    ] {
        let Err(ClientError::Refused(problem)) = apply(limit).await else { panic!("taken") };
        assert!(problem.error.starts_with(complaint) && problem.diagnostics.is_none(), "{problem:?}");
        assert_eq!(api.client().get::<Status>("/v1/status").await.unwrap().generation, Some(1));
    }
    let plan = apply(1.0).await.unwrap().plan.unwrap();
    assert_eq!((plan.vips_changed, plan.flows.map(|flows| flows.moved)), (2, Some(1)));
}

#[tokio::test]
async fn while_a_generation_waits_for_confirmation_every_change_is_a_conflict() {
    let api = Api::new().await;
    let post = async |path: &str, body| {
        let (status, answer) = Api::call_on(&api.socket, "post", path, &body).await;
        let why = answer["error"].as_str().unwrap_or_default().to_owned();
        (status, why)
    };
    let bundle = |port: &str| Bundle::of("/etc/lb.toml", TEXT.replace("port = 80", port));
    assert_eq!(post("/v1/confirm", json!({})).await.0, "409", "nothing waits");
    let asked = json!({ "bundle": bundle("port = 81"), "confirm_seconds": 60 });
    assert_eq!(post("/v1/apply", asked.clone()).await, ("200".into(), String::new()));
    fs::write(&api.config, TEXT.replace("port = 80", "port = 82")).unwrap();
    for (path, body) in [
        ("/v1/apply", json!({ "bundle": bundle("port = 83") })),
        ("/v1/reload", json!({})),
        ("/v1/rollback", json!({ "generation": 2 })),
    ] {
        let (status, why) = post(path, body).await;
        assert_eq!(status, "409", "{path}: {why}");
        assert!(why.starts_with("generation 2 waits for confirmation: `lb confirm` keeps it"), "{path}: {why}");
    }
    // What would be refused at any time is no conflict.
    let (status, why) = post("/v1/rollback", json!({ "generation": 77 })).await;
    assert_eq!(status, "422", "{why}");
    assert_eq!(api.client().get::<Status>("/v1/status").await.unwrap().generation, Some(2));
}
