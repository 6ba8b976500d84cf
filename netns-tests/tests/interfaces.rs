//! Interfaces of the balancer that vanish and return while it runs.

use std::time::Duration;

use anyhow::Result;
use netns_tests::{
    balancer::Balancer,
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Lab, Layout, quiet_offloads, vips},
    traffic::http,
    wait,
};

#[test]
fn the_program_returns_to_an_interface_that_is_made_anew() {
    scenario(&Layout { second_link: true, ..Layout::with_backends(2) }, |lab| {
        lab.log().expect("the program does not run on every interface");
        let lb = Balancer::start(lab, &Settings::web(lab, Health::None))?;
        lab.router.ip("link del lb0\n")?;
        // Far less than the minute after which the tables are looked through anyway.
        let soon = Duration::from_secs(10);
        wait::until("the loss shows", soon, || {
            let status = lb.json(&["status"])?;
            Ok((status["state"] == "degraded" && names(&status) == ["eth1"]).then_some(()))
        })?;
        let metrics = lb.metrics()?;
        let told: Vec<_> = metrics.all("lb_xdp_attached").filter_map(|sample| sample.label("interface")).collect();
        assert_eq!(told, ["eth1"]);

        make_anew(lab)?;
        wait::until("the program is back", soon, || {
            let status = lb.json(&["status"])?;
            Ok((status["state"] == "serving" && names(&status) == ["eth0", "eth1"]).then_some(()))
        })?;
        lab.quiet_offloads_of_balancer()?;
        let answers = http::ask_many(&lab.client, vips(80)[0], 40);
        assert_eq!((answers.failed(), answers.by_backend.len()), (0, 2), "{answers}");
        Ok(())
    });
}

fn names(status: &serde_json::Value) -> Vec<&str> {
    status["interfaces"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

/// The link between router and balancer again, as far as IPv4 needs it.
fn make_anew(lab: &Lab) -> Result<()> {
    lab.router.ip(&format!(
        "link add lb0 mtu 1600 numtxqueues 1 numrxqueues 1 type veth \
         peer name eth0 mtu 1600 numtxqueues 1 numrxqueues 1 netns {}\n\
         addr add 10.0.0.1/24 dev lb0\nlink set lb0 up\n",
        lab.lb.name()
    ))?;
    quiet_offloads(&lab.router, "lb0")?;
    lab.lb.ip("addr add 10.0.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.0.0.1\n")?;
    lab.router.ip("route add 192.0.2.0/24 via 10.0.0.2\n")
}
