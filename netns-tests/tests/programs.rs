//! Programs that the configuration names, run for a confined daemon: as checks, and to be told of changes.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    leftovers::inside,
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Lab, Layout, vips},
    traffic::http,
    wait,
};
use serde_json::Value;

#[path = "programs/web.rs"]
mod web;

use web::{Answer, WebServer};

const RUNNER: &str = "run-programs";

/// The usual file, whose check is a script. It finds the backend's address in `$LB_ADDRESS`.
fn checked_by(lab: &Lab, script: &str) -> String {
    let check = format!(
        "type = \"exec\"\nargv = [\"/bin/sh\", \"-c\", '''{script}''']\n\
         interval = \"1s\"\ntimeout = \"1s\"\nrise = 2\nfall = 2\n"
    );
    Settings::web(lab, Health::None).to_string().replace("type = \"none\"\n", &check)
}

/// Demands that these backends answer and no others.
fn answer(lab: &Lab, names: &[&str]) -> Result<()> {
    let answers = http::ask_many(&lab.client, vips(80)[0], 40);
    let others = answers.by_backend.keys().find(|name| !names.contains(&name.as_str()));
    ensure!(answers.failed() == 0 && others.is_none(), "{answers}");
    Ok(())
}

/// What a process was started as, if it has not ended.
fn command_line(process: impl std::fmt::Display) -> String {
    fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default().replace('\0', " ")
}

fn nothing_is_left(lab: &Lab) -> Result<()> {
    wait::until("all that the daemon started is gone", LIMIT, || {
        let left = inside(&lab.lb.path());
        let told: Vec<String> = left.iter().map(|process| command_line(process.as_raw_nonzero())).collect();
        ensure!(told.is_empty(), "{told:?}");
        Ok(Some(()))
    })
}

#[test]
fn a_program_takes_a_backend_down_and_up_for_its_reason() {
    scenario(&Layout::with_backends(2), |lab| {
        let mark = lab.folder().join("down");
        let script =
            format!("[ ! -e {0}-$LB_ADDRESS ] || {{ echo queue is full; exit 3; }}; echo all is well", mark.display());
        let lb = Balancer::start_text(lab, &checked_by(lab, &script))?;
        lb.wait_up(&["web-1", "web-2"])?;
        ensure!(lb.listed("web-2")?["last_check"] == "all is well", "{}", lb.listed("web-2")?);
        let confinement = &lb.json(&["status"])?["confinement"];
        ensure!(confinement["files"] == "whole" && confinement["calls"] == "whole", "{confinement}");

        let mark = PathBuf::from(format!("{}-{}", mark.display(), lab.backends[1].v4));
        fs::write(&mark, "")?;
        lb.wait_up(&["web-1"])?;
        answer(lab, &["web-1"])?;
        let down = lb.listed("web-2")?;
        let reason = down["reason"].as_str().unwrap_or_default();
        ensure!(down["state"] == "down" && reason.contains("exit code 3: queue is full"), "{down}");
        let shown = lb.json(&["backend", "show", "web-2"])?.to_string();
        ensure!(shown.contains("exit code 3: queue is full") && shown.contains("all is well"), "{shown}");

        fs::remove_file(&mark)?;
        lb.wait_up(&["web-1", "web-2"])?;
        ensure!(lb.listed("web-2")?["last_check"] == "all is well", "{}", lb.listed("web-2")?);
        answer(lab, &["web-1", "web-2"])
    });
}

/// A script that never ends for one backend, nor do those that it starts; it notes the numbers of all of them.
fn endless(lab: &Lab, notes: &Path) -> String {
    let (address, notes) = (lab.backends[1].v4, notes.display());
    format!(
        "[ $LB_ADDRESS = {address} ] || exit 0; trap \"\" TERM; echo $$ >> {notes}; \
         sleep 1000 & echo $! >> {notes}; setsid sh -c \"echo \\$\\$ >> {notes}; sleep 1000\" & sleep 1000"
    )
}

#[test]
fn a_program_that_never_ends_is_killed_and_the_daemon_goes_on() {
    scenario(&Layout::with_backends(2), |lab| {
        let notes = lab.folder().join("numbers");
        let text = checked_by(lab, &endless(lab, &notes));
        let lb = Balancer::start_text(lab, &text)?;
        lb.wait_up(&["web-1"])?;
        wait::until("the reason is told", LIMIT, || {
            let down = lb.listed("web-2")?;
            ensure!(down["last_check"] == "killed after 1s" && down["state"] == "down", "{down}");
            Ok(Some(()))
        })?;
        let daemon = lb.process();
        thread::sleep(Duration::from_secs(5));
        answer(lab, &["web-1"])?;
        ensure!(lb.process() == daemon && lb.json(&["status"])?["state"] != "starting", "it is another daemon");
        // No more of them run than the checks of two VIPs start; those before are gone, with all that they started.
        let numbers = fs::read_to_string(&notes)?;
        let (started, run) =
            (numbers.lines().count(), numbers.lines().filter(|one| !command_line(one).is_empty()).count());
        ensure!(started >= 18 && run <= 6, "of {started} processes {run} still run");
        println!("of {started} processes that never end {run} ran at last");
        Ok(())
    });
}

#[test]
fn programs_end_with_the_daemon_however_that_ends() {
    scenario(&Layout::with_backends(2), |lab| {
        let notes = lab.folder().join("numbers");
        let text = checked_by(lab, &endless(lab, &notes)).replace("timeout = \"1s\"", "timeout = \"5m\"");
        let mut lb = Balancer::start_text(lab, &text.replace("interval = \"1s\"", "interval = \"10m\""))?;
        let all_run = |lb: &mut Balancer, end: fn(&mut Balancer) -> Result<()>| {
            wait::until("the runner and the three run", LIMIT, || {
                let lines: Vec<String> =
                    inside(&lab.lb.path()).iter().map(|one| command_line(one.as_raw_nonzero())).collect();
                let count = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
                ensure!(count(RUNNER) == 1 && count("sleep 1000") >= 3, "{lines:?}");
                Ok(Some(()))
            })?;
            let start = Instant::now();
            end(lb)?;
            nothing_is_left(lab)?;
            println!("nothing is left after {:?}", start.elapsed());
            Ok::<_, anyhow::Error>(())
        };
        all_run(&mut lb, Balancer::stop)?;
        lb.start_again()?;
        all_run(&mut lb, Balancer::kill)?;
        // The next one finds nothing in its way.
        lb.start_again()?;
        answer(lab, &["web-1", "web-2"])
    });
}

#[test]
fn a_runner_that_is_gone_is_told_and_forwarding_goes_on() {
    scenario(&Layout::with_backends(2), |lab| {
        lab.log().expect("the process that runs programs is gone");
        lab.log().expect("health checks cannot be made");
        let lb = Balancer::start_text(lab, &checked_by(lab, "exit 0"))?;
        lb.wait_up(&["web-1", "web-2"])?;
        let told = || -> Result<String> { Ok(lb.json(&["status"])?["problems"].to_string()) };
        ensure!(told()? == "[]", "{}", told()?);
        let all = inside(&lab.lb.path());
        let runner = all.iter().find(|one| command_line(one.as_raw_nonzero()).contains(RUNNER));
        rustix::process::kill_process(*runner.context("no runner")?, rustix::process::Signal::KILL)?;
        wait::until("the loss is told", LIMIT, || Ok(told()?.contains("programs is gone").then_some(())))?;
        answer(lab, &["web-1", "web-2"])
    });
}

#[test]
fn the_first_program_is_refused_without_a_runner_and_may_come_and_go_with_one() {
    scenario(&Layout::with_backends(2), |lab| {
        lab.log().expect("reload refused");
        let plain = Settings::web(lab, Health::Http(80)).to_string();
        let exec = checked_by(lab, "exit 0");
        let told = format!("{plain}\n[daemon.on_change]\nexec = [\"/bin/true\"]\n");
        let mut lb = Balancer::start_text(lab, &plain)?;
        lb.wait_up(&["web-1", "web-2"])?;
        for (text, key) in [(&exec, "health.type = \"exec\""), (&told, "daemon.on_change")] {
            lb.reload_refused(text)?;
            let why = lb.json(&["status"])?["last_reload"]["reason"].as_str().unwrap_or_default().to_owned();
            ensure!(why.contains(key) && why.contains("restart the daemon; forwarding goes on meanwhile"), "{why}");
            answer(lab, &["web-1", "web-2"])?;
            lb.wait_up(&["web-1", "web-2"])?;
            lb.reload_text(&plain)?;
        }
        ensure!(inside(&lab.lb.path()).len() == 1, "more than the daemon runs");

        lb.write(&told)?;
        lb.stop()?;
        lb.start_again()?;
        // There is a runner now, and it stays.
        for text in [&plain, &exec, &plain, &told, &exec] {
            lb.reload_text(text)?;
        }
        wait::until("the program tells", LIMIT, || {
            Ok((lb.listed("web-2")?["last_check"] == "exit code 0").then_some(()))
        })?;
        lb.wait_up(&["web-1", "web-2"])?;

        // A program that is not there says nothing about those that serve.
        let absent =
            exec.replace("\"/bin/sh\"", "\"/bin/shh\"").replace("type = \"exec\"", "name = \"new\"\ntype = \"exec\"");
        lab.log().expect("health checks cannot be made");
        lb.reload_text(&absent)?;
        wait::until("that is told", LIMIT, || {
            let told = lb.json(&["status"])?["problems"].to_string();
            Ok((told.contains("4 checks of pool web (web-1, web-2) cannot be made") && told.contains("/bin/shh"))
                .then_some(()))
        })?;
        answer(lab, &["web-1", "web-2"])
    });
}

/// What documents say of a backend for a VIP: events and reasons.
fn events_of(documents: &[Value], vip: &str, backend: &str) -> Vec<(String, String)> {
    let events = documents.iter().flat_map(|document| document["events"].as_array().into_iter().flatten());
    let about = events.filter(|event| event["vip"] == vip && event["backend"] == backend);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    about.map(|event| (text(&event["event"]), text(&event["reason"]))).collect()
}

#[test]
fn a_program_and_a_web_server_are_told_of_a_backend_that_goes_and_comes() {
    scenario(&Layout::with_backends(2), |lab| {
        // Too late, then with an error, then well.
        let server = WebServer::start(&lab.router, &[Answer::Never, Answer::Status(503)])?;
        let (script, file) = (lab.folder().join("tell"), lab.folder().join("told"));
        fs::write(&script, format!("#!/bin/sh\ncat >> {0}\necho >> {0}\n", file.display()))?;
        let settings = Settings::web(lab, Health::Http(80)).to_string();
        let text = format!(
            "{settings}\n[daemon.on_change]\nexec = [\"/bin/sh\", \"{}\"]\nwebhook = \"{}\"\ntimeout = \"2s\"\n",
            script.display(),
            web::URL,
        );
        let lb = Balancer::start_text(lab, &text)?;
        lb.wait_up(&["web-1", "web-2"])?;
        lab.backend("web-2").stop();
        lb.wait_up(&["web-1"])?;
        answer(lab, &["web-1"])?;
        lab.backend("web-2").start()?;
        lb.wait_up(&["web-1", "web-2"])?;

        let by_program = || -> Result<Vec<Value>> {
            let lines = fs::read_to_string(&file).unwrap_or_default();
            lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
        };
        let as_expected = |who: &str, documents: &[Value]| {
            for vip in ["web-v4", "web-v6"] {
                let events = events_of(documents, vip, "web-2");
                let [(down, why), (serving, _)] = &events[..] else { anyhow::bail!("{who} was told {events:?}") };
                ensure!(down == "backend_down" && why.contains("connection refused"), "{who}: {events:?}");
                ensure!(serving == "backend_serving", "{who}: {events:?}");
                ensure!(events_of(documents, vip, "web-1").is_empty(), "{who} was told of web-1: {documents:?}");
            }
            Ok(Some(()))
        };
        wait::until("the program is told", LIMIT, || as_expected("the program", &by_program()?))?;
        wait::until("the web server is told", LIMIT, || as_expected("the web server", &server.taken()))?;
        let first = &by_program()?[0]["events"][0];
        let address = lab.backends[1].v4.to_string();
        ensure!(first["pool"] == "web" && first["address"] == address.as_str(), "{first}");
        let service = first["service"].as_str().unwrap_or_default();
        ensure!(service.contains(":80") && first["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{first}");
        println!("{first}");

        // What failed came again, as it was, before what came later.
        let posts = server.all();
        ensure!(posts.len() >= 4 && posts[0] == posts[1] && posts[1] == posts[2] && posts[2] != posts[3], "{posts:?}");
        ensure!(lb.json(&["status"])?["state"] == "serving", "{}", lb.json(&["status"])?);

        // One that is gone is given up after a while, and nothing else comes of it.
        lab.log().expect("on_change could not be told; these events are given up");
        lb.reload_text(&text.replace("timeout = \"2s\"", "timeout = \"2s\"\nretries = 1"))?;
        drop(server);
        let (mark, told) = (lab.log().mark(), by_program()?.len());
        lab.backend("web-1").stop();
        lb.wait_up(&["web-2"])?;
        wait::until("it is given up", LIMIT, || {
            lab.log().wait_for(mark, &["these events are given up", "to=\"webhook\"", "connection refused"]).map(Some)
        })?;
        ensure!(by_program()?.len() > told, "the program was not told");
        let metrics = lb.metrics()?;
        let count = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels);
        let (failed, well) = (("result", "failure"), ("result", "success"));
        for (to, lost) in [("exec", false), ("webhook", true)] {
            let to = ("to", to);
            ensure!(count("lb_on_change_deliveries_total", &[to, well])? >= 2.0, "{to:?}");
            ensure!((count("lb_on_change_deliveries_total", &[to, failed])? >= 4.0) == lost, "{to:?}");
            ensure!((count("lb_on_change_lost_events_total", &[to])? >= 1.0) == lost, "{to:?}");
        }
        answer(lab, &["web-2"])
    });
}

#[test]
fn a_web_server_is_told_by_tls_once_its_authority_is_trusted() {
    scenario(&Layout::with_backends(2), |lab| {
        lab.log().expect("on_change could not be told; these events are given up");
        let authority = lab.folder().join("authority.pem");
        let server = WebServer::start_tls(&lab.router, &authority)?;
        let settings = Settings::web(lab, Health::Http(80)).to_string();
        let on_change = format!("[daemon.on_change]\nwebhook = \"{}\"\ntimeout = \"2s\"\nretries = 0\n", web::TLS_URL);
        let mut lb = Balancer::start_text(lab, &format!("{settings}\n{on_change}"))?;
        lb.wait_up(&["web-1", "web-2"])?;
        let mark = lab.log().mark();
        lab.backend("web-2").stop();
        wait::until("a stranger is told nothing", LIMIT, || {
            let words = ["these events are given up", "certificate from an unknown issuer"];
            lab.log().wait_for(mark, &words).map(Some)
        })?;
        ensure!(server.all().is_empty(), "{:?}", server.all());
        // For both VIPs, each of which finds it by itself.
        lb.wait_up(&["web-1"])?;
        lb.stop()?;
        lb.set("SSL_CERT_FILE", &authority);
        lb.start_again()?;
        lab.backend("web-2").start()?;
        wait::until("the web server is told", LIMIT, || {
            let events = events_of(&server.taken(), "web-v4", "web-2");
            let told: Vec<&str> = events.iter().map(|(event, _)| event.as_str()).collect();
            ensure!(told == ["backend_down", "backend_serving"], "{events:?}");
            Ok(Some(()))
        })
    });
}
