//! Operators' orders, and where they show.

use lb_common::layout::flow::{FlowEntry, FlowState};
use serde_json::{Value, json};

use super::{Api, Backend, Effect, Status, Vip};
use crate::{
    api::types::{Overridden, Override, Pool},
    dataplane::flows::Liveness,
    http::Accounts,
};

impl Api {
    async fn order(&self, path: &str, body: Value) -> Overridden {
        self.client().post(path, &body).await.unwrap()
    }

    async fn refusal(&self, path: &str, body: Value) -> (String, String) {
        let (status, answer) = Self::call_on(&self.socket, "post", path, &body).await;
        (status, answer["error"].as_str().unwrap_or_default().to_owned())
    }

    async fn status(&self) -> Status {
        self.client().get("/v1/status").await.unwrap()
    }
}

#[tokio::test]
async fn a_drain_shows_everywhere_with_what_is_left() {
    let api = Api::new().await;
    let now = Liveness::now(7).now;
    for (tag, vip) in [(1, "web"), (2, "web"), (3, "web-v6")] {
        let entry = FlowEntry::new(tag, api.rig.target(vip, "web-1"), now, FlowState::Established);
        assert!(api.rig.tables().memory.remember(0, entry));
    }
    let ordered = api.order("/v1/backends/web/web-1/drain", json!({"deadline_seconds": 600})).await;
    let given = ordered.r#override.unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!((given.state.as_deref(), given.uid), (Some("draining"), Some(uid)));
    assert_eq!(given.author, Accounts::default().name(uid), "as in the history");
    assert_eq!((given.flows_at_start, given.flows_left, given.deadline), (Some(3), Some(3), Some(given.since + 600)));
    assert_eq!((ordered.warnings, ordered.pending), (vec![], None));
    let backends: Vec<Backend> = api.client().get("/v1/backends").await.unwrap();
    for (vip, live) in [("web", 2), ("web-v6", 1)] {
        let backend = backends.iter().find(|one| one.name == "web-1" && one.vip == vip).unwrap();
        assert_eq!((backend.state, backend.live_flows), (Effect::Draining, Some(live)));
        assert_eq!(backend.r#override.as_ref(), Some(&given), "over all VIPs");
    }
    assert!(backends.iter().all(|one| (one.name == "web-1") == one.r#override.is_some()));
    let overrides = api.status().await.overrides.unwrap();
    assert_eq!((overrides.len(), overrides[0].configured, &overrides[0].given), (1, true, &given));
    let ordered = api.order("/v1/backends/web/web-1/enable", json!({})).await;
    assert_eq!(ordered.r#override, None);
    assert_eq!(api.status().await.overrides, Some(vec![]));
}

#[tokio::test]
async fn an_order_that_was_carried_out_is_no_error_when_flows_cannot_be_counted() {
    let api = Api::new().await;
    api.rig.tables().uncountable = true;
    let given = api.order("/v1/backends/web/web-1/drain", json!({})).await.r#override.unwrap();
    assert_eq!((given.state.as_deref(), given.flows_left), (Some("draining"), None));
}

#[tokio::test]
async fn weights_and_vips_show_as_overrides() {
    let api = Api::new().await;
    let given = api.order("/v1/backends/web/web-2/weight", json!({"weight": 7})).await.r#override.unwrap();
    assert_eq!((given.state, given.weight), (None, Some(7)));
    let given = api.order("/v1/vips/dns/disable", json!({})).await.r#override.unwrap();
    let vips: Vec<Vip> = api.client().get("/v1/vips").await.unwrap();
    assert_eq!(given.author, Accounts::default().name(rustix::process::getuid().as_raw()));
    assert_eq!(vips[2].r#override, Some(Override { state: Some("disabled".into()), ..given }));
    assert_eq!((vips[2].backends_serving, vips[0].r#override.is_none()), (0, true));
    let status = api.status().await;
    assert_eq!((status.overrides.unwrap().len(), status.problems), (2, vec![]));
    assert_eq!(api.order("/v1/vips/dns/enable", json!({})).await.r#override, None);
    assert_eq!(api.order("/v1/backends/web/web-2/weight", json!({"weight": null})).await.r#override, None);
    let pools: Vec<Pool> = api.client().get("/v1/pools").await.unwrap();
    assert_eq!(pools[1], Pool { name: "web".into(), backends: ["web-1", "web-2", "web-3"].map(String::from).into() });
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused_and_change_nothing() {
    let api = Api::new().await;
    for (path, body, status, error) in [
        ("/v1/backends/wbe/web-1/drain", json!({}), "404", "no pool wbe; did you mean web?"),
        ("/v1/backends/web/web-11/enable", json!({}), "404", "no backend web/web-11; did you mean web-1?"),
        ("/v1/vips/mail/disable", json!({}), "404", "no vip mail; there are: web, web-v6, dns"),
        ("/v1/backends/web/web-1/weight", json!({"weight": 65_536}), "400", "weight is not from 0 to 65535"),
        ("/v1/backends/web/web-1/weight", json!({}), "400", "the body is refused: missing field `weight`"),
        ("/v1/backends/web/web-1/drain", json!({"deadline_seconds": 0}), "400", "deadline_seconds is not from 1"),
        ("/v1/backends/web/web-1/drain", json!({"deadline": 5}), "400", "unknown field `deadline`"),
        ("/v1/backends/web/web-1/pause", json!({}), "404", "no such resource"),
    ] {
        let (code, text) = api.refusal(path, body).await;
        assert!(code == status && text.contains(error), "{path}: {code} {text}");
    }
    assert_eq!(api.status().await.overrides, Some(vec![]));
}
