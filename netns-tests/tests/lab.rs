//! The lab itself, with the kernel's own routing in the balancer's place: what fails here is no fault of lb.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netns_tests::{
    bpf::PassProgram,
    capture::Capture,
    scenario::is_root,
    topology::{LB_INTERFACE, LB_V4, LB_V6, Lab, Layout, ROUTER_TO_LB, VIP_V4, VIP_V6, vips},
    traffic::{download::Download, http, ping::ping, udp},
};

/// A lab whose balancer host routes the VIPs to the first backend, as a plain router.
fn routed_lab() -> Result<Lab> {
    let lab = Lab::build(&Layout::with_backends(2))?;
    lab.lb.sysctl(&[
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.eth0.send_redirects", "0"),
    ])?;
    // What lb sends back must not come to lb again: the router knows such packets by the interface they come from.
    lab.router.ip(&format!(
        "rule add iif {ROUTER_TO_LB} lookup 100\nroute add {VIP_V4} via 10.1.1.2 table 100\n\
         route add {VIP_V6} via fd00:1:1::2 table 100\n",
    ))?;
    lab.router.run("ip", &["-6", "rule", "add", "iif", ROUTER_TO_LB, "lookup", "100"])?;
    Ok(lab)
}

#[test]
fn requests_reach_a_server_and_every_checksum_is_right() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let lab = routed_lab()?;
    let capture = Capture::start(&lab.router, ROUTER_TO_LB)?;
    for to in vips(80) {
        let answers = http::ask_many(&lab.client, to, 50);
        assert_eq!((answers.of("web-1"), answers.failed()), (50, 0), "{answers}");
    }
    for to in vips(53) {
        let answers = udp::ask_many(&lab.client, to, 20, 3);
        assert_eq!((answers.of("web-1"), answers.failed()), (20, 0), "{answers}");
    }
    for address in [IpAddr::from(LB_V4), LB_V6.into(), lab.backends[1].v4, lab.backends[1].v6] {
        assert_eq!(ping(&lab.client, address, 3)?, 3, "{address}");
    }
    ensure!(capture.total() > 1000, "only {} frames", capture.total());
    assert_eq!(capture.faults(), Vec::<String>::new());
    let mut connection = http::Connection::open(&lab.client, vips(80)[0])?;
    connection.ask()?;
    std::thread::sleep(Duration::from_millis(100));
    assert!(capture.has_source(connection.local()));
    Ok(())
}

#[test]
fn large_datagrams_are_fragmented_and_come_back_whole() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let lab = routed_lab()?;
    for to in vips(53) {
        assert_eq!(udp::Flow::open(&lab.client, to)?.ask_with(4000)?, "web-1");
    }
    Ok(())
}

#[test]
fn a_download_is_whole_and_keeps_its_rate() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let lab = routed_lab()?;
    let start = Instant::now();
    let download = Download::start(&lab.client, vips(80)[0], 10_000_001, 10_000_000, 5_000_000)?;
    download.wait_for(5_000_000, Duration::from_secs(5))?;
    std::thread::sleep(Duration::from_millis(200));
    assert!(download.is_running());
    assert!(download.received() < 6_000_000);
    assert_eq!(download.finish()?, 10_000_001);
    ensure!(start.elapsed() > Duration::from_millis(900), "the server did not hold back");
    Ok(())
}

#[test]
fn a_stopped_server_refuses_connections_and_closes_open_ones() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mut lab = routed_lab()?;
    let to = vips(80)[0];
    let mut connection = http::Connection::open(&lab.client, to)?;
    assert_eq!(connection.ask()?, "web-1");
    lab.backend("web-1").stop();
    assert!(connection.ask().is_err());
    let answers = http::ask_many(&lab.client, to, 3);
    assert_eq!(answers.failed(), 3, "{answers}");
    lab.backend("web-1").start()?;
    assert_eq!(http::ask_many(&lab.client, to, 3).of("web-1"), 3);
    Ok(())
}

#[test]
fn native_xdp_attaches_to_the_interface_of_the_balancer() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let lab = routed_lab()?;
    let program = lab.lb.enter(|| PassProgram::attach(LB_INTERFACE))?;
    lab.quiet_offloads_of_balancer()?;
    assert!(lab.lb.run("ip", &["link", "show", LB_INTERFACE])?.contains("xdp"));
    assert_eq!(http::ask_many(&lab.client, vips(80)[1], 20).of("web-1"), 20);
    drop(program);
    assert!(!lab.lb.run("ip", &["link", "show", LB_INTERFACE])?.contains("xdp"));
    Ok(())
}

#[test]
fn nothing_is_left_when_a_lab_is_dropped() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let lab = Lab::build(&Layout::with_backends(1))?;
    let (name, folder) = (lab.name().to_owned(), lab.folder().to_owned());
    let namespaces = || -> Result<usize> {
        let entries = std::fs::read_dir(netns_tests::netns::FOLDER)?.filter_map(Result::ok);
        let prefix = format!("{name}-");
        Ok(entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).count())
    };
    assert_eq!(namespaces()?, 4);
    drop(lab);
    assert_eq!(namespaces()?, 0);
    assert!(!folder.exists());
    Ok(())
}
