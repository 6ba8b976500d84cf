//! A backend that fails gives way, and one that is drained lets its connections end.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::Balancer,
    host::Backend,
    scenario::scenario,
    settings::{Family, Health, Settings, TRACKED},
    share,
    topology::{Layout, VIP_V4, VIP_V6, vips},
    traffic::{
        http, is_silent,
        openings::{HELD, Openings, last_failure},
        sessions::Sessions,
        udp,
    },
    wait,
};

/// How long a backend that is gone may get new connections, checked once a second and given up upon the second failure.
const DETECTED: Duration = Duration::from_millis(2_500);

/// Digest of the first VIP's ring: equal digests are equal rings.
fn ring_digest(lb: &Balancer) -> Result<String> {
    let vips = lb.json(&["vip", "list"])?;
    let list = vips.as_array().or_else(|| vips["vips"].as_array()).context("no list of VIPs")?;
    let digest = list.first().and_then(|vip| vip["ring_digest"].as_str());
    Ok(digest.with_context(|| format!("no ring_digest in {vips}"))?.into())
}

#[test]
fn a_dead_backend_gives_way_at_once_and_gets_its_slots_back() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(3), |lab| {
            lab.log().expect("web-2");
            let settings = Settings::web(lab, Health::Http(80)).tracked(tracking);
            let lb = Balancer::start(lab, &settings)?;
            lb.wait_up(&["web-1", "web-2", "web-3"])?;
            let ring = ring_digest(&lb)?;

            let mut sessions = Sessions::open(&lab.client, &vips(80), 30)?;
            sessions.forget("web-2");
            ensure!(!sessions.is_empty(), "all connections are the dead backend's");
            lab.backend("web-2").stop();
            lb.wait_up(&["web-1", "web-3"])?;
            for to in vips(80) {
                let answers = http::ask_many(&lab.client, to, 300);
                assert_eq!((answers.failed(), answers.of("web-2")), (0, 0), "{answers}");
            }
            assert_ne!(ring_digest(&lb)?, ring);
            sessions.all_stay()?;

            lab.backend("web-2").start()?;
            lb.wait_up(&["web-1", "web-2", "web-3"])?;
            assert_eq!(ring_digest(&lb)?, ring);
            let answers = http::ask_many(&lab.client, vips(80)[0], 1000);
            share::compare(&answers, &settings.weights()).map_err(anyhow::Error::msg)?;
            sessions.all_stay()
        });
    }
}

/// How long new connections go to a backend that `kill` takes away.
fn goes_on_for(kill: impl FnOnce(&mut Backend) -> Result<()>) -> Duration {
    let mut took = Duration::MAX;
    scenario(&Layout::with_backends(3), |lab| {
        let health = Health::Checks(vec!["{ type = \"tcp\", interval = \"1s\", fall = 2 }".into()]);
        let lb = Balancer::start(lab, &Settings::web(lab, health))?;
        lb.wait_up(&["web-1", "web-2", "web-3"])?;
        let openings = Openings::start(lab, vips(80)[0], 200)?;
        thread::sleep(Duration::from_secs(1));
        let killed = Instant::now();
        kill(lab.backend("web-2"))?;
        thread::sleep(Duration::from_secs(4));
        let openings = openings.finish()?;
        let lost = openings.iter().filter(|opening| !opening.answered).count();
        ensure!(
            openings.iter().all(|opening| opening.answered || opening.at + HELD >= killed),
            "not all were well before"
        );
        ensure!(lost > 0, "none of {} connections went to it", openings.len());
        took = last_failure(&openings, killed);
        println!("the last of {lost} connections that it got was tried {took:?} after it was gone");
        Ok(())
    });
    took
}

#[test]
fn new_connections_keep_clear_of_a_backend_within_two_and_a_half_seconds_of_its_servers_end() {
    let took = goes_on_for(|backend| {
        backend.stop();
        Ok(())
    });
    assert!(took <= DETECTED, "{took:?}");
}

#[test]
fn new_connections_keep_clear_of_a_backend_within_two_and_a_half_seconds_of_its_links_end() {
    let took = goes_on_for(|backend| backend.namespace.ip("link set eth0 down\n"));
    assert!(took <= DETECTED, "{took:?}");
}

#[test]
fn flows_of_a_dead_backend_move_and_the_others_stay() {
    scenario(&Layout::with_backends(3), |lab| {
        lab.log().expect("web-2");
        let settings =
            Settings::empty(lab).pool("dns", lab, Family::V4, Health::Tcp(80)).vip("dns", (VIP_V4, 53, "udp"), "dns");
        let lb = Balancer::start(lab, &settings)?;
        lb.wait_up(&["web-1", "web-2", "web-3"])?;
        let to = SocketAddr::new(VIP_V4.into(), 53);
        let open = |_| {
            let mut flow = udp::Flow::open(&lab.client, to)?;
            let backend = flow.ask()?;
            Ok((flow, backend))
        };
        let mut flows: Vec<(udp::Flow, String)> = (0..60).map(open).collect::<Result<_>>()?;
        let lost = flows.iter().filter(|(_, backend)| backend == "web-2").count();
        ensure!(lost > 0, "no flow of 60 came to web-2");
        let moved_before = lb.metrics()?.value("lb_flows_moved_total")?;

        lab.backend("web-2").stop();
        lb.wait_up(&["web-1", "web-3"])?;
        for (flow, backend) in &mut flows {
            let now = flow.ask()?;
            assert_ne!(now, "web-2");
            assert!(backend == "web-2" || *backend == now, "a flow of {backend} went to {now}");
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 60")]
        let expected = lost as f64;
        wait::until("all lost flows are counted as moved", Duration::from_secs(3), || {
            let moved = lb.metrics()?.value("lb_flows_moved_total")? - moved_before;
            ensure!((moved - expected).abs() < 0.5, "{moved} flows were counted as moved, {lost} were");
            Ok(Some(()))
        })
    });
}

#[test]
fn a_backend_of_weight_zero_keeps_its_connections_and_gets_no_new_ones() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(3), |lab| {
            let mut settings = Settings::web(lab, Health::None).tracked(tracking);
            let lb = Balancer::start(lab, &settings)?;
            let to = vips(80)[0];
            let mut sessions = Sessions::open(&lab.client, &vips(80), 30)?;
            ensure!(sessions.of("web-2") > 0, "no connection of 30 came to web-2");

            settings.backend("web-2").weight = 0;
            lb.reload(&settings)?;
            let answers = http::ask_many(&lab.client, to, 500);
            assert_eq!((answers.failed(), answers.of("web-2")), (0, 0), "{answers}");
            sessions.all_stay()?;

            settings.backend("web-2").weight = 100;
            lb.reload(&settings)?;
            let answers = http::ask_many(&lab.client, to, 1000);
            share::compare(&answers, &settings.weights()).map_err(anyhow::Error::msg)?;
            sessions.all_stay()
        });
    }
}

#[test]
fn packets_to_a_vip_without_a_healthy_backend_are_dropped_for_that_reason() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(2), |lab| {
            lab.log().expect("web-");
            lab.log().expect("backend");
            let lb = Balancer::start(lab, &Settings::web(lab, Health::Http(80)).tracked(tracking))?;
            lb.wait_up(&["web-1", "web-2"])?;
            assert_eq!(dropped(&lb)?, 0);
            for backend in ["web-1", "web-2"] {
                lab.backend(backend).stop();
            }
            lb.wait_up(&[])?;
            for vip in [SocketAddr::new(VIP_V4.into(), 80), SocketAddr::new(VIP_V6.into(), 80)] {
                let before = dropped(&lb)?;
                assert!(is_silent(&lab.client, vip));
                ensure!(dropped(&lb)? > before, "{vip}: nothing was counted as dropped");
            }
            for backend in ["web-1", "web-2"] {
                lab.backend(backend).start()?;
            }
            lb.wait_up(&["web-1", "web-2"])?;
            assert_eq!(http::ask_many(&lab.client, vips(80)[0], 20).failed(), 0);
            Ok(())
        });
    }
}

/// Packets dropped for want of a backend, as `lb stats -o json` tells them.
fn dropped(lb: &Balancer) -> Result<u64> {
    let stats = lb.json(&["stats"])?;
    let verdicts = stats["verdicts"].as_array().context("lb stats has no verdicts")?;
    let found = verdicts.iter().find(|verdict| verdict["verdict"] == "no_backend");
    let packets = found.and_then(|verdict| verdict["packets"].as_u64());
    packets.with_context(|| format!("no no_backend in {stats}"))
}
