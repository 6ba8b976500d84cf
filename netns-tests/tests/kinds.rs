//! Health checks of each kind, against real servers: backends go up and down, and for the right reason.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    netns::Namespace,
    running::Running,
    scenario::scenario,
    settings::{Family, Health, Settings},
    topology::{Lab, Layout, VIP_V4, VIP_V6},
    wait,
};
use serde_json::Value;

#[path = "kinds/certificates.rs"]
mod certificates;
#[path = "kinds/servers.rs"]
mod servers;

use servers::Program;

/// What a daemon warns of when all backends of a VIP are down.
const NO_BACKEND: &str = "vip has no serving backend";
/// Quick, but not so quick that a busy machine looks like a dead backend.
const PACE: &str = "interval = \"600ms\", fast_interval = \"100ms\", timeout = \"500ms\", rise = 2, fall = 2";

/// A lab with one backend, on which nothing serves yet.
fn layout() -> Layout {
    Layout { http_ports: Vec::new(), udp_ports: Vec::new(), ..Layout::with_backends(1) }
}

/// A VIP of either family, with these checks of the backend.
fn settings(lab: &Lab, service: (u16, &'static str), checks: &[&str]) -> Settings {
    let checks = checks.iter().map(|check| format!("{{ {check}, {PACE} }}")).collect();
    let (port, protocol) = service;
    Settings::empty(lab)
        .pool("web", lab, Family::V4, Health::Checks(checks))
        .vip("v4", (VIP_V4, port, protocol), "web")
        .vip("v6", (VIP_V6, port, protocol), "web")
}

/// Waits until the backend is up or down for both VIPs, and each check among these said so last.
fn wait_told(lb: &Balancer, up: bool, told: &[(&str, &str)]) -> Result<()> {
    wait::until(&format!("the backend is {} by {told:?}", if up { "up" } else { "down" }), LIMIT, || {
        let shown = lb.json(&["backend", "show", "web-1"])?;
        let vips = shown.as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(vips.len() == 2, "{shown}");
        for vip in vips {
            let health = &vip["health"];
            ensure!(health["up"] == up, "{health}");
            for (name, words) in told {
                let checks = health["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
                let said = checks.iter().find(|check| check["name"] == *name).map(|check| &check["last"]);
                ensure!(said.and_then(Value::as_str).is_some_and(|said| said.contains(words)), "{words:?}: {health}");
            }
        }
        Ok(Some(()))
    })
}

/// A daemon with one check, and what to wait for.
struct One<'a> {
    lb: Balancer,
    name: &'a str,
}

impl<'a> One<'a> {
    fn start(lab: &Lab, service: (u16, &'static str), name: &'a str, check: &str) -> Result<Self> {
        lab.log().expect(NO_BACKEND);
        Ok(Self { lb: Balancer::start(lab, &settings(lab, service, &[check]))?, name })
    }

    fn up(&self, words: &str) -> Result<()> {
        wait_told(&self.lb, true, &[(self.name, words)])
    }

    fn down(&self, words: &str) -> Result<()> {
        wait_told(&self.lb, false, &[(self.name, words)])
    }
}

fn backend(lab: &Lab) -> &Namespace {
    &lab.backends[0].namespace
}

fn answer(status: u16, body: &'static str) -> servers::Answer {
    Arc::new(Mutex::new((status, body)))
}

fn set(answer: &servers::Answer, status: u16, body: &'static str) {
    *answer.lock().expect("nobody panics with it") = (status, body);
}

#[test]
fn tcp() {
    scenario(&layout(), |lab| {
        let serve = |lab: &Lab| servers::http(backend(lab), None, 80, &answer(200, ""));
        let running = serve(lab)?;
        let one = One::start(lab, (80, "tcp"), "tcp", "type = \"tcp\"")?;
        one.up("connected")?;
        drop(running);
        one.down("connection refused")?;
        let _running = serve(lab)?;
        one.up("connected")?;
        backend(lab).ip("link set eth0 down\n")?;
        one.down("no answer within 500ms")
    });
}

#[test]
fn http() {
    scenario(&layout(), |lab| {
        let said = answer(200, "all is ready");
        let running = servers::http(backend(lab), None, 8080, &said)?;
        let check = "type = \"http\", port = 8080, path = \"/healthz\", expect_body = \"ready\"";
        let one = One::start(lab, (80, "tcp"), "http", check)?;
        one.up("200 OK")?;
        set(&said, 503, "all is ready");
        one.down("503 Service Unavailable")?;
        set(&said, 200, "all is ready");
        one.up("200 OK")?;
        set(&said, 200, "starting");
        one.down("200 OK, without the expected text in the body")?;
        set(&said, 200, "ready");
        one.up("200 OK")?;
        drop(running);
        one.down("connection refused")
    });
}

/// Debian's `openssl s_server`, with a certificate of `folder`, which serves the file `healthz` as it is.
fn tls_server(lab: &Lab, folder: &Path, certificate: &str) -> Result<Program> {
    let file = folder.join(format!("{certificate}.pem")).display().to_string();
    let within = ["env", "-C", &folder.display().to_string()].map(str::to_owned);
    let server = ["openssl", "s_server", "-accept", "443", "-HTTP", "-quiet", "-cert", &file, "-key", &file];
    let line: Vec<&str> = within.iter().map(String::as_str).chain(server).collect();
    Program::start(backend(lab), "openssl", 443, &line)
}

#[test]
fn tls_and_https() {
    scenario(&layout(), |lab| {
        lab.log().expect(NO_BACKEND);
        let folder = lab.folder().to_owned();
        certificates::write(&folder)?;
        let healthz = |status: &str| {
            fs::write(folder.join("healthz"), format!("HTTP/1.1 {status}\r\nContent-Length: 6\r\n\r\nready\n"))
        };
        healthz("200 OK")?;
        let trust = format!("ca_file = {:?}, sni = \"{}\"", folder.join("authority.pem"), certificates::NAME);
        let (tls, https) =
            (format!("type = \"tls\", {trust}"), format!("type = \"https\", path = \"/healthz\", {trust}"));
        let settings = settings(lab, (443, "tcp"), &[&tls, &https]);
        let running = tls_server(lab, &folder, "good")?;
        let lb = Balancer::start(lab, &settings)?;
        wait_told(&lb, true, &[("tls", "TLS 1.3"), ("https", "200 OK")])?;
        healthz("500 Internal Server Error")?;
        wait_told(&lb, false, &[("tls", "TLS 1.3"), ("https", "500 Internal Server Error")])?;
        healthz("200 OK")?;
        wait_told(&lb, true, &[("tls", "TLS 1.3"), ("https", "200 OK")])?;
        drop(running);
        wait_told(&lb, false, &[("tls", "connection refused"), ("https", "connection refused")])?;
        for (certificate, words) in [
            ("stranger", "certificate from an unknown issuer"),
            ("misnamed", "certificate not valid for name www.lab.example"),
            ("expired", "certificate expired"),
        ] {
            let _running = tls_server(lab, &folder, certificate)?;
            wait_told(&lb, false, &[("tls", words), ("https", words)])?;
        }
        let _running = tls_server(lab, &folder, "good")?;
        wait_told(&lb, true, &[("tls", "TLS 1.3"), ("https", "200 OK")])
    });
}

#[test]
fn grpc() {
    scenario(&layout(), |lab| {
        let status = Arc::new(AtomicU8::new(servers::SERVING));
        let running = servers::grpc(backend(lab), 50_051, &status)?;
        let one = One::start(lab, (50_051, "tcp"), "grpc", "type = \"grpc\"")?;
        one.up("SERVING")?;
        status.store(servers::NOT_SERVING, Ordering::Relaxed);
        one.down("NOT_SERVING")?;
        status.store(servers::SERVING, Ordering::Relaxed);
        one.up("SERVING")?;
        drop(running);
        one.down("connection refused")?;
        let _running = servers::grpc(backend(lab), 50_051, &status)?;
        one.up("SERVING")
    });
}

/// The VIPs, at this port.
fn at_vips(port: u16) -> [SocketAddr; 2] {
    [IpAddr::from(VIP_V4), IpAddr::from(VIP_V6)].map(|vip| SocketAddr::new(vip, port))
}

/// Has the backend tell of each datagram that nobody takes.
fn without_limit_of_errors(lab: &Lab) -> Result<()> {
    backend(lab).sysctl(&[("net.ipv4.icmp_ratelimit", "0"), ("net.ipv6.icmp.ratelimit", "0")])
}

#[test]
fn udp() {
    scenario(&layout(), |lab| {
        without_limit_of_errors(lab)?;
        let manner = Arc::new(AtomicU8::new(servers::ECHOED));
        let running = servers::echo(backend(lab), &at_vips(7), &manner)?;
        let check = "type = \"udp\", send = \"hello\", expect = \"hello\"";
        let one = One::start(lab, (7, "udp"), "udp", check)?;
        one.up("answered")?;
        manner.store(servers::GARBLED, Ordering::Relaxed);
        one.down("an answer that does not begin as expected")?;
        manner.store(servers::ECHOED, Ordering::Relaxed);
        one.up("answered")?;
        manner.store(servers::SWALLOWED, Ordering::Relaxed);
        one.down("no answer within 500ms")?;
        drop(running);
        one.down("connection refused")?;
        manner.store(servers::ECHOED, Ordering::Relaxed);
        let _running = servers::echo(backend(lab), &at_vips(7), &manner)?;
        one.up("answered")
    });
}

/// Debian's dnsmasq, which knows of no other name server.
fn name_server(lab: &Lab, knows: &[&str]) -> Result<Program> {
    let fixed =
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="];
    let line: Vec<&str> = fixed.into_iter().chain(["--user=root"]).chain(knows.iter().copied()).collect();
    Program::start(backend(lab), "dnsmasq-base", 53, &line)
}

#[test]
fn dns() {
    scenario(&layout(), |lab| {
        lab.log().expect(NO_BACKEND);
        without_limit_of_errors(lab)?;
        let question = "type = \"dns\", query = \"www.lab.example\", expect_answer = \"192.0.2.80\"";
        let [udp, tcp] = ["udp", "tcp"].map(|way| format!("{question}, name = \"{way}\", transport = \"{way}\""));
        let both = |words| [("udp", words), ("tcp", words)];
        let record = |address: &str| format!("--host-record=www.lab.example,{address}");
        let running = name_server(lab, &[&record("192.0.2.80")])?;
        let lb = Balancer::start(lab, &settings(lab, (53, "udp"), &[&udp, &format!("{tcp}, port = 53")]))?;
        wait_told(&lb, true, &both("NOERROR"))?;
        drop(running);
        wait_told(&lb, false, &both("connection refused"))?;
        for (knows, words) in [
            (vec![record("192.0.2.81")], "NOERROR, without the expected answer"),
            (vec!["--local=/lab.example/".into()], "NXDOMAIN, not NOERROR"),
            (vec![], "REFUSED, not NOERROR"),
        ] {
            let knows: Vec<&str> = knows.iter().map(String::as_str).collect();
            let _running = name_server(lab, &knows)?;
            wait_told(&lb, false, &both(words))?;
        }
        let _running = name_server(lab, &[&record("192.0.2.80")])?;
        wait_told(&lb, true, &both("NOERROR"))
    });
}

#[test]
fn two_checks_of_which_all_or_any_have_to_pass() {
    scenario(&layout(), |lab| {
        lab.log().expect(NO_BACKEND);
        let said = answer(200, "ready");
        let _running = servers::http(backend(lab), None, 80, &said)?;
        let agent = |lab: &Lab| -> Result<Running> { servers::http(backend(lab), None, 9000, &answer(200, "")) };
        let second = agent(lab)?;
        let checks = ["type = \"http\", name = \"site\"", "type = \"tcp\", name = \"agent\", port = 9000"];
        let all = settings(lab, (80, "tcp"), &checks);
        let lb = Balancer::start(lab, &all)?;
        wait_told(&lb, true, &[("site", "200 OK"), ("agent", "connected")])?;
        drop(second);
        wait_told(&lb, false, &[("site", "200 OK"), ("agent", "connection refused")])?;
        let mut any = all.clone();
        any.pools[0].keys.push("health_match = \"any\"".into());
        lb.reload(&any)?;
        wait_told(&lb, true, &[("site", "200 OK"), ("agent", "connection refused")])?;
        set(&said, 404, "");
        wait_told(&lb, false, &[("site", "404 Not Found"), ("agent", "connection refused")])?;
        let _second = agent(lab)?;
        wait_told(&lb, true, &[("site", "404 Not Found"), ("agent", "connected")])?;
        lb.reload(&all)?;
        wait_told(&lb, false, &[("site", "404 Not Found"), ("agent", "connected")])
    });
}

#[test]
fn what_serves_at_the_backends_own_address_alone_is_up_directly_and_down_by_the_vip() {
    scenario(&layout(), |lab| {
        lab.log().expect(NO_BACKEND);
        let _running = servers::http(backend(lab), Some(lab.backends[0].v4), 80, &answer(200, ""))?;
        let lb = Balancer::start(lab, &settings(lab, (80, "tcp"), &["type = \"http\""]))?;
        wait_told(&lb, false, &[("http", "connection refused")])?;
        lb.reload(&settings(lab, (80, "tcp"), &["type = \"http\", probe = \"direct\""]))?;
        wait_told(&lb, true, &[("http", "200 OK")])
    });
}

#[test]
fn a_backend_without_the_vip_is_unreachable_by_the_vip_and_up_directly() {
    scenario(&layout(), |lab| {
        lab.log().expect(NO_BACKEND);
        without_limit_of_errors(lab)?;
        // It would pass packets on, and knows no way.
        backend(lab).sysctl(&[("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1")])?;
        backend(lab).ip(&format!(
            "addr del {VIP_V4}/32 dev lo\naddr del {VIP_V6}/128 dev lo\n\
             route add unreachable {VIP_V4}\nroute add unreachable {VIP_V6}\n"
        ))?;
        let _running = servers::http(backend(lab), None, 80, &answer(200, ""))?;
        let own = SocketAddr::new(lab.backends[0].v4, 7);
        let _echo = servers::echo(backend(lab), &[own], &Arc::new(AtomicU8::new(servers::ECHOED)))?;
        let udp = "type = \"udp\", port = 7, send = \"hello\", expect = \"hello\"";
        let lb = Balancer::start(lab, &settings(lab, (80, "tcp"), &[udp]))?;
        wait_told(&lb, false, &[("udp", "unreachable")])?;
        lb.reload(&settings(lab, (80, "tcp"), &[&format!("{udp}, probe = \"direct\"")]))?;
        wait_told(&lb, true, &[("udp", "answered")])?;
        lb.reload(&settings(lab, (80, "tcp"), &["type = \"tcp\""]))?;
        // The kernel sends few errors a second, and a probe may wait for one in vain.
        wait_told(&lb, false, &[])?;
        lb.reload(&settings(lab, (80, "tcp"), &["type = \"tcp\", probe = \"direct\""]))?;
        wait_told(&lb, true, &[("tcp", "connected")])
    });
}
