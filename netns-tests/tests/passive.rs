//! Backends are ejected by what clients' handshakes tell, and come back.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::{self, Balancer},
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Lab, Layout, VIP_V4},
    traffic::openings::{Openings, last_failure},
    wait,
};

/// New connections a second.
const RATE: u32 = 1_000;
/// What `lb decap` lets in when it is to drop what the balancer sends: packets from a source that nobody has.
const NOBODY: [&str; 2] = ["--allow-source", "203.0.113.0/24"];

fn vip() -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), 80)
}

/// A balancer with passive health, and these checks.
fn listening(lab: &Lab, health: &Health, passive: &str) -> Result<Balancer> {
    let settings = Settings::web(lab, health.clone()).to_string();
    // Checks see nothing of the tunnel, so that what traffic tells alone decides.
    let direct = if *health == Health::None { "" } else { "\nprobe = \"direct\"" };
    let passive = format!("[pool.web.passive]\n{passive}\n\n[pool.web.health]{direct}");
    Balancer::start_text(lab, &settings.replace("[pool.web.health]", &passive))
}

/// A counter of a backend of the VIP.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of some thousands")]
fn count(lb: &Balancer, name: &str, backend: &str) -> Result<u64> {
    Ok(lb.metrics()?.sum(name, &[("vip", "web-v4"), ("backend", backend)])? as u64)
}

fn ejections(lb: &Balancer) -> Result<f64> {
    lb.metrics()?.value("lb_backend_ejections_total")
}

#[test]
fn a_silent_backend_is_ejected_within_a_second_and_for_longer_the_second_time() {
    scenario(&Layout::with_backends(4), |lab| {
        lab.log().expect("a backend is ejected");
        let lb = listening(lab, &Health::Tcp(80), "eject_for = \"3s\"")?;
        lb.wait_up(&["web-1", "web-2", "web-3", "web-4"])?;
        let (binary, mark) = (balancer::binary()?, lab.log().mark());

        let openings = Openings::start(lab, vip(), RATE)?;
        thread::sleep(Duration::from_secs(3));
        ensure!(ejections(&lb)? == 0.0, "all are well");
        let silent = Instant::now();
        // The server still answers its check, which does not go through the tunnel.
        lab.backend("web-2").attach_decap_with(&binary, &NOBODY)?;
        thread::sleep(Duration::from_secs(2));
        let (reason, before) = (lb.reason("web-2")?, count(&lb, "lb_backend_syn_total", "web-2")?);
        let openings = openings.finish()?;
        let took = last_failure(&openings, silent);
        let lost = openings.iter().filter(|opening| !opening.answered).count();
        println!("ejected after {took:?}, {lost} of {} connections were not answered; {reason}", openings.len());
        ensure!(took <= Duration::from_secs(1), "a connection was still not answered {took:?} after it fell silent");
        ensure!(reason.starts_with("ejected: ") && reason.contains(" handshakes completed, until "), "{reason}");
        ensure!(count(&lb, "lb_backend_syn_total", "web-2")? == before, "it gets new flows all the same");
        lab.log().wait_for(mark, &["a backend is ejected", "backend=\"web-2\"", "seconds=3", "number=1"])?;

        // It comes back, fails again, and is out for longer.
        let mark = lab.log().mark();
        let openings = Openings::start(lab, vip(), RATE)?;
        wait::until("it is ejected again", Duration::from_secs(8), || Ok((ejections(&lb)? >= 2.0).then_some(())))?;
        let again = Instant::now();
        lab.log().wait_for(mark, &["an ejected backend may serve again", "seconds=6", "number=2"])?;
        lab.backend("web-2").attach_decap(&binary)?;
        let well = count(&lb, "lb_backend_handshakes_total", "web-2")?;
        wait::until("it comes back", Duration::from_secs(10), || {
            Ok((count(&lb, "lb_backend_handshakes_total", "web-2")? > well + 200).then_some(()))
        })?;
        let out = again.elapsed();
        ensure!(out > Duration::from_millis(5_500), "the second ejection lasted {out:?}");
        thread::sleep(Duration::from_secs(2));
        let openings = openings.finish()?;
        let late = last_failure(&openings, again + Duration::from_secs(1));
        ensure!(late.is_zero(), "a connection failed {late:?} after it was ejected again");
        ensure!((ejections(&lb)? - 2.0).abs() < 0.5, "it was ejected once more");
        Ok(())
    });
}

#[test]
fn one_that_refuses_is_ejected_without_any_check_and_the_others_are_not() {
    scenario(&Layout::with_backends(4), |lab| {
        lab.log().expect("a backend is ejected");
        let lb = listening(lab, &Health::None, "max_ejected = \"50%\"")?;
        lb.wait_up(&["web-1", "web-2", "web-3", "web-4"])?;
        let openings = Openings::start(lab, vip(), RATE)?;
        thread::sleep(Duration::from_secs(4));
        ensure!(ejections(&lb)? == 0.0, "all are well");
        let refusing = Instant::now();
        lab.backend("web-3").stop();
        thread::sleep(Duration::from_secs(3));
        let openings = openings.finish()?;
        let took = last_failure(&openings, refusing);
        println!("ejected after {took:?}; {}", lb.reason("web-3")?);
        ensure!(took <= Duration::from_secs(1), "a connection was still refused after {took:?}");
        ensure!((ejections(&lb)? - 1.0).abs() < 0.5, "it alone is ejected, for this VIP alone");
        let (metrics, vip) = (lb.metrics()?, ("vip", "web-v4"));
        for (backend, up) in [("web-1", 1.0), ("web-2", 1.0), ("web-3", 0.0), ("web-4", 1.0)] {
            let told = metrics.sum("lb_backend_up", &[vip, ("backend", backend)])?;
            ensure!((told - up).abs() < 0.5, "{backend} is not as it should be");
        }
        Ok(())
    });
}

#[test]
fn openings_that_nobody_goes_on_with_eject_nobody() {
    scenario(&Layout::with_backends(4), |lab| {
        let lb = listening(lab, &Health::None, "max_ejected = \"100%\"")?;
        lb.wait_up(&["web-1", "web-2", "web-3", "web-4"])?;
        let openings = Openings::start(lab, vip(), 500)?;
        thread::sleep(Duration::from_secs(2));
        // Answers to the client are lost on their way, whoever they are from: what a flood from forged addresses looks like.
        lab.router.ip("route add blackhole 198.51.100.7/32")?;
        thread::sleep(Duration::from_secs(5));
        lab.router.ip("route del blackhole 198.51.100.7/32")?;
        thread::sleep(Duration::from_secs(2));
        let openings = openings.finish()?;
        let lost = openings.iter().filter(|opening| !opening.answered).count();
        println!("{lost} of {} connections were not answered", openings.len());
        ensure!(lost > 2_000, "only {lost} of {} connections were not answered", openings.len());
        ensure!(ejections(&lb)? == 0.0, "what befalls all is nobody's fault");
        lb.wait_up(&["web-1", "web-2", "web-3", "web-4"])
    });
}
