//! Who may send, how much, and whose flows go elsewhere.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    scenario::scenario,
    settings::{Family, Health, PoolBackend, Settings},
    topology::{CLIENT_V4, CLIENT_V6, Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::{
        are_silent,
        http::{self, Connection},
        udp::Flow,
    },
    wait,
};

/// The lab's client as each VIP sees it, in the order of [`vips`].
const CLIENT: [IpAddr; 2] = [IpAddr::V4(CLIENT_V4), IpAddr::V6(CLIENT_V6)];

/// A VIP of each family, and the address from which each of these clients asks it.
fn pairs(client: [IpAddr; 2]) -> impl Iterator<Item = (IpAddr, SocketAddr)> {
    client.into_iter().zip(vips(80))
}

fn served(lab: &Lab, client: [IpAddr; 2]) -> Result<()> {
    for (source, to) in pairs(client) {
        let answers = http::ask_many_from(&lab.client, source, to, 10);
        ensure!(answers.failed() == 0, "{source} to {to}: {answers}");
    }
    Ok(())
}

fn kept_out(lab: &Lab, client: [IpAddr; 2]) -> Result<()> {
    ensure!(are_silent(&lab.client, &pairs(client).collect::<Vec<_>>()), "a client that is kept out is answered");
    Ok(())
}

#[test]
fn denied_sources_get_no_answer_until_a_reload_lets_them_in() {
    scenario(&Layout::with_backends(2), |lab| {
        let other = lab.add_client_address(8)?;
        let settings = Settings::web(lab, Health::None);
        let deny = "deny = [\"198.51.100.8\", \"2001:db8:c::8\"]";
        let lb = Balancer::start(lab, &settings.clone().dataplane(deny))?;
        served(lab, CLIENT)?;
        kept_out(lab, other)?;
        let denied = lb.stats()?.verdict("denied")?;
        ensure!(denied >= 2, "{denied} packets were denied");

        lb.reload(&settings)?;
        served(lab, other)?;
        let mut open = Connection::open_from(&lab.client, other[0], vips(80)[0])?;
        open.ask()?;

        // A VIP's own list, with an exception to it: the longest prefix decides. What is denied loses what it had.
        let own = "deny = [\"198.51.100.0/24\", \"2001:db8:c::/64\"]\nallow = [\"198.51.100.7\", \"2001:db8:c::7\"]";
        lb.reload(&settings.clone().each_vip(own))?;
        served(lab, CLIENT)?;
        kept_out(lab, other)?;
        open.wait_at_most(Duration::from_millis(300))?;
        ensure!(open.ask().is_err(), "a denied client keeps its connection");
        // What is for no VIP has no list to pass.
        let host = SocketAddr::new(lab.backends[0].v4, 80);
        let answers = http::ask_many_from(&lab.client, other[0], host, 3);
        ensure!(answers.failed() == 0, "a host behind the router: {answers}");
        lb.reload(&settings)?;
        served(lab, other)
    });
}

#[test]
fn lists_from_files_are_read_anew_with_each_reload() {
    scenario(&Layout::with_backends(1), |lab| {
        let other = lab.add_client_address(8)?;
        let list = lab.folder().join("allow.txt");
        std::fs::write(&list, "# those that we know\n198.51.100.7\n2001:db8:c::7\n")?;
        let settings = Settings::web(lab, Health::None).dataplane("allow_file = \"allow.txt\"");
        let lb = Balancer::start(lab, &settings)?;
        served(lab, CLIENT)?;
        kept_out(lab, other)?;
        std::fs::write(&list, "198.51.100.0/29 # and one more\n198.51.100.8\n2001:db8:c::/64\n")?;
        lb.reload(&settings)?;
        served(lab, CLIENT)?;
        served(lab, other)
    });
}

/// New flows at once.
const FLOOD: u64 = 60;

#[test]
fn new_flows_beyond_the_limit_are_dropped_and_known_ones_are_not() {
    scenario(&Layout::with_backends(2), |lab| {
        let settings = Settings::empty(lab)
            .pool("dns", lab, Family::V4, Health::None)
            .vip("dns", (VIP_V4, 53, "udp"), "dns")
            .vip("other", (VIP_V6, 53, "udp"), "dns");
        let mut limited = settings.clone();
        limited.vips[0].keys.push("max_new_flows_per_second = 10".into());
        let lb = Balancer::start(lab, &settings)?;
        let [to, other] = vips(53);
        let mut known = Flow::open(&lab.client, to)?;
        let name = known.ask()?;
        lb.reload(&limited)?;
        let flood = |to| (0..FLOOD).try_for_each(|_| Flow::open(&lab.client, to)?.send());
        // As many as in a second at once, and then as time goes by.
        let started = Instant::now();
        flood(to)?;
        let (dropped, taken) = wait::until("the flood has come through", LIMIT, || {
            let stats = lb.stats()?;
            let (dropped, new) = (stats.verdict("new_flow_limit")?, stats.event("miss_udp")?);
            Ok((new == 1 + FLOOD).then_some((dropped, FLOOD - dropped)))
        })?;
        let most = 11 + started.elapsed().as_millis() / 100;
        ensure!((9..=most).contains(&u128::from(taken)), "{taken} of {FLOOD} new flows were taken, {dropped} dropped");
        for _ in 0..20 {
            ensure!(known.ask()? == name, "a known flow went elsewhere");
        }
        // The other VIP has no limit, and this one takes new flows again soon.
        flood(other)?;
        Flow::open(&lab.client, other)?.ask()?;
        assert_eq!(lb.stats()?.verdict("new_flow_limit")?, dropped);
        thread::sleep(Duration::from_millis(300));
        Flow::open(&lab.client, to)?.ask().map(drop)
    });
}

#[test]
fn source_routes_lead_new_flows_elsewhere_and_change_while_packets_flow() {
    scenario(&Layout::with_backends(3), |lab| {
        let other = lab.add_client_address(8)?;
        let third = lab.add_client_address(9)?;
        let of = |lab: &Lab, number: usize| {
            let backend = &lab.backends[number];
            PoolBackend::new(backend.name(), backend.v4)
        };
        let settings = Settings::empty(lab)
            .pool_of("web", vec![of(lab, 0), of(lab, 1)])
            .pool_of("canary", vec![of(lab, 2)])
            .vip("web-v4", (VIP_V4, 80, "tcp"), "web")
            .vip("web-v6", (VIP_V6, 80, "tcp"), "web");
        let routes = "source_routes = [{ source = \"198.51.100.8/31\", pool = \"canary\" }, \
                      { source = \"2001:db8:c::8/127\", pool = \"canary\" }, \
                      { source = \"198.51.100.9\", backend = \"web-2\" }, { source = \"2001:db8:c::9\", backend = \"web-2\" }]";
        let only = |client: [IpAddr; 2], name: &str| -> Result<()> {
            for (source, to) in pairs(client) {
                let answers = http::ask_many_from(&lab.client, source, to, 12);
                ensure!((answers.of(name), answers.failed()) == (12, 0), "{source} to {to}: {answers}, not {name}");
            }
            Ok(())
        };
        let lb = Balancer::start(lab, &settings.clone().each_vip(routes))?;
        only(other, "web-3")?;
        only(third, "web-2")?;
        for (source, to) in pairs(CLIENT) {
            let answers = http::ask_many_from(&lab.client, source, to, 40);
            let wanted = (0, 2, 0);
            ensure!((answers.failed(), answers.by_backend.len(), answers.of("web-3")) == wanted, "{answers}");
        }
        let counted = lb.stats()?.event("source_routed")?;
        ensure!(counted >= 48, "{counted} flows were routed by source");
        // New flows go another way at once; those that there are stay.
        let mut open = Connection::open_from(&lab.client, other[0], vips(80)[0])?;
        assert_eq!(open.ask()?, "web-3");
        let changed = routes.replace("/31\", pool = \"canary\"", "/31\", backend = \"web-1\"");
        lb.reload(&settings.clone().each_vip(&changed))?;
        let answers = http::ask_many_from(&lab.client, other[0], vips(80)[0], 12);
        ensure!((answers.of("web-1"), answers.failed()) == (12, 0), "{answers}, not web-1");
        assert_eq!(open.ask()?, "web-3");
        // Without routes, and so without the pool; its flows have nowhere else to go than the VIP's own.
        lb.reload(&settings)?;
        ensure!(open.ask().is_err(), "a backend serves that is the VIP's no more");
        for (source, to) in pairs(other) {
            let answers = http::ask_many_from(&lab.client, source, to, 40);
            let wanted = (0, 2, 0);
            ensure!((answers.failed(), answers.by_backend.len(), answers.of("web-3")) == wanted, "{answers}");
        }
        Ok(())
    });
}
