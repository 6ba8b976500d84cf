//! `on_daemon_loss`: what becomes of packets to VIPs when the daemon is gone.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lb_common::layout::limit::SILENCE_NS;
use netns_tests::{
    balancer::Balancer,
    host::server::Server,
    scenario::scenario,
    settings::{Health, Settings},
    topology::{LB_INTERFACE, Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::{http, ping::ping, sessions::Sessions},
    wait,
};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(5);
/// The name by which the balancer's own server answers.
const HOST: &str = "the-host";

/// The file, with this in `[daemon]`.
fn text(lab: &Lab, on_daemon_loss: &str) -> String {
    let plain = Settings::web(lab, Health::None).to_string();
    plain.replacen("[daemon]\n", &format!("[daemon]\non_daemon_loss = \"{on_daemon_loss}\"\n"), 1)
}

/// Makes the VIPs addresses of the balancer's host too, with a server there.
fn serve_on_host(lab: &Lab) -> Result<Server> {
    lab.lb.ip(&format!("addr add {VIP_V4}/32 dev lo\naddr add {VIP_V6}/128 dev lo nodad"))?;
    Server::start(&lab.lb, HOST, &[80], &[])
}

/// Waits until all answers are the host's own, or none is.
fn wait_for(lab: &Lab, to: SocketAddr, host: bool) -> Result<()> {
    let what = if host { "the host answers" } else { "backends answer" };
    wait::until(what, LIMIT, || {
        let answers = http::ask_many(&lab.client, to, 20);
        let expected = if host { 20 } else { 0 };
        Ok((answers.failed() == 0 && answers.of(HOST) == expected).then_some(()))
    })
}

fn runs_xdp(lab: &Lab) -> Result<bool> {
    Ok(lab.lb.run("ip", &["link", "show", "dev", LB_INTERFACE])?.contains("prog/xdp"))
}

#[test]
fn with_pass_packets_reach_the_host_however_the_daemon_ends() {
    scenario(&Layout::with_backends(2), |lab| {
        let _server = serve_on_host(lab)?;
        let mut lb = Balancer::prepare(lab, &Settings::web(lab, Health::None))?;
        lb.write(&text(lab, "pass"))?;
        lb.start_again()?;
        ensure!(lb.link().is_err(), "the link is pinned");
        for to in vips(80) {
            wait_for(lab, to, false)?;
        }
        lb.kill()?;
        for to in vips(80) {
            wait_for(lab, to, true)?;
        }
        ensure!(!runs_xdp(lab)?);
        lb.start_again()?;
        for to in vips(80) {
            wait_for(lab, to, false)?;
        }
        let mark = lb.log().mark();
        lb.stop()?;
        lb.log().wait_for(mark, &["stopped; packets pass to this host"])?;
        ensure!(!runs_xdp(lab)?, "it is detached when the process has ended");
        wait_for(lab, vips(80)[0], true)
    });
}

#[test]
fn a_reload_that_pins_or_unpins_loses_no_connection() {
    scenario(&Layout::with_backends(2), |lab| {
        let mut lb = Balancer::start(lab, &Settings::web(lab, Health::None))?;
        let link = lb.link()?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
        for _ in 0..3 {
            lb.reload_text(&text(lab, "pass"))?;
            ensure!(lb.link().is_err() && runs_xdp(lab)?, "the link is pinned still, or gone");
            sessions.all_stay()?;
            lb.reload_text(&text(lab, "keep"))?;
            assert_eq!(lb.link()?.id, link.id, "the link was made anew");
            sessions.all_stay()?;
        }
        // A start unpins what a daemon that wanted otherwise left pinned, and takes it over.
        lb.kill()?;
        lb.write(&text(lab, "pass"))?;
        lb.start_again()?;
        ensure!(lb.link().is_err() && runs_xdp(lab)?, "the link is pinned still, or gone");
        sessions.all_stay()
    });
}

/// Waits until pings to the VIPs of both families are answered, or are not.
fn wait_for_pings(lab: &Lab, answered: bool) -> Result<()> {
    let what = if answered { "pings are answered" } else { "pings are answered no more" };
    for vip in [VIP_V4.into(), VIP_V6.into()] {
        wait::until(what, 2 * LIMIT, || Ok(((ping(&lab.client, vip, 1)? == 1) == answered).then_some(())))?;
    }
    Ok(())
}

#[test]
fn with_withdraw_a_lost_daemon_ends_pings_and_nothing_else() {
    scenario(&Layout::with_backends(2), |lab| {
        let mut lb = Balancer::prepare(lab, &Settings::web(lab, Health::None))?;
        lb.write(&text(lab, "withdraw"))?;
        lb.start_again()?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
        for vip in [VIP_V4.into(), VIP_V6.into()] {
            assert_eq!(ping(&lab.client, vip, 5)?, 5);
        }
        // A daemon that hangs is as good as lost.
        lb.signal(Signal::STOP)?;
        let stopped = Instant::now();
        std::thread::sleep(Duration::from_secs(3));
        let answered = ping(&lab.client, VIP_V4.into(), 1)?;
        // The sign of life before may be a second old, and so long is an answer waited for: one that does not come in this
        // time was asked for too late, by a machine that is busy.
        let silent_for = stopped.elapsed();
        ensure!(answered == 1 || silent_for >= Duration::from_nanos(SILENCE_NS), "after {silent_for:?} of silence");
        wait_for_pings(lab, false)?;
        sessions.all_stay()?;
        lb.signal(Signal::CONT)?;
        wait_for_pings(lab, true)?;

        lb.kill()?;
        wait_for_pings(lab, false)?;
        sessions.all_stay()?;
        for to in vips(80) {
            assert_eq!(http::ask_many(&lab.client, to, 50).failed(), 0, "while no daemon runs");
        }
        lb.start_again()?;
        wait_for_pings(lab, true)?;
        ensure!(lb.stats()?.verdict("withdrawn")? > 0, "pings that were not answered are counted");

        // Another setting, and pings are answered without a daemon too.
        lb.reload_text(&text(lab, "keep"))?;
        lb.kill()?;
        std::thread::sleep(Duration::from_secs(6));
        assert_eq!(ping(&lab.client, VIP_V4.into(), 3)?, 3);
        sessions.all_stay()
    });
}
