//! Applying a configuration, and what is told of it.

use lb_common::layout::flow::{FlowEntry, FlowState};

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
