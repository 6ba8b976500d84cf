//! What an agent beside a backend says is done, and goes on while it is silent.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::Balancer,
    netns::Namespace,
    running::{Running, listen},
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Lab, Layout, vips},
    traffic::{http, sessions::Sessions},
    wait,
};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

const PORT: u16 = 9707;
const LIMIT: Duration = Duration::from_secs(10);

/// An agent that says what the test wants; its port closes when this is dropped.
struct Agent {
    line: Arc<Mutex<String>>,
    _running: Running,
}

impl Agent {
    fn start(namespace: &Namespace, line: &str) -> Result<Self> {
        let listener = listen(namespace, SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))?;
        let line = Arc::new(Mutex::new(line.to_owned()));
        let says = Arc::clone(&line);
        let running = Running::start(async move || {
            let listener = TcpListener::from_std(listener).expect("a listener");
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { continue };
                let line = says.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let _ = stream.write_all(line.as_bytes()).await;
            }
        })?;
        Ok(Self { line, _running: running })
    }

    fn say(&self, line: &str) {
        line.clone_into(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A balancer that asks agents twice a second.
fn asking(lab: &Lab) -> Settings {
    let mut settings = Settings::web(lab, Health::Http(80));
    settings.pools[0].keys.push(format!("agent = {{ port = {PORT}, interval = \"500ms\" }}"));
    settings
}

/// What is known of its agent.
fn agent(lb: &Balancer, name: &str) -> Result<Value> {
    Ok(lb.shown(name)?["health"]["agent"].clone())
}

fn wait_for(lb: &Balancer, name: &str, state: &str, reason: Option<&str>) -> Result<()> {
    wait::until(&format!("{name} is {state}, {reason:?}"), LIMIT, || {
        let backend = lb.listed(name)?;
        let is = backend["state"] == state && backend["reason"].as_str() == reason;
        ensure!(is, "{} ({})", backend["state"], backend["reason"]);
        Ok(Some(()))
    })
}

/// Its part of the first VIP's ring.
fn share(lb: &Balancer, name: &str) -> Result<f64> {
    let ring = lb.json(&["ring", "show", "web-v4"])?;
    let all = ring["backends"].as_array().context("no backends")?;
    let own = all.iter().find(|one| one["backend"] == name);
    Ok(own.and_then(|own| own["share"].as_f64()).unwrap_or(0.0))
}

#[test]
fn an_agents_words_are_done_and_hold_while_it_is_silent() {
    scenario(&Layout::with_backends(3), |lab| {
        lab.log().expect("web-1");
        let agents: Vec<Agent> =
            lab.backends.iter().map(|one| Agent::start(&one.namespace, "ready up 100%\n")).collect::<Result<_>>()?;
        let mut lb = Balancer::start(lab, &asking(lab))?;
        lb.wait_up(&["web-1", "web-2", "web-3"])?;
        let whole = share(&lb, "web-1")?;
        ensure!((0.33..0.34).contains(&whole), "{whole} of the ring is a third");
        let mut known = Sessions::open(&lab.client, &vips(80), 60)?;
        ensure!(known.of("web-1") > 5, "some of them are with web-1");

        agents[0].say("25%\r\n");
        wait_for(&lb, "web-1", "serving", Some("agent: 25%"))?;
        let quarter = share(&lb, "web-1")?;
        println!("{whole:.4} of the ring, at 25% {quarter:.4}");
        ensure!((quarter - 0.25 / 2.25).abs() < 0.001, "{quarter} of the ring");

        agents[0].say("drain\n");
        wait_for(&lb, "web-1", "draining", Some("agent: drain 25%"))?;
        let answers = http::ask_many(&lab.client, vips(80)[0], 200);
        ensure!(answers.failed() == 0 && answers.of("web-1") == 0, "{answers}");
        known.all_stay().context("known flows go on")?;

        agents[0].say("ready 100% stopped # by hand\n");
        wait_for(&lb, "web-1", "down", Some("agent: stopped (#by hand)"))?;
        known.forget("web-1");
        known.all_stay()?;
        agents[0].say("up\n");
        wait_for(&lb, "web-1", "serving", None)?;
        ensure!((share(&lb, "web-1")? - whole).abs() < 0.001, "all of it again");

        agents[0].say("drain 50%\n");
        wait_for(&lb, "web-1", "draining", Some("agent: drain 50%"))?;
        agents[0].say("what is this?\n");
        let silent = |why: &str| {
            wait::until(why, LIMIT, || {
                let agent = agent(&lb, "web-1")?;
                ensure!(agent["answers"] == false && agent["last"] == why, "{agent}");
                Ok(Some(agent))
            })
        };
        let since = silent("it said nothing that is understood")?["since"].clone();
        let mut agents = agents.into_iter();
        drop(agents.next());
        let left: Vec<Agent> = agents.collect();
        let agent_now = silent("connection refused")?;
        ensure!(agent_now["word"] == "drain 50%" && agent_now["since"] == since, "{agent_now}");
        thread::sleep(Duration::from_secs(2));
        wait_for(&lb, "web-1", "draining", Some("agent: drain 50%, silent"))?;
        let silent = lb.metrics()?.value("lb_agents_silent")?;
        ensure!((silent - 2.0).abs() < 0.5, "one agent, of two VIPs: {silent}");
        let shown = lb.cli(&["backend", "show", "web-1"])?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        ensure!(
            shown.contains("silent") && shown.contains("connection refused") && shown.contains("drain 50%"),
            "{shown}"
        );
        println!("{shown}");

        // Over a restart, and until the file has no agent any more.
        lb.stop()?;
        lb.start_again()?;
        wait_for(&lb, "web-1", "draining", Some("agent: drain 50%, silent"))?;
        lb.reload(&Settings::web(lab, Health::Http(80)))?;
        wait_for(&lb, "web-1", "serving", None)?;
        ensure!((share(&lb, "web-1")? - whole).abs() < 0.001, "all of it again");
        drop(left);
        Ok(())
    });
}

#[test]
fn a_backend_in_maintenance_gets_nothing_from_the_first_moment_on() {
    scenario(&Layout::with_backends(2), |lab| {
        lab.log().expect("web-2");
        let agents = [("web-1", "maint\n"), ("web-2", "ready\n")].map(|(name, line)| {
            let backend = lab.backends.iter().find(|one| one.name() == name).context("no such backend")?;
            Agent::start(&backend.namespace, line)
        });
        let [one, _two] = agents;
        let one = one?;
        let lb = Balancer::start(lab, &asking(lab))?;
        lb.wait_up(&["web-2"])?;
        let answers = http::ask_many(&lab.client, vips(80)[0], 100);
        ensure!(answers.failed() == 0 && answers.of("web-1") == 0, "{answers}");
        let created = lb.metrics()?.sum("lb_backend_flows_created_total", &[("backend", "web-1")])?;
        ensure!(created == 0.0, "{created} flows were given to it before");
        one.say("ready\n");
        lb.wait_up(&["web-1", "web-2"])?;
        let answers = http::ask_many(&lab.client, vips(80)[0], 100);
        ensure!(answers.failed() == 0 && answers.of("web-1") > 20, "{answers}");
        Ok(())
    });
}
