//! Health probes by the VIP: they take the way of data, and disturb nobody.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT, binary},
    capture::verify::GUE_PORT,
    netns::Namespace,
    scenario::scenario,
    settings::{Family, Health, PoolBackend, Settings},
    topology::{LB_INTERFACE, LB_SECOND_INTERFACE, LB_V4, Lab, Layout, VIP_V4, VIP_V6},
    traffic::http,
    wait,
};

/// The four pairs of (VIP's family, backends' family): the VIP, its port, and the pool it is served by.
const PAIRS: [(IpAddr, u16, &str); 4] = [
    (IpAddr::V4(VIP_V4), 80, "v4"),
    (IpAddr::V4(VIP_V4), 8080, "v6"),
    (IpAddr::V6(VIP_V6), 8080, "v4"),
    (IpAddr::V6(VIP_V6), 80, "v6"),
];

/// What a daemon warns of when all backends of a VIP are down.
const NO_BACKEND: &str = "vip has no serving backend";

fn layout(backends: u8) -> Layout {
    Layout { http_ports: vec![80, 8080], ..Layout::with_backends(backends) }
}

/// All pairs, with checks that connect to the VIP's own port.
fn pairs(lab: &Lab) -> Settings {
    let pools = Settings::empty(lab).pool("v4", lab, Family::V4, Health::Http(80)).pool(
        "v6",
        lab,
        Family::V6,
        Health::Http(80),
    );
    PAIRS.into_iter().fold(pools, |settings, (vip, port, pool)| {
        settings.vip(&format!("http-{vip}-{pool}").replace(':', "."), (vip, port, "tcp"), pool)
    })
}

/// The file, with all probes by this way.
fn by(route: &str, settings: &Settings) -> String {
    settings.to_string().replace(".health]\n", &format!(".health]\nprobe = \"{route}\"\n"))
}

fn names(lab: &Lab) -> Vec<String> {
    lab.backends.iter().map(|backend| backend.name().to_owned()).collect()
}

fn wait_all_up(lab: &Lab, lb: &Balancer) -> Result<()> {
    let names = names(lab);
    lb.wait_up(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Waits until the first backend's state says this.
fn told(lb: &Balancer, words: &str) -> Result<()> {
    wait::until(words, LIMIT, || {
        let state = lb.json(&["backend", "show", "web-1"])?.to_string();
        ensure!(state.replace('\\', "").contains(words), "{state}");
        Ok(Some(()))
    })
}

/// What of the probes' interfaces and rules a namespace has.
fn traces(namespace: &Namespace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (arguments, word) in [(&["-o", "link"][..], ": lbp-"), (&["rule"], "fwmark"), (&["-6", "rule"], "fwmark")] {
        let shown = namespace.run("ip", arguments)?;
        found.extend(shown.lines().filter(|line| line.contains(word)).map(str::to_owned));
    }
    Ok(found)
}

#[test]
fn probes_reach_backends_of_both_families_in_ip_and_in_gue() {
    scenario(&layout(2), |lab| {
        let lb = Balancer::start_text(lab, &by("vip", &pairs(lab)))?;
        wait_all_up(lab, &lb)?;
        for (vip, port, pool) in PAIRS {
            let answers = http::ask_many(&lab.client, SocketAddr::new(vip, port), 20);
            ensure!((answers.failed(), answers.by_backend.len()) == (0, 2), "{vip} {pool}: {answers}");
        }
        // In GUE none of them is understood at first.
        lab.log().expect(NO_BACKEND);
        let gue = pairs(lab).dataplane(&format!("gue_port = {GUE_PORT}")).each_vip("encap = \"gue\"");
        lb.reload_text(&by("vip", &gue))?;
        lb.wait_up(&[])?;
        let lb_binary = binary()?;
        for backend in &lab.backends {
            backend.attach_decap_with(&lb_binary, &["--gue-port", &GUE_PORT.to_string()])?;
        }
        wait_all_up(lab, &lb)
    });
}

#[test]
fn probes_reach_backends_that_are_not_wrapped_for() {
    scenario(&layout(2), |lab| {
        let direct = [1, 2].map(|number| lab.join_directly(number));
        let mut settings = Settings::empty(lab);
        for (name, family) in [("v4", 0), ("v6", 1)] {
            let mut backends = Vec::new();
            for (number, addresses) in (1..).zip(&direct) {
                let addresses = addresses.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                backends.push(PoolBackend::new(&format!("web-{number}"), addresses[family]));
            }
            settings = settings.pool_of(name, backends);
            settings.pools[family].health = Health::Tcp(80);
        }
        let settings = PAIRS.into_iter().fold(settings, |settings, (vip, port, pool)| {
            settings.vip(&format!("l2-{vip}-{pool}").replace(':', "."), (vip, port, "tcp"), pool)
        });
        let lb = Balancer::start_text(lab, &by("vip", &settings.each_vip("encap = \"l2\"")))?;
        wait_all_up(lab, &lb)
    });
}

#[test]
fn a_backend_whose_tunnel_is_broken_is_found_by_the_vip_and_missed_directly() {
    scenario(&layout(3), |lab| {
        let settings = Settings::web(lab, Health::Http(80));
        let lb = Balancer::start_text(lab, &by("vip", &settings))?;
        wait_all_up(lab, &lb)?;
        // Its service goes on, but nobody unwraps what comes to it.
        lab.backend("web-2").detach_decap(&binary()?)?;
        lb.wait_up(&["web-1", "web-3"])?;
        let answers = http::ask_many(&lab.client, SocketAddr::new(VIP_V4.into(), 80), 40);
        ensure!(answers.failed() == 0 && !answers.by_backend.contains_key("web-2"), "{answers}");
        let state = lb.json(&["backend", "show", "web-2"])?.to_string();
        ensure!(state.contains("no answer within"), "{state}");
        lb.reload_text(&by("direct", &settings))?;
        wait_all_up(lab, &lb)?;
        let answers = http::ask_many(&lab.client, SocketAddr::new(VIP_V4.into(), 80), 40);
        ensure!(answers.failed() > 0, "the broken backend got nothing: {answers}");
        Ok(())
    });
}

#[test]
fn what_carries_probes_comes_back_and_leaves_nothing() {
    scenario(&layout(2), |lab| {
        let settings = Settings::web(lab, Health::Tcp(80));
        lab.lb.ip("rule add pref 77 fwmark 0x7/0xff lookup main\n")?;
        let before = traces(&lab.lb)?;
        let mut lb = Balancer::start_text(lab, &by("vip", &settings))?;
        wait_all_up(lab, &lb)?;
        ensure!(traces(&lab.lb)?.len() == before.len() + 3, "{:?}", traces(&lab.lb)?);
        // As networkd does to rules that it does not know.
        lab.lb.run("ip", &["rule", "del", "pref", "1"])?;
        lab.lb.run("ip", &["-6", "rule", "del", "pref", "1"])?;
        wait::until("the rules are back", LIMIT, || Ok((traces(&lab.lb)?.len() == before.len() + 3).then_some(())))?;
        let device = traces(&lab.lb)?.iter().find_map(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with("lbp-"))
                .and_then(|word| word.split('@').next())
                .map(str::to_owned)
        });
        lab.lb.run("ip", &["link", "del", &device.context("no interface")?])?;
        wait::until("the interface is back", LIMIT, || Ok((traces(&lab.lb)?.len() == before.len() + 3).then_some(())))?;
        lab.backend("web-1").stop();
        lb.wait_up(&["web-2"])?;
        lab.backend("web-1").start()?;
        wait_all_up(lab, &lb)?;
        // A daemon that comes after one that was killed finds all in place.
        lb.kill()?;
        lb.start_again()?;
        wait_all_up(lab, &lb)?;
        lb.reload_text(&by("direct", &settings))?;
        wait::until("nothing is left without such probes", LIMIT, || Ok((traces(&lab.lb)? == before).then_some(())))?;
        lb.reload_text(&by("vip", &settings))?;
        wait_all_up(lab, &lb)?;
        lb.stop()?;
        ensure!(traces(&lab.lb)? != before, "gone with the daemon, which would have to make it anew");
        ensure!(lb.cli(&["unload"])?.status.success(), "lb unload failed");
        ensure!(traces(&lab.lb)? == before, "{:?}", traces(&lab.lb)?);
        Ok(())
    });
}

#[test]
fn a_mark_that_is_taken_is_told_of_and_no_probe_strays() {
    scenario(&layout(1), |lab| {
        lab.log().expect("probe_mark");
        lab.log().expect("health checks cannot be made");
        lab.log().expect(NO_BACKEND);
        lab.lb.ip("rule add pref 77 fwmark 0x1b000000/0xfff00000 lookup 77\n")?;
        let settings = Settings::web(lab, Health::Tcp(80));
        let lb = Balancer::start_text(lab, &by("vip", &settings))?;
        wait::until("the reason is told", LIMIT, || {
            let status = lb.json(&["status"])?.to_string();
            Ok((status.contains("to table 77") && status.contains("probe_mark")).then_some(()))
        })?;
        lb.wait_up(&[])?;
        // A check that does not insist finds another way, and says so.
        lb.reload(&settings)?;
        wait_all_up(lab, &lb)?;
        ensure!(lb.json(&["status"])?.to_string().contains("probe_mark"), "all is said to be well");
        told(&lb, "asked directly: probes to vips are not carried, for which `lb status` has the reason")?;
        // Another mark may be had without a restart.
        let other = by("vip", &settings).replace("[daemon]\n", "[daemon]\nprobe_mark = 0x1c000000\n");
        lb.reload_text(&other)?;
        wait_all_up(lab, &lb)
    });
}

#[test]
fn the_hosts_own_traffic_goes_on_as_before() {
    scenario(&layout(2), |lab| {
        let lb = Balancer::start_text(lab, &by("vip", &Settings::web(lab, Health::Tcp(80))))?;
        wait_all_up(lab, &lb)?;
        let listener = lab.client.enter(|| TcpListener::bind("0.0.0.0:9000"))?;
        let address = SocketAddr::new(netns_tests::topology::CLIENT_V4.into(), 9000);
        let accepted =
            thread::spawn(move || (0..3).map(|_| listener.accept().map(|(_, peer)| peer.ip())).collect::<Vec<_>>());
        for mark in [None, Some(0x1c00_0001), Some(7)] {
            lab.lb.enter(|| -> Result<()> {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                if let Some(mark) = mark {
                    socket.set_mark(mark)?;
                }
                socket
                    .connect_timeout(&address.into(), Duration::from_secs(5))
                    .with_context(|| format!("mark {mark:?}"))?;
                drop(TcpStream::from(socket));
                Ok(())
            })?;
        }
        for peer in accepted.join().expect("a listener") {
            ensure!(peer? == IpAddr::V4(LB_V4), "from another address");
        }
        Ok(())
    });
}

#[test]
fn a_vip_of_the_host_itself_is_asked_directly_unless_the_vip_alone_will_do() {
    scenario(&layout(1), |lab| {
        lab.log().expect("health checks cannot be made");
        lab.log().expect(NO_BACKEND);
        lab.lb.ip(&format!("addr add {VIP_V4}/32 dev lo\n"))?;
        let settings =
            Settings::empty(lab).pool("web", lab, Family::V4, Health::Tcp(80)).vip("web", (VIP_V4, 80, "tcp"), "web");
        let lb = Balancer::start_text(lab, &by("vip", &settings))?;
        lb.wait_up(&[])?;
        told(&lb, "is an address of this host, where probes to it would stay: mend that, or set `probe = ")?;
        lb.reload(&settings)?;
        wait_all_up(lab, &lb)?;
        told(&lb, "asked directly: the vip 192.0.2.10 is an address of this host")
    });
}

#[test]
fn no_probe_is_sent_from_an_address_whose_answers_are_forwarded() {
    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
    scenario(&layout(2), |lab| {
        // As on a host that sends from an address of its loopback interface.
        lab.lb.ip(&format!("addr add {OWN}/32 dev lo\n"))?;
        let routes = lab.lb.run("ip", &["route"])?;
        let default = routes.lines().find(|line| line.starts_with("default ")).context("no default route")?;
        lab.lb.ip(&format!("route replace {default} src {OWN}\n"))?;
        let settings = Settings::web(lab, Health::Tcp(80)).pool("all", lab, Family::V4, Health::None);
        let settings = settings.vip("own", (OWN, 0, "tcp"), "all");
        let lb = Balancer::start_text(lab, &by("vip", &settings))?;
        wait_all_up(lab, &lb)
    });
}

#[test]
fn a_filter_by_source_that_keeps_answers_away_is_named() {
    let strictly = |lab: &Lab, value| {
        let keys = ["all", "default", LB_INTERFACE, LB_SECOND_INTERFACE];
        let keys = keys.map(|one| format!("net.ipv4.conf.{one}.rp_filter"));
        let there = if lab.layout.second_link { &keys[..] } else { &keys[..3] };
        lab.lb.sysctl(&there.iter().map(|key| (key.as_str(), value)).collect::<Vec<_>>())
    };
    // Answers come in where the host would send to the VIP: they pass.
    scenario(&layout(1), |lab| {
        strictly(lab, "1")?;
        let lb = Balancer::start_text(lab, &by("vip", &pairs(lab)))?;
        wait_all_up(lab, &lb)
    });
    // By a link of their own they do not.
    scenario(&Layout { second_link: true, ..layout(1) }, |lab| {
        lab.log().expect(NO_BACKEND);
        strictly(lab, "1")?;
        let settings =
            Settings::empty(lab).pool("web", lab, Family::V4, Health::Tcp(80)).vip("web", (VIP_V4, 80, "tcp"), "web");
        let lb = Balancer::start_text(lab, &settings.to_string())?;
        lb.wait_up(&[])?;
        wait::until("the reason is told", LIMIT, || {
            let status = lb.json(&["status"])?.to_string();
            ensure!(status.contains("drops what comes in by eth1 from 192.0.2.10, as rp_filter is on"), "{status}");
            Ok(Some(()))
        })?;
        strictly(lab, "0")?;
        wait_all_up(lab, &lb)?;
        wait::until("all is well", LIMIT, || {
            let status = lb.json(&["status"])?.to_string();
            Ok((!status.contains("rp_filter")).then_some(()))
        })
    });
}

#[test]
fn hundreds_of_probes_are_told_apart() {
    scenario(&layout(3), |lab| {
        let mut settings = Settings::empty(lab).pool("web", lab, Family::V4, Health::Tcp(80));
        for port in 10_000..10_100 {
            settings = settings.vip(&format!("vip-{port}"), (VIP_V4, port, "tcp"), "web");
        }
        let lb = Balancer::start_text(lab, &by("vip", &settings))?;
        wait_all_up(lab, &lb)?;
        lab.backend("web-2").detach_decap(&binary()?)?;
        let before = Instant::now();
        lb.wait_up(&["web-1", "web-3"])?;
        println!("300 probes: all 100 of one backend found down after {:?}", before.elapsed());
        Ok(())
    });
}
