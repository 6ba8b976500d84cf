//! A balancer on a trunk: frames come tagged, and go to each backend with the tags that lead to it. `topology/vlans.rs` has
//! the picture.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use etherparse::{Ethernet2Slice, IpNumber, IpSlice};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    capture::{Capture, Frame},
    scenario::{is_root, scenario},
    settings::{Family, Health, Settings},
    topology::{
        LB_V4, LB_V6, Lab, Layout, ROUTER_TO_LB, VIP_V4, VIP_V6, vips,
        vlans::{self, ROUTER_TO_BACKENDS_VLAN, ROUTER_TO_CLIENTS_VLAN, ROUTER_TO_STACKED_VLAN},
    },
    traffic::{http, ping::ping, udp},
    wait,
};

/// Four backends: behind a VLAN, untagged, behind the clients' VLAN, and behind a VLAN within a VLAN.
fn layout() -> Layout {
    Layout { vlans: true, ..Layout::with_backends(4) }
}

fn is_possible() -> bool {
    is_root() && vlans::are_possible().expect("to find out about VLAN devices")
}

/// HTTP by backends' IPv4 addresses and UDP by their IPv6 addresses, each for VIPs of both families.
fn settings(lab: &Lab) -> Settings {
    Settings::empty(lab)
        .pool("v4", lab, Family::V4, Health::None)
        .pool("v6", lab, Family::V6, Health::None)
        .vip("http-v4", (VIP_V4, 80, "tcp"), "v4")
        .vip("http-v6", (VIP_V6, 80, "tcp"), "v4")
        .vip("udp-v4", (VIP_V4, 53, "udp"), "v6")
        .vip("udp-v6", (VIP_V6, 53, "udp"), "v6")
}

/// All requests over both families are answered, and every backend answers some.
fn all_serve(lab: &Lab) -> Result<()> {
    let wanted = (0, lab.backends.len());
    for to in vips(80) {
        let answers = http::ask_many(&lab.client, to, 80);
        ensure!((answers.failed(), answers.by_backend.len()) == wanted, "{to}: {answers}");
    }
    for to in vips(53) {
        let answers = udp::ask_many(&lab.client, to, 80, 2);
        ensure!((answers.failed(), answers.by_backend.len()) == wanted, "{to}: {answers}");
    }
    Ok(())
}

/// Captures of the router's VLAN devices, where frames have lost the tags by which they came.
struct Networks {
    clients: Capture,
    backends: Capture,
    stacked: Capture,
}

impl Networks {
    fn capture(lab: &Lab) -> Result<Self> {
        let on = |interface| Capture::start(&lab.router, interface);
        Ok(Self {
            clients: on(ROUTER_TO_CLIENTS_VLAN)?,
            backends: on(ROUTER_TO_BACKENDS_VLAN)?,
            stacked: on(ROUTER_TO_STACKED_VLAN)?,
        })
    }

    fn all(&self) -> [&Capture; 3] {
        [&self.clients, &self.backends, &self.stacked]
    }
}

/// Where the tunnelled packets of a capture go to.
fn tunnelled_to(capture: &Capture) -> BTreeSet<IpAddr> {
    let destination = |bytes: &[u8]| {
        let frame = Ethernet2Slice::from_slice_without_fcs(bytes).ok()?;
        let ip = IpSlice::from_slice(frame.payload_slice()).ok()?;
        let is_tunnel = [IpNumber::IPV4, IpNumber::IPV6].contains(&ip.payload_ip_number());
        is_tunnel.then(|| ip.destination_addr())
    };
    capture.frames().iter().filter_map(|frame| destination(&frame.bytes)).collect()
}

/// Addresses of the lab's backend of that number.
fn addresses(lab: &Lab, number: usize) -> BTreeSet<IpAddr> {
    let backend = &lab.backends[number - 1];
    BTreeSet::from([backend.v4, backend.v6])
}

#[test]
fn the_labs_networks_are_told_apart_by_their_tags() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let lab = Lab::build(&layout())?;
    let wire = Capture::start(&lab.router, ROUTER_TO_LB)?;
    let networks = Networks::capture(&lab)?;
    for backend in &lab.backends {
        for address in [backend.v4, backend.v6] {
            assert_eq!(ping(&lab.lb, address, 3)?, 3, "{address}");
        }
    }
    for address in [IpAddr::from(LB_V4), LB_V6.into()] {
        assert_eq!(ping(&lab.client, address, 3)?, 3, "{address}");
    }
    // What the router sends bears its tags within the frame: only there XDP sees them.
    let tags: [&[u8]; 4] =
        [&[0x81, 0, 0, 100], &[0x81, 0, 0, 200], &[0x88, 0xa8, 0x01, 0x2c, 0x81, 0, 0, 5], &[0x08, 0x00]];
    wait::until("frames of every network", LIMIT, || {
        let frames = wire.frames();
        let is_seen = |tag: &&[u8]| frames.iter().any(|frame| frame.bytes[12..].starts_with(tag));
        let enough = networks.all().iter().all(|capture| capture.total() >= 12);
        Ok((tags.iter().all(is_seen) && enough).then_some(()))
    })?;
    for capture in networks.all() {
        assert_eq!(capture.faults(), Vec::<String>::new());
    }
    Ok(())
}

#[test]
fn frames_that_come_tagged_leave_with_the_tags_of_the_way_to_the_backend() {
    if !is_possible() {
        return;
    }
    scenario(&layout(), |lab| {
        let networks = Networks::capture(lab)?;
        let _lb = Balancer::start(lab, &settings(lab))?;
        all_serve(lab)?;
        for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
            assert_eq!(ping(&lab.client, vip, 3)?, 3, "{vip}");
        }
        // Backend 2 is reached untagged, so that none of the three sees packets to it.
        for (capture, backend) in networks.all().into_iter().zip([3, 1, 4]) {
            assert_eq!(tunnelled_to(capture), addresses(lab, backend));
            assert_eq!(capture.faults(), Vec::<String>::new());
        }
        Ok(())
    });
}

#[test]
fn a_backend_is_reached_again_when_its_vlan_gets_another_number() {
    if !is_possible() {
        return;
    }
    scenario(&layout(), |lab| {
        let _lb = Balancer::start(lab, &settings(lab))?;
        all_serve(lab)?;
        vlans::renumber_backends_vlan(lab, 201)?;
        let network = Capture::start(&lab.router, ROUTER_TO_BACKENDS_VLAN)?;
        // Both addresses of the backend; requests that come earlier wait seconds for nothing.
        wait::until("the daemon finds the new ways", LIMIT, || {
            let found = lab.log().lines().iter().filter(|line| line.contains("vlan=201")).count();
            Ok((found >= 2).then_some(()))
        })?;
        wait::until("all backends serve", LIMIT, || Ok(all_serve(lab).is_ok().then_some(())))?;
        assert_eq!(tunnelled_to(&network), addresses(lab, 1));
        Ok(())
    });
}

#[test]
fn a_plain_link_whose_frames_are_tagged_is_none_the_worse_for_it() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    for leaving in [0, 100] {
        let lab = Lab::build(&Layout::default())?;
        let ports = vlans::tag_plain_link(&lab, leaving)?;
        let wire = Capture::start(&lab.router, ROUTER_TO_LB)?;
        for address in [IpAddr::from(LB_V4), LB_V6.into()] {
            assert_eq!(ping(&lab.client, address, 3)?, 3, "{address}, tag {leaving} leaves");
        }
        wait::until("tagged frames", LIMIT, || {
            let is_tagged = |frame: &Frame| frame.bytes[12..].starts_with(&[0x81, 0, 0, 100]);
            Ok((wire.frames().iter().filter(|frame| is_tagged(frame)).count() >= 6).then_some(()))
        })?;
        // Without the router's end, nobody takes the tags off that lb puts on.
        let [router, lb] = ports;
        drop(router);
        assert_eq!(ping(&lab.client, LB_V4.into(), 1)?, 0, "the tags were there");
        drop(lb);
    }
    Ok(())
}

#[test]
fn frames_that_come_tagged_leave_untagged_if_the_way_has_no_tag() {
    scenario(&Layout::default(), |lab| {
        let _ports = vlans::tag_plain_link(lab, 0)?;
        let _lb = Balancer::start(lab, &settings(lab))?;
        all_serve(lab)
    });
}

#[test]
fn frames_to_the_one_gateway_keep_the_tag_that_they_came_with() {
    scenario(&Layout::default(), |lab| {
        let _ports = vlans::tag_plain_link(lab, 100)?;
        let shown = lab.router.run("ip", &["-brief", "link", "show", ROUTER_TO_LB])?;
        let mac = shown.split_whitespace().nth(2).context("the router's MAC address")?;
        let mut lb = Balancer::prepare(lab, &settings(lab))?;
        let file = settings(lab).to_string();
        lb.write(&file.replace("[dataplane]", &format!("[dataplane]\nnext_hop = {mac:?}")))?;
        lb.start_again()?;
        lab.quiet_offloads_of_balancer()?;
        all_serve(lab)?;
        for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
            assert_eq!(ping(&lab.client, vip, 3)?, 3, "{vip}");
        }
        Ok(())
    });
}
