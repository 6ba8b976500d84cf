//! What an idle daemon holds and how soon it reloads, with ten VIPs of a hundred backends each.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT, binary},
    scenario::scenario,
    settings::{Health, Pool, PoolBackend, Settings},
    topology::{Lab, Layout, VIP_V4},
    wait,
};

const VIPS: u8 = 10;
const BACKENDS: u8 = 100;
/// Backends of each pool whose address leads nowhere, so that checks fail too.
const UNREACHABLE: u8 = 10;
/// Reloads of which the median counts.
const RELOADS: usize = 5;
/// Scrapes before the memory is looked at, beside those that the wait for checks takes.
const SCRAPES: usize = 3;

/// What a build must keep to.
struct Bounds {
    /// Most that may be resident beside the tables, in KiB.
    resident: u64,
    /// Whether the program's text counts.
    text: bool,
    /// Longest a reload may take, from the signal to the log line that tells of it.
    reload: Duration,
}

/// The bounds that hold for operators are those of a release build. A debug build's program text grows with each library,
/// used or not, and says nothing; of that build only its own data counts, 14 to 18 MiB by how much of what was freed has gone back. It
/// makes rings ten times as slowly.
fn bounds() -> Result<Bounds> {
    let binary = binary()?;
    let release = binary.parent().is_some_and(|folder| folder.ends_with("release"));
    Ok(if release {
        Bounds { resident: 30 * 1024, text: true, reload: Duration::from_millis(200) }
    } else {
        Bounds { resident: 20 * 1024, text: false, reload: Duration::from_secs(2) }
    })
}

/// Resident memory of a process in KiB.
#[derive(Debug)]
struct Resident {
    /// Pages of BPF tables, which the kernel holds whether the daemon maps them or not.
    tables: u64,
    /// Pages of the program and its libraries, shared with whoever runs them too.
    files: u64,
    /// Its own data.
    data: u64,
}

impl Resident {
    fn of(process: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/smaps")).context("cannot read the daemon's mappings")?;
        let mut resident = Self { tables: 0, files: 0, data: 0 };
        let mut is_table = false;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("Rss:"), Some(kib)) if is_table => resident.tables += kib.parse::<u64>()?,
                (Some("Rss:"), Some(kib)) => resident.files += kib.parse::<u64>()?,
                (Some("Anonymous:"), Some(kib)) => resident.data += kib.parse::<u64>()?,
                // A mapping's first line begins with its range of addresses.
                (Some(range), Some(_)) if range.contains('-') => is_table = line.contains("bpf-map"),
                _ => {}
            }
        }
        ensure!(resident.tables > 0 && resident.data > 0, "tables or data are missing:\n{text}");
        resident.files = resident.files.saturating_sub(resident.data);
        Ok(resident)
    }

    fn beside_tables(&self, with_text: bool) -> u64 {
        if with_text { self.files + self.data } else { self.data }
    }
}

/// Ten VIPs, each with a pool of its own.
fn settings(lab: &Lab, health: &Health, backends: u8) -> Settings {
    let mut settings = Settings::empty(lab);
    for number in 0..VIPS {
        let name = format!("web-{number}");
        let backend = |host| {
            let net = if host < UNREACHABLE { 3 } else { 2 };
            PoolBackend::new(&format!("{name}-{host}"), [10, net, number, host])
        };
        let backends = (0..backends).map(backend).collect();
        settings.pools.push(Pool { name: name.clone(), backends, health: health.clone(), keys: Vec::new() });
        settings = settings.vip(&name, (VIP_V4, 8000 + u16::from(number), "tcp"), &name);
    }
    settings
}

/// As the file has it by default: the lab's checks are quicker than anybody's. What comes by the tunnel the backend unwraps for
/// its own address alone.
fn text(settings: &Settings) -> String {
    settings.to_string().replace("interval = \"500ms\"", "probe = \"direct\"\ninterval = \"2s\"")
}

/// Leads all backends' addresses to the lab's only one, but for those that are to be unreachable.
fn route(lab: &Lab) -> Result<()> {
    let backend = &lab.backends[0];
    lab.router.ip(&format!("route add 10.2.0.0/16 via {}\nroute add unreachable 10.3.0.0/16", backend.v4))?;
    backend.namespace.ip("route add local 10.2.0.0/16 dev lo")
}

/// Median time from SIGHUP to the line that tells of its success. `text` gives the file of each reload.
fn reload_time(lb: &Balancer, text: impl Fn(usize) -> String) -> Result<Duration> {
    let mut times = Vec::new();
    for number in 0..RELOADS {
        lb.write(&text(number))?;
        let mark = lb.log().mark();
        let begun = Instant::now();
        lb.hang_up()?;
        while !lb.log().lines()[mark..].iter().any(|line| line.contains(" reloaded ")) {
            ensure!(begun.elapsed() < LIMIT, "no reload was told of");
            thread::sleep(Duration::from_millis(1));
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[RELOADS / 2])
}

fn idles_and_reloads(health: &Health, up: u8) {
    scenario(&Layout::with_backends(1), |lab| {
        route(lab)?;
        let full = settings(lab, health, BACKENDS);
        let more = settings(lab, health, BACKENDS + 1);
        let mut lb = Balancer::prepare(lab, &full)?;
        lb.write(&text(&full))?;
        lb.start_again()?;
        lab.quiet_offloads_of_balancer()?;
        wait::until("all checks have a result", LIMIT, || {
            let metrics = lb.metrics()?;
            let passed = metrics.all("lb_backend_up").filter(|sample| sample.value > 0.5).count();
            Ok((passed == usize::from(VIPS) * usize::from(up)).then_some(()))
        })?;
        let process = lb.process().context("the daemon runs")?;
        for _ in 0..SCRAPES {
            lb.metrics()?;
        }
        let scraped = Resident::of(process)?;
        let unchanged = reload_time(&lb, |_| text(&full))?;
        let grown = reload_time(&lb, |number| text(if number % 2 == 0 { &more } else { &full }))?;
        thread::sleep(Duration::from_secs(1));
        let idle = Resident::of(process)?;
        eprintln!(
            "{scraped:?}, {idle:?}, reload unchanged {unchanged:?}, a backend more or less in each pool {grown:?}"
        );
        let most = bounds()?;
        for resident in [scraped, idle] {
            let own = resident.beside_tables(most.text);
            ensure!(own < most.resident, "{own} KiB beside the tables, {} at most: {resident:?}", most.resident);
        }
        ensure!(unchanged < most.reload && grown < most.reload, "reloads take {unchanged:?} and {grown:?}");
        Ok(())
    });
}

#[test]
fn stays_small_and_reloads_at_once_while_checks_run() {
    idles_and_reloads(&Health::Tcp(80), BACKENDS - UNREACHABLE);
}

#[test]
fn stays_small_and_reloads_at_once_without_checks() {
    idles_and_reloads(&Health::None, BACKENDS);
}
