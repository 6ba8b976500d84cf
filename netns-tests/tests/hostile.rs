//! No server that is checked can take the daemon down, or keep it from its work.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT, binary},
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Lab, Layout, VIP_V4, vips},
    traffic::{Answers, http},
    wait,
};
use serde_json::Value;

#[path = "hostile/manners.rs"]
mod manners;
#[path = "hostile/names.rs"]
mod names;
#[path = "hostile/servers.rs"]
mod servers;

use servers::{PORT, Place, Servers};

/// Where nobody listens: pools, and backends of each.
const CLOSED: (u8, u16) = (20, 500);
/// Where nobody answers at all.
const SILENT: u16 = 1000;
/// How long the daemon has for its first results, and then to show that nothing grows.
const WARM_UP: Duration = Duration::from_secs(20);
const WATCHED: Duration = Duration::from_secs(20);
/// Most by which its memory may grow in that time, in KiB, and most that it may hold.
const GROWTH: u64 = 8 * 1024;
const MEMORY: u64 = 200 * 1024;
/// Longest text that a result may have.
const TEXT: usize = 90;
/// Descriptors of probes that may still end after a reload.
const SPARE: usize = 8;

/// What a build must keep to.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Longest that a command may take.
    command: Duration,
    /// How often a good backend is asked, in seconds, which is also how soon it has to answer.
    interval: u64,
}

/// The bounds that hold for operators are those of a release build. A debug build works ten times as long.
fn bounds() -> Result<Bounds> {
    let release = binary()?.parent().is_some_and(|folder| folder.ends_with("release"));
    Ok(if release {
        Bounds { command: Duration::from_secs(1), interval: 1 }
    } else {
        Bounds { command: Duration::from_secs(5), interval: 3 }
    })
}

/// A pool of hostile servers, and what they are asked.
struct Hostile<'a> {
    name: String,
    backends: Vec<(String, Ipv4Addr)>,
    /// The keys of its check.
    check: &'a str,
    interval: &'a str,
}

fn pool<'a>(name: &str, places: &[&[Place]], check: &'a str) -> Hostile<'a> {
    Hostile { name: name.to_owned(), backends: places.concat(), check, interval: "4s" }
}

const HTTP: &str = "type = \"http\"\nexpect_body = \"ready\"";
const HTTPS: &str = "type = \"https\"\nverify = false\nexpect_body_regex = \"r+eady$\"";
const TLS: &str = "type = \"tls\"\nverify = false";
const GRPC: &str = "type = \"grpc\"";
const GRPCS: &str = "type = \"grpc\"\ntls = true\nverify = false";
const DNS: &str =
    "type = \"dns\"\nquery = \"www.example.org\"\nquery_type = \"CNAME\"\nexpect_answer = \"ready.example.org\"";
const DNS_TCP: &str = "type = \"dns\"\ntransport = \"tcp\"\nquery = \"www.example.org\"\nquery_type = \"CNAME\"\n\
                       expect_answer = \"ready.example.org\"";
const UDP: &str = "type = \"udp\"\nsend = \"hex:0007 0100 0001 0000 0000 0000 0000 0500 01\"\nexpect = \"pong\"";

fn hostile(servers: &Servers) -> Vec<Hostile<'static>> {
    let places = &servers.places;
    let (plain, within, chains, names, full) =
        (&places.plain[..], &places.within_tls[..], &places.chains[..], &places.names[..], &places.full[..]);
    let numbered = |third: u16, count: u16| -> Vec<Place> {
        let address = |nth: u16| {
            Ipv4Addr::from_bits(Ipv4Addr::new(10, 9, 0, 0).to_bits() + u32::from(third) * 256 + u32::from(nth))
        };
        (0..count).map(|nth| (nth.to_string(), address(nth))).collect()
    };
    let mut pools = vec![
        pool("tcp", &[full], "type = \"tcp\""),
        pool("http", &[plain, full], HTTP),
        pool("https", &[plain, within, chains, full], HTTPS),
        pool("tls", &[plain, chains, full], TLS),
        pool("grpc", &[plain, full], GRPC),
        pool("grpcs", &[plain, within, chains, full], GRPCS),
        pool("dns", &[names], DNS),
        pool("dns-tcp", &[plain, names, full], DNS_TCP),
        pool("udp", &[names], UDP),
    ];
    for nth in 0..CLOSED.0 {
        let backends = numbered(64 + 2 * u16::from(nth), CLOSED.1);
        pools.push(Hostile { name: format!("closed-{nth}"), backends, check: "type = \"tcp\"", interval: "20s" });
    }
    // The next network, which the router keeps to itself.
    pools.push(Hostile { name: "nobody".into(), backends: numbered(256, SILENT), check: HTTP, interval: "10s" });
    pools
}

/// The file, with these pools beside the good one, each behind a VIP of its own.
fn text(lab: &Lab, pools: &[Hostile<'_>]) -> Result<String> {
    let good = Settings::web(lab, Health::Http(80)).only(&["web-1", "web-2"]).to_string();
    let seconds = bounds()?.interval;
    let pace = format!("interval = \"{seconds}s\"\ntimeout = \"{seconds}s\"");
    let mut text = good.replace("interval = \"500ms\"\ntimeout = \"500ms\"", &pace).replace("fall = 2", "fall = 3");
    for (port, Hostile { name, backends, check, interval }) in (9000..).zip(pools) {
        writeln!(text, "\n[pool.{name}]\nbackends = [")?;
        for (backend, address) in backends {
            writeln!(text, "  {{ name = \"{name}-{backend}-{}\", address = \"{address}\" }},", address.octets()[2])?;
        }
        writeln!(text, "]\n[pool.{name}.health]\n{check}\nprobe = \"direct\"\nport = {PORT}")?;
        writeln!(text, "interval = \"{interval}\"\ntimeout = \"1s\"\nrise = 1\nfall = 1")?;
        writeln!(text, "[[vip]]\nname = \"{name}\"\naddress = \"{VIP_V4}\"\nport = {port}")?;
        writeln!(text, "protocol = \"tcp\"\npool = \"{name}\"")?;
    }
    Ok(text)
}

/// Has the daemon apply a file. What metrics there are of ten thousand backends is more than the lab reads.
fn reload(lb: &Balancer, text: &str) -> Result<()> {
    let mark = lb.log().mark();
    lb.write(text)?;
    lb.hang_up()?;
    let is_told = || lb.log().lines()[mark..].iter().any(|line| line.contains(" reloaded "));
    wait::until("a reload is told of", LIMIT, || Ok(is_told().then_some(())))
}

/// A command's answer, which has to come in time. Notes the longest time.
fn at_once(lb: &Balancer, arguments: &[&str], longest: &mut Duration) -> Result<Value> {
    let begun = Instant::now();
    let answer = lb.json(arguments)?;
    let taken = begun.elapsed();
    *longest = (*longest).max(taken);
    ensure!(taken < bounds()?.command, "lb {arguments:?} took {taken:?}");
    Ok(answer)
}

/// Demands that a good backend is up, was asked a moment ago, and never was down.
fn is_well(shown: &Value) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    for backend in shown.as_array().context("no list")? {
        let health = &backend["health"];
        let transitions = health["transitions"].as_array().context("no transitions")?;
        ensure!(health["up"] == true && transitions.iter().all(|one| one["up"] == true), "{backend}");
        let heard = health["checks"][0]["heard"].as_u64().context("no result")?;
        ensure!(
            now.saturating_sub(heard) <= 3 * bounds()?.interval,
            "asked {} s ago: {backend}",
            now.saturating_sub(heard)
        );
    }
    Ok(())
}

/// Anonymous memory of a process, in KiB.
fn memory(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn descriptors(process: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// Demands that all backends but the good ones are down. Returns what they are down for.
fn all_are_down(lb: &Balancer, expected: usize) -> Result<BTreeMap<String, String>> {
    let list = lb.json(&["backend", "list"])?;
    let mut down = BTreeMap::new();
    for backend in list.as_array().context("no list")? {
        let of = |key: &str| backend[key].as_str().unwrap_or_default().to_owned();
        if of("pool") == "web" {
            ensure!(backend["up"] == true, "{backend}");
        } else {
            ensure!(backend["up"] == false, "{backend}");
            down.insert(of("name"), of("last_check"));
        }
    }
    ensure!(down.len() == expected, "{} hostile backends, not {expected}", down.len());
    Ok(down)
}

/// Demands that each of these texts is one for people.
fn are_for_people(texts: &BTreeMap<String, String>) -> Result<()> {
    let is_not = |text: &str| {
        text.is_empty()
            || text.len() > TEXT
            || text.chars().any(|c| c.is_control() || "{[\"".contains(c))
            || text.contains("://")
    };
    let bad: Vec<_> = texts.iter().filter(|(_, text)| is_not(text)).collect();
    ensure!(bad.is_empty(), "texts that are none: {bad:#?}");
    Ok(())
}

/// Looks at the daemon for a while, as operators do.
fn watch(lb: &Balancer, time: Duration, longest: &mut Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        is_well(&at_once(lb, &["backend", "show", "web-1"], longest)?)?;
        is_well(&at_once(lb, &["backend", "show", "web-2"], longest)?)?;
        at_once(lb, &["status"], longest)?;
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// What a client is answered until told to stop.
fn ask_until(lab: &Lab, stop: &AtomicBool) -> Answers {
    let mut answers = Answers::default();
    while !stop.load(Ordering::Relaxed) {
        answers.merge(http::ask_many(&lab.client, vips(80)[0], 20));
        thread::sleep(Duration::from_millis(100));
    }
    answers
}

fn besieged(lab: &Lab, lb: &mut Balancer, servers: &Servers) -> Result<()> {
    let process = lb.process().context("it does not run")?;
    let before = descriptors(process)?;
    let (good, pools) = (text(lab, &[])?, hostile(servers));
    let count = pools.iter().map(|pool| pool.backends.len()).sum();
    reload(lb, &text(lab, &pools)?)?;
    wait::until("all hostile backends are down", 3 * WARM_UP, || all_are_down(lb, count).map(Some))?;

    let (stop, mut longest) = (AtomicBool::new(false), Duration::ZERO);
    let (answers, watched) = thread::scope(|scope| {
        let traffic = scope.spawn(|| ask_until(lab, &stop));
        let watched = watch(lb, WARM_UP, &mut longest).and_then(|()| {
            let warm = memory(process)?;
            watch(lb, WATCHED, &mut longest)?;
            Ok((warm, memory(process)?, descriptors(process)?))
        });
        stop.store(true, Ordering::Relaxed);
        (traffic.join(), watched)
    });
    let (answers, (warm, then, open)) = (answers.expect("the client"), watched?);
    let reasons = all_are_down(lb, count)?;
    for (name, reason) in &reasons {
        if !name.starts_with("closed-") && !name.starts_with("nobody-") {
            eprintln!("{name:<32} {reason}");
        }
    }
    are_for_people(&reasons)?;
    eprintln!(
        "{count} hostile backends, {} answers to clients; {warm} KiB, then {then} KiB; descriptors {before}, then {open}; \
         the slowest command took {longest:?}",
        answers.total(),
    );
    ensure!(answers.failed() == 0 && answers.total() > 100, "{answers}");
    ensure!(then < warm + GROWTH && then < MEMORY, "memory grew from {warm} KiB to {then} KiB");

    reload(lb, &good)?;
    wait::until("descriptors of probes are closed", Duration::from_secs(5), || {
        let open = descriptors(process)?;
        ensure!(open <= before + SPARE, "{open} descriptors, {before} before");
        Ok(Some(()))
    })?;
    // An end in the midst of it.
    reload(lb, &text(lab, &pools)?)?;
    thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    lb.stop()?;
    ensure!(begun.elapsed() < Duration::from_secs(3), "it took {:?} to end", begun.elapsed());
    Ok(())
}

#[test]
fn hostile_servers_and_ten_thousand_closed_ports_are_down_and_disturb_nobody() {
    scenario(&Layout::with_backends(3), |lab| {
        lab.log().expect("no serving backend");
        let nowhere = "route add blackhole 10.10.0.0/16\n";
        lab.router.ip(&format!("route add {} via {}\n{nowhere}", servers::NETWORK, lab.backends[2].v4))?;
        let servers = Servers::start(&lab.backends[2].namespace)?;
        let mut lb = Balancer::start_text(lab, &text(lab, &[])?)?;
        lb.wait_up(&["web-1", "web-2"])?;
        besieged(lab, &mut lb, &servers)
    });
}
