//! Generations of a real daemon over the kernel's tables: applied, confirmed or not, brought back, and what is left of
//! them when the daemon dies on the way.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use lb_common::{
    layout::flow::{FlowEntry, FlowState},
    maps,
};
use lb_daemon::dataplane::flows::Liveness;
use rustix::process::getuid;
use serde_json::{Value, json};

use super::{ops, place::Place};

/// Ops of an apply, at most.
const MOST_OPS: u32 = 30;

/// A place for a daemon on no interface, which dies and starts again.
struct Site {
    place: Place,
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Site {
    fn new() -> Option<Self> {
        let site = Self { place: Place::new()?, folder: tempfile::tempdir().unwrap(), daemon: None };
        site.write("lb.toml", "10.0.0.11");
        site.write("new.toml", "10.0.0.12");
        Some(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration of two backends, of which this is the second.
    fn write(&self, name: &str, second: &str) {
        let config = format!(
            "[dataplane]\ninterfaces = []\nnext_hop = \"02:00:00:00:00:01\"\nflow_table_entries = 4096\nring_size = 251\n\
             [daemon]\nstate_dir = \"{}\"\n[metrics]\nlisten = \"off\"\n[api]\nsocket = \"{}\"\n\
             [pool.web]\nbackends = [{{ name = \"a\", address = \"10.0.0.10\" }}, {{ name = \"b\", address = \"{second}\" }}]\n\
             [pool.web.health]\ntype = \"none\"\n\
             [[vip]]\nname = \"web\"\naddress = \"192.0.2.10\"\nport = 443\nprotocol = \"tcp\"\npool = \"web\"\n",
            self.path("state").display(),
            self.path("lb.sock").display(),
        );
        fs::write(self.path(name), config).unwrap();
    }

    /// Starts the daemon, and waits until it has brought the tables to its configuration.
    fn start(&mut self, latch: Option<&str>) {
        let mut process = Command::new(env!("CARGO_BIN_EXE_lb"));
        process.arg("--pin-path").arg(&self.place.path).args(["run", "--config"]).arg(self.path("lb.toml"));
        process.envs(latch.map(|latch| ("LB_LATCH", latch))).stderr(Stdio::null());
        self.daemon = Some(process.spawn().unwrap());
        let begun = Instant::now();
        while self.status()["applied"].as_u64().is_none_or(|applied| applied == 0) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not serve: {}", self.status());
            sleep(Duration::from_millis(20));
        }
    }

    /// Kills the daemon, if it has not died by itself.
    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        self.ask_for("json", arguments)
    }

    fn ask_for(&self, output: &str, arguments: &[&str]) -> Output {
        let mut process = Command::new(env!("CARGO_BIN_EXE_lb"));
        process.arg("--pin-path").arg(&self.place.path).arg("--api").arg(self.path("lb.sock")).args(["-o", output]);
        process.args(arguments).current_dir(&self.folder).output().unwrap()
    }

    /// The answer of a command that must succeed.
    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a command says that is refused.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {complaint}");
        complaint
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.ask(&["status"]).stdout).unwrap_or_default()
    }

    /// Digest of the ring in force and the addresses of those that serve, with or without a daemon.
    fn tables(&self) -> (String, Vec<String>) {
        let vips: Value = serde_json::from_slice(&self.ask(&["vip", "list"]).stdout).unwrap();
        let backends: Value = serde_json::from_slice(&self.ask(&["backend", "list"]).stdout).unwrap();
        let serving = backends.as_array().unwrap().iter().filter(|one| one["state"] == "serving");
        let mut serving: Vec<String> = serving.map(|one| one["address"].as_str().unwrap().to_owned()).collect();
        serving.sort();
        (vips[0]["ring_digest"].as_str().unwrap_or_default().to_owned(), serving)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn what_is_applied_is_kept_with_its_author_and_survives_until_it_is_rolled_back() {
    let Some(mut site) = Site::new() else { return };
    site.start(None);
    let applied = site.done(&["apply", "new.toml", "--reason", "more room"]);
    assert_eq!((&applied["generation"], &applied["new"]), (&json!(2), &json!(true)), "{applied}");
    let again = site.done(&["apply", "new.toml"]);
    assert_eq!((&again["generation"], &again["new"], &again["ops"]), (&json!(2), &json!(false), &json!(0)));
    fs::write(site.path("bad.toml"), "mood = 1\n").unwrap();
    assert!(site.refused(3, &["apply", "bad.toml"]).contains("mood"));
    assert!(site.refused(1, &["confirm"]).contains("nothing waits"));

    site.kill();
    site.start(None);
    let status = site.status();
    assert_eq!((&status["generation"], &status["differs_from_file"]), (&json!(2), &json!(true)), "{status}");
    assert_eq!(site.tables().1, ["10.0.0.10", "10.0.0.12"]);
    let newest = &site.done(&["history"])[0];
    assert_eq!((&newest["uid"], &newest["reason"]), (&json!(getuid().as_raw()), &json!("more room")), "{newest}");
    assert_eq!((&newest["origin"], &newest["state"]), (&json!("apply"), &json!("in-force")));

    assert_eq!(site.done(&["rollback"])["generation"], 3);
    assert_eq!(site.tables().1, ["10.0.0.10", "10.0.0.11"]);
    assert!(site.refused(1, &["rollback", "9"]).contains("generation 9 is not kept"));
    let all = site.done(&["history"]);
    let standings: Vec<&str> = all.as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!((standings, &all[0]["of"]), (vec!["in-force", "former", "former"], &json!(1)));
}

#[test]
fn what_would_take_too_many_flows_from_their_backends_is_refused() {
    let Some(mut site) = Site::new() else { return };
    site.start(None);
    let backends = site.done(&["backend", "list"]);
    let now = Liveness::now(7).now;
    // Three flows of backend a, one of b, which new.toml takes away.
    for (bucket, backend) in [(1, 0), (2, 0), (3, 0), (4, 1)] {
        let target = backends[backend]["target"].as_u64().unwrap().try_into().unwrap();
        let mut words = [0; 8];
        words[0] = FlowEntry::new(bucket, target, now, FlowState::Established).0;
        ops::update(&site.place, maps::FLOWS, bucket, &ops::bucket(words));
    }
    let before = site.tables();
    assert!(site.refused(64, &["apply", "new.toml", "--max-disruption", "5"]).contains("such as \"5%\""));
    let refused = site.refused(1, &["apply", "new.toml", "--max-disruption", "24.9%", "--confirm", "1h"]);
    assert!(refused.contains("1 of 4 live flows (25%) would lose their backend, more than the 24.9%"), "{refused}");
    let status = site.status();
    assert_eq!((site.tables(), &status["generation"], &status["applied"]), (before, &json!(1), &json!(1)), "{status}");

    let applied = site.done(&["apply", "new.toml", "--max-disruption", "25%"]);
    let flows = json!({ "total": 4, "moved": 1, "share": 0.25 });
    assert_eq!((&applied["generation"], &applied["plan"]["flows"]), (&json!(2), &flows), "{applied}");
    let output = site.ask_for("table", &["apply", "lb.toml", "--confirm", "1h"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("1 VIP changes; ") && lines[0].ends_with("% of slots move, and no live flow"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("generation 3 is in force, ") && lines[2].contains("unless `lb confirm` comes"),
        "{text}"
    );
}

#[test]
fn what_is_to_be_confirmed_stays_or_goes_whatever_becomes_of_the_daemon() {
    let Some(mut site) = Site::new() else { return };
    site.start(None);
    let applied = site.done(&["apply", "new.toml", "--confirm", "1h"]);
    assert_eq!((&applied["waiting"]["back_to"], &applied["waiting"]["generation"]), (&json!(1), &json!(2)));
    assert!(site.refused(1, &["apply", "lb.toml"]).contains("`lb confirm` keeps it"));
    assert!(site.refused(1, &["reload"]).contains("waits for confirmation"));
    site.kill();
    site.start(None);
    assert_eq!(site.done(&["history"])[0]["state"], "unconfirmed");
    assert_eq!(site.done(&["confirm"])["generation"], 2);
    assert_eq!(site.done(&["rollback"])["generation"], 3);

    // Nobody confirms.
    site.done(&["apply", "new.toml", "--confirm", "1s"]);
    let begun = Instant::now();
    while site.status()["generation"] != 5 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it stays: {}", site.status());
        sleep(Duration::from_millis(50));
    }
    assert_eq!(site.tables().1, ["10.0.0.10", "10.0.0.11"]);

    // Nobody can, since the daemon is dead when the time is over.
    site.done(&["apply", "new.toml", "--confirm", "4s"]);
    site.kill();
    sleep(Duration::from_secs(5));
    assert_eq!(site.tables().1, ["10.0.0.10", "10.0.0.12"], "forwarding goes on meanwhile");
    site.start(None);
    assert_eq!(site.tables().1, ["10.0.0.10", "10.0.0.11"]);
    let newest = &site.done(&["history"])[0];
    assert_eq!((&newest["generation"], &newest["of"]), (&json!(7), &json!(5)));
    assert_eq!(newest["reason"], "generation 6 was not confirmed in time");
}

#[test]
fn a_daemon_that_dies_anywhere_in_an_apply_comes_back_to_one_of_the_two() {
    let Some(mut site) = Site::new() else { return };
    site.start(None);
    let old = site.tables();
    site.done(&["apply", "new.toml"]);
    let new = site.tables();
    assert_ne!(old, new);
    site.done(&["rollback", "1"]);
    let ops = (1..=MOST_OPS).map(|op| format!("apply-op:{op}"));
    let files = ["pending-temp", "pending-written", "generation-temp", "generation-written"].map(String::from);
    let (mut deaths, mut outcomes) = (0, BTreeMap::new());
    for latch in files.into_iter().chain(ops) {
        site.kill();
        site.start(Some(&latch));
        let output = site.ask(&["apply", "new.toml", "--confirm", "1h"]);
        if output.status.success() {
            // More ops than there are.
            assert!(latch.starts_with("apply-op") && deaths > 6, "{latch} after {deaths}");
            break;
        }
        deaths += 1;
        site.kill();
        // Nobody is there, and the VIP has a ring of the one or of the other all the while.
        let (digest, serving) = site.tables();
        assert!(digest == old.0 || digest == new.0, "{latch}: {digest}");
        assert!(serving.contains(&"10.0.0.10".to_owned()), "{latch}: {serving:?}");
        site.start(None);
        let status = site.status();
        assert_eq!(status["problems"], json!([]), "{latch}");
        let is_new = !status["in_force"]["waiting"].is_null();
        assert_eq!(site.tables(), if is_new { new.clone() } else { old.clone() }, "{latch}: {status}");
        *outcomes.entry(is_new).or_insert(0) += 1;
        if is_new {
            site.done(&["rollback"]);
        }
        assert_eq!(site.tables(), old, "{latch}");
    }
    println!("died {deaths} times: {outcomes:?} (whether the new configuration was in force afterwards)");
    assert!(outcomes[&false] == 3 && outcomes[&true] == deaths - 3, "{outcomes:?}");
}
