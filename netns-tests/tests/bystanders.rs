//! What is not for a VIP is none of the balancer's business.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::Balancer,
    host::server::Server,
    scenario::scenario,
    settings::{Health, Settings},
    topology::{LB_V4, LB_V6, Lab, Layout, vips},
    traffic::{
        http::{self, Connection},
        ping::ping,
        udp,
    },
};

const HOST: [IpAddr; 2] = [IpAddr::V4(LB_V4), IpAddr::V6(LB_V6)];

/// An ssh-like session: short questions on one connection, some fifty a second, until told to end.
fn session(lab: &Lab, to: SocketAddr, end: &AtomicBool) -> Result<u64> {
    let mut connection = Connection::open(&lab.client, to)?;
    let mut asked = 0;
    while !end.load(Ordering::Relaxed) {
        ensure!(connection.ask()? == "lb-host", "another host answered");
        asked += 1;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(asked)
}

/// Ping, and datagrams whole and in three fragments.
fn probe(lab: &Lab, when: &str) -> Result<()> {
    for host in HOST {
        ensure!(ping(&lab.client, host, 3)? == 3, "{when}: ping {host} is not answered");
        let mut flow = udp::Flow::open(&lab.client, SocketAddr::new(host, 7))?;
        for length in [100, 1400, 4000] {
            let answer = flow.ask_with(length);
            ensure!(answer.is_ok(), "{when}: {host}, {length} bytes: {answer:?}");
        }
    }
    Ok(())
}

#[test]
fn traffic_to_the_balancers_own_addresses_is_unharmed_through_reload_kill_and_restart() {
    scenario(&Layout::with_backends(2), |lab| {
        let _server = Server::start(&lab.lb, "lb-host", &[22], &HOST.map(|host| SocketAddr::new(host, 7)))?;
        let lab = &*lab;
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            let session_to = |host| {
                let end = &end;
                scope.spawn(move || session(lab, SocketAddr::new(host, 22), end))
            };
            let sessions = HOST.map(session_to);
            let result = whole_life(lab);
            end.store(true, Ordering::Relaxed);
            for session in sessions {
                let asked = session.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                ensure!(asked > 20, "only {asked} questions were answered");
            }
            result
        })
    });
}

/// All that can happen to a balancer.
fn whole_life(lab: &Lab) -> Result<()> {
    probe(lab, "before lb runs")?;
    let all = Settings::web(lab, Health::Http(80));
    let mut lb = Balancer::start(lab, &all.clone().only(&["web-1"]))?;
    lb.wait_up(&["web-1"])?;
    probe(lab, "while lb runs")?;
    lb.reload(&all)?;
    lb.wait_up(&["web-1", "web-2"])?;
    probe(lab, "after a reload")?;
    lb.kill()?;
    probe(lab, "after a kill")?;
    assert_eq!(http::ask_many(&lab.client, vips(80)[0], 50).failed(), 0);
    lb.start_again()?;
    probe(lab, "after a restart")?;
    lb.stop()?;
    lb.cli(&["unload"])?;
    probe(lab, "after lb unload")
}

#[test]
fn a_host_behind_the_balancers_router_is_reached_past_lb() {
    scenario(&Layout::with_backends(2), |lab| {
        let _lb = Balancer::start(lab, &Settings::web(lab, Health::None))?;
        for backend in &lab.backends {
            for address in [backend.v4, backend.v6] {
                assert_eq!(ping(&lab.client, address, 2)?, 2, "{address}");
                let answers = http::ask_many(&lab.client, SocketAddr::new(address, 80), 10);
                assert_eq!(answers.of(backend.name()), 10, "{address}: {answers}");
            }
        }
        Ok(())
    });
}
