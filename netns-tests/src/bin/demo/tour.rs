//! The demo's way through what a balancer does.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use netns_tests::{
    balancer::{self, Balancer},
    leftovers, netns,
    settings::{Family, Health, Settings},
    share,
    topology::{CLIENT_V4, CLIENT_V6, LB_V4, LB_V6, Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::{download::Download, http, ping::ping, sessions::Sessions, udp},
};

use crate::{
    PREFIX,
    report::Report,
    story::{Story, tell, tell_after},
};

const BACKENDS: [&str; 3] = ["web-1", "web-2", "web-3"];
/// Requests for each HTTP VIP and flows for each UDP VIP.
const REQUESTS: u64 = 600;
const MEGABYTE: u64 = 1_000_000;

/// A demo under way.
#[derive(Debug)]
pub(crate) struct Tour {
    story: Story,
    // Before the lab, so that it is dropped first.
    lb: Balancer,
    lab: Lab,
    settings: Settings,
}

impl Tour {
    /// Lays out the lab and starts the balancer.
    pub(crate) fn start() -> Result<Self> {
        let story = Story::begin();
        println!("lb at work: client, router, balancer and {} backends on this machine", BACKENDS.len());
        story.step("A lab of network namespaces, joined by veth pairs");
        let binary = balancer::binary()?;
        let lab = Lab::build(&Layout { prefix: PREFIX, ..Layout::default() })?;
        describe(&lab, &binary)?;
        for backend in &lab.backends {
            backend.attach_decap(&binary)?;
        }
        story.check(true, "each backend serves HTTP and UDP, has the VIPs on its loopback, and runs `lb decap`");

        story.step("The balancer's file");
        let settings = Settings::empty(&lab)
            .pool("web", &lab, Family::V4, Health::Http(80))
            .vip("web-v4", (VIP_V4, 80, "tcp"), "web")
            .vip("web-v6", (VIP_V6, 80, "tcp"), "web")
            .vip("dns-v4", (VIP_V4, 53, "udp"), "web")
            .vip("dns-v6", (VIP_V6, 53, "udp"), "web");
        let mut lb = Balancer::prepare(&lab, &settings)?;
        tell(format!("{}:", lb.config().display()));
        tell_after("| ", &settings);

        story.step(format!("lb run --config {}", lb.config().display()));
        let start = Instant::now();
        if let Err(error) = lb.start_again().and_then(|()| lb.wait_up(&BACKENDS)) {
            bail!("{error:#}\nlb said:\n{}", lab.log().lines().join("\n"));
        }
        lab.quiet_offloads_of_balancer()?;
        let took = start.elapsed().as_millis();
        story.check(true, format!("the daemon serves and found all backends healthy, {took} ms after its start"));
        let attached = lab.lb.run("ip", &["-details", "link", "show", "eth0"])?.contains("prog/xdp");
        story.check(attached, "the XDP program is attached to eth0 in native mode");
        Ok(Self { story, lb, lab, settings })
    }

    /// Goes through all steps. The lab comes back if it should stay up.
    pub(crate) fn run(mut self, keep: bool) -> Result<Option<(Balancer, Lab)>> {
        let outcome = self.steps();
        let warned = self.lab.log().unexpected();
        let broken = self.story.broken();
        if outcome.is_err() || !broken.is_empty() || !warned.is_empty() {
            tell(format!("\nlast lines of lb's log:\n{}", self.lab.log().lines().join("\n")));
            outcome?;
            ensure!(broken.is_empty(), "{}\n{}", broken.join("\n"), self.story.end());
            bail!("lb warned of what nobody expected:\n{}", warned.join("\n"));
        }
        if keep {
            println!("\n{}", self.story.end());
            self.tell_how_to_look_inside()?;
            return Ok(Some((self.lb, self.lab)));
        }
        let Self { story, lb, lab, .. } = self;
        story.step("Cleaning up");
        let name = lab.name().to_owned();
        drop(lb);
        drop(lab);
        let left = leftovers::of(&name);
        story.check(left.is_empty(), format!("no namespace, pin or file is left{}", left.join(", ")));
        println!("\n{}", story.end());
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(None)
    }

    fn steps(&mut self) -> Result<()> {
        self.balance()?;
        self.fail_over()?;
        self.look_ahead()?;
        self.drain()?;
        self.kill_the_daemon()
    }

    fn balance(&mut self) -> Result<()> {
        self.story.step("Requests to the VIPs, over IPv4 and IPv6");
        let report = self.ask_all();
        tell(&report);
        self.story.check(report.failed() == 0, "no request failed");
        let even: BTreeMap<String, u32> = BACKENDS.map(|name| (name.to_owned(), 100)).into();
        let wrong: Vec<String> = report.answers().filter_map(|answers| share::compare(answers, &even).err()).collect();
        self.story.check(wrong.is_empty(), format!("each backend got its third, within chance{}", wrong.join(", ")));
        for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
            let answered = ping(&self.lab.client, vip, 5)?;
            self.story.check(answered == 5, format!("ping {vip}: {answered} of 5 answered, by the balancer itself"));
        }
        Ok(())
    }

    fn fail_over(&mut self) -> Result<()> {
        let mut sessions = Sessions::open(&self.lab.client, &vips(80), 30)?;
        let lost = sessions.of("web-2");
        self.story
            .step(format!("web-2 dies: its servers stop, {lost} of {} open connections with them", sessions.len()));
        self.lab.log().expect("web-2");
        self.lab.backend("web-2").stop();
        let noticed = self.time(|tour| tour.lb.wait_up(&["web-1", "web-3"]))?;
        tell(format!("lb took it out of the rings after {noticed} ms"));
        let report = self.ask_all();
        tell(&report);
        self.story.check(report.failed() == 0, "no request failed");
        self.story.check(report.each_has_exactly(&["web-1", "web-3"]), "the others took its share");
        sessions.forget("web-2");
        let stay = sessions.all_stay();
        self.story.check(stay.is_ok(), format!("the other {} connections stayed where they were", sessions.len()));

        self.story.step("web-2 comes back");
        self.lab.backend("web-2").start()?;
        let noticed = self.time(|tour| tour.lb.wait_up(&BACKENDS))?;
        tell(format!("lb put it back after {noticed} ms"));
        let report = self.ask_all();
        tell(&report);
        self.story.check(report.failed() == 0 && report.each_has_exactly(&BACKENDS), "it has its share again");
        let stay = sessions.all_stay();
        self.story
            .check(stay.is_ok(), format!("the {} connections of before are still where they were", sessions.len()));
        Ok(())
    }

    fn look_ahead(&mut self) -> Result<()> {
        let file = self.lb.config().with_file_name("next.toml");
        self.settings.backend("web-3").weight = 0;
        fs::write(&file, self.settings.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        self.settings.backend("web-3").weight = 100;
        self.story.step(format!("lb plan {}: what if web-3 had weight 0?", file.display()));
        let before = self.lb.json(&["status"])?;
        let plan = self.lb.cli(&["plan", &file.to_string_lossy()])?;
        // The summary and the VIPs; each VIP's backends follow.
        let printed = String::from_utf8_lossy(&plan.stdout);
        tell_after("| ", printed.split("\n\n").take(2).collect::<Vec<_>>().join("\n\n"));
        self.story.check(plan.status.code() == Some(2), "it finds differences: exit code 2");
        let after = self.lb.json(&["status"])?;
        let same = ["generation", "applied"].iter().all(|count| before[count] == after[count]);
        self.story.check(same, "nothing has changed");

        let tuple = format!("tcp {CLIENT_V4}:51000 {VIP_V4}:80");
        self.story.step(format!("lb explain {tuple} --flags S: where would it go, and why?"));
        let explained = self.lb.cli(&["explain", &tuple, "--flags", "S"])?;
        let printed = String::from_utf8_lossy(&explained.stdout);
        tell_after("| ", &printed);
        self.story.check(printed.contains(" goes to web-"), "it says which backend, and because of what");
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let mut sessions = Sessions::open(&self.lab.client, &vips(80), 30)?;
        let old = sessions.of("web-3");
        self.story.step(format!("web-3 is drained: weight = 0 in the file, SIGHUP; {old} connections are open on it"));
        self.settings.backend("web-3").weight = 0;
        let took = self.time(|tour| tour.lb.reload(&tour.settings))?;
        tell(format!("applied after {took} ms"));
        let report = self.ask_all();
        tell(&report);
        self.story.check(report.failed() == 0 && report.of("web-3") == 0, "nothing new came to web-3, nothing failed");
        let stay = sessions.all_stay();
        self.story
            .check(stay.is_ok(), format!("all {} open connections stayed, {old} of them on web-3", sessions.len()));
        self.settings.backend("web-3").weight = 100;
        self.lb.reload(&self.settings)
    }

    fn kill_the_daemon(&mut self) -> Result<()> {
        self.story.step("The daemon is killed (SIGKILL) during a download of 100 MB, and started again");
        let link = self.lb.link()?;
        let download = Download::start(&self.lab.client, vips(80)[0], 100 * MEGABYTE, 50 * MEGABYTE, 70 * MEGABYTE)?;
        download.wait_for(20 * MEGABYTE, Duration::from_secs(20))?;
        self.lb.kill()?;
        let report = self.ask_all();
        tell(&report);
        self.story.check(report.failed() == 0, "without a daemon no request failed");
        self.lb.start_again()?;
        self.lb.wait_up(&BACKENDS)?;
        let again = self.lb.link()?;
        self.story
            .check(again.id == link.id, format!("the new daemon adopted link {}: forwarding never stopped", link.id));
        let received = download.finish();
        self.story.check(received.is_ok(), "the download is complete and right, byte for byte");
        if let Err(error) = received {
            tell(format!("{error:#}"));
        }
        Ok(())
    }

    fn ask_all(&self) -> Report {
        let mut report = Report::new(BACKENDS.map(String::from).to_vec());
        for to in vips(80) {
            report.add(&format!("HTTP {to}"), http::ask_many(&self.lab.client, to, REQUESTS));
        }
        for to in vips(53) {
            report.add(&format!("UDP  {to}"), udp::ask_many(&self.lab.client, to, REQUESTS, 2));
        }
        report
    }

    /// Milliseconds that something took.
    fn time(&self, work: impl FnOnce(&Self) -> Result<()>) -> Result<u128> {
        let start = Instant::now();
        work(self)?;
        Ok(start.elapsed().as_millis())
    }

    fn tell_how_to_look_inside(&self) -> Result<()> {
        let lb = format!(
            "nsenter --net={} {} --pin-path {} --api {}",
            self.lab.lb.path().display(),
            balancer::binary()?.display(),
            self.lb.pin_path().display(),
            self.settings.socket.display()
        );
        let process = self.lb.process().context("the daemon does not run")?;
        let (client, router) = (self.lab.client.path(), self.lab.router.path());
        println!("\nThe lab stays up. Look inside:");
        for verb in ["status", "vip list", "backend list", "history", "stats", "top"] {
            println!("  {lb} {verb}");
        }
        println!("  nsenter --net={} bash        # be the client: try http://{VIP_V4}/", client.display());
        println!("  nsenter --net={} tcpdump -ni lb0   # what goes to lb and comes from it", router.display());
        println!("Change {} and have it applied: kill -HUP {process}", self.lb.config().display());
        println!("Take it down: {} --down {}", std::env::current_exe()?.display(), self.lab.name());
        Ok(())
    }
}

fn describe(lab: &Lab, binary: &Path) -> Result<()> {
    let host = |name: &str, namespace: &netns::Namespace, addresses: [IpAddr; 2]| {
        tell(format!("{name:<10}{:<14}{:<20}{}", addresses[0], addresses[1], namespace.name()));
    };
    host("client", &lab.client, [CLIENT_V4.into(), CLIENT_V6.into()]);
    host("lb", &lab.lb, [LB_V4.into(), LB_V6.into()]);
    for backend in &lab.backends {
        host(backend.name(), &backend.namespace, [backend.v4, backend.v6]);
    }
    tell(format!("{:<10}{:<34}{}", "router", "routes the VIPs to lb", lab.router.name()));
    let version = netns::output(std::process::Command::new(binary).arg("--version"))?;
    tell(format!("{} from {}", version.trim(), binary.display()));
    Ok(())
}
