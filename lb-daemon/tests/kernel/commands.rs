//! `lb load`, `lb unload` and `lb decap` as processes.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::place::{Net, Place, run};

const CONFIG: &str = r#"
version = 1
[dataplane]
interfaces = ["lbx0"]
next_hop = "02:00:00:00:00:01"
flow_table_entries = 4096
[pool.web]
backends = [{ name = "web-1", address = "10.0.0.11" }, { name = "web-2", address = "2001:db8::12" }]
[[vip]]
name = "web"
address = "192.0.2.10"
port = 443
protocol = "tcp"
pool = "web"
"#;

/// A daemon's files, all in this folder.
fn files_of_daemon(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[daemon]\nstate_dir = \"{folder}/state\"\n[api]\nsocket = \"{folder}/lb.sock\"\n[metrics]\nlisten = \"off\"\n"
    )
}

/// A place with a config file, and the commands on it.
struct Commands {
    place: Place,
    folder: tempfile::TempDir,
}

impl Commands {
    fn new() -> Option<Self> {
        let commands = Self { place: Place::new()?, folder: tempfile::tempdir().unwrap() };
        commands.write(CONFIG);
        Some(commands)
    }

    fn write(&self, config: &str) {
        std::fs::write(self.folder.path().join("lb.toml"), config).unwrap();
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        let mut process = Command::new(env!("CARGO_BIN_EXE_lb"));
        process.current_dir(&self.folder).args([command, "-o", "json", "--pin-path"]).arg(&self.place.path);
        process.args(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and returns what it printed.
    fn json(&self, command: &str, arguments: &[&str]) -> serde_json::Value {
        let output = self.run(command, arguments);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command that must fail with this code, and returns its complaint.
    fn refusal(&self, code: i32, command: &str, arguments: &[&str]) -> String {
        let output = self.run(command, arguments);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{complaint}");
        complaint
    }
}

#[test]
fn loads_without_interfaces_and_again_with_them_and_unloads() {
    let Some(commands) = Commands::new() else { return };
    let _net = Net::new();
    let first = commands.json("load", &["--config", "lb.toml", "--no-attach"]);
    assert_eq!(
        (&first["adopted"], &first["vips"], &first["targets"]),
        (&false.into(), &1.into(), &2.into()),
        "{first}"
    );
    assert_eq!(first["interfaces"], serde_json::json!([]));
    assert!(first["verified_instructions"].as_u64().is_none_or(|count| count < 200_000), "{first}");
    assert_eq!(commands.place.id("prog", "prog"), first["program"].as_u64().unwrap());
    let second = commands.json("load", &["--config", "lb.toml"]);
    assert_eq!((&second["adopted"], &second["writes"]), (&true.into(), &0.into()), "{second}");
    assert_eq!(second["interfaces"], serde_json::json!([{ "interface": "lbx0", "mode": "native" }]));
    let done = commands.json("unload", &[]);
    assert_eq!(done["detached"], serde_json::json!(["lbx0"]));
    assert!(!commands.place.path.exists());
    assert_eq!(commands.json("unload", &[])["removed"], serde_json::json!([]));
}

#[test]
fn refuses_and_leaves_what_was() {
    let Some(commands) = Commands::new() else { return };
    let _net = Net::new();
    commands.write(&CONFIG.replace("lbx0", "nosuch"));
    let complaint = commands.refusal(1, "load", &["--config", "lb.toml"]);
    assert!(complaint.contains("no interface nosuch") && complaint.contains("lbx1"), "{complaint}");
    assert!(!commands.place.path.exists(), "what could not be bound is not left behind");
    commands.write("version = 2");
    commands.refusal(3, "load", &["--config", "lb.toml"]);
    commands.write(CONFIG);
    let kernel = commands.place.open();
    for (command, arguments) in [("load", &["--config", "lb.toml"][..]), ("unload", &[])] {
        let complaint = commands.refusal(1, command, arguments);
        assert!(complaint.contains(&std::process::id().to_string()), "{complaint}");
    }
    drop(kernel);
    commands.json("unload", &[]);
}

#[test]
fn without_a_daemon_lists_and_counters_are_read_from_the_tables() {
    let Some(commands) = Commands::new() else { return };
    let nobody = commands.folder.path().join("nobody.sock").display().to_string();
    let ask = |line: &str| {
        let mut words = line.split(' ').map(|word| word.replace('_', " "));
        let command = words.next().unwrap();
        let rest: Vec<String> = words.chain(["--api".into(), nobody.clone()]).collect();
        commands.run(&command, &rest.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for line in ["status", "stats", "vip list", "vip show web", "backend list", "backend show web-1"] {
        let output = ask(line);
        let complaint = String::from_utf8(output.stderr).unwrap();
        let expected = format!(
            "lb: nothing is loaded at {} and no daemon answers on {nobody}; start one: `lb run --config FILE`\n",
            commands.place.path.display()
        );
        assert_eq!((output.status.code(), complaint), (Some(1), expected), "{line}");
    }
    let reload = || String::from_utf8(ask("reload").stderr).unwrap();
    let at = commands.place.path.display();
    assert!(reload().contains(&format!("lb: nothing is loaded at {at} either; start a daemon")), "{}", reload());
    commands.json("load", &["--config", "lb.toml", "--no-attach"]);
    assert!(reload().starts_with(&format!("lb: no daemon answers on {nobody}: ")), "{}", reload());
    assert!(reload().contains(&format!("lb: what is pinned at {at} forwards on; `lb status`")), "{}", reload());
    let told = |line: &str| {
        let output = ask(line);
        let notes = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {notes}");
        let note =
            format!("! this is read from the tables: no daemon answers on {nobody}, so nobody checks backends\n");
        assert_eq!(notes, note, "{line}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let vips = told("vip list");
    assert_eq!((&vips[0]["name"], &vips[0]["backends"]), (&"192.0.2.10:443 tcp".into(), &2.into()), "{vips}");
    let vip = told("vip show 192.0.2.10:443_tcp");
    assert_eq!(vip["members"].as_array().unwrap().len(), 2, "{vip}");
    let backends = told("backend list");
    assert_eq!((&backends[0]["name"], &backends[0]["state"]), (&"10.0.0.11".into(), &"serving".into()), "{backends}");
    for unknown in ["weight", "share", "admin_state", "up"] {
        assert!(backends[0][unknown].is_null(), "{unknown}: {backends}");
    }
    assert_eq!(told("backend show 2001:db8::12").as_array().unwrap().len(), 1);
    assert_eq!(told("stats")["flows"]["capacity"], 4096);
    let complaint = String::from_utf8(ask("vip show web").stderr).unwrap();
    assert!(complaint.contains("no vip web; there are: \"192.0.2.10:443 tcp\""), "{complaint}");
    commands.json("unload", &[]);
}

/// [`CONFIG`] in a network where nobody answers for the first backend, and whose socket lies in `folder`.
fn unanswered(folder: &Path) -> String {
    run("ip", &["address", "add", "10.0.0.1/24", "dev", "lbx0"]);
    let more = format!(
        "{}[pool.web.health]\ntype = \"tcp\"\nprobe = \"direct\"\nport = 80\ntimeout = \"5s\"\ninterval = \"5s\"\n[[vip]]",
        files_of_daemon(folder)
    );
    CONFIG.replace("next_hop = \"02:00:00:00:00:01\"\n", "").replace("[[vip]]", &more)
}

#[test]
fn load_says_of_a_silent_backend_that_nobody_tries_it_again() {
    let Some(commands) = Commands::new() else { return };
    let _net = Net::new();
    commands.write(&unanswered(commands.folder.path()));
    let mut load = Command::new(env!("CARGO_BIN_EXE_lb"));
    load.current_dir(&commands.folder).arg("--pin-path").arg(&commands.place.path);
    let output = load.args(["load", "--no-attach", "--config", "lb.toml"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("10.0.0.11 on lbx0 does not answer"), "{said}");
    assert!(said.ends_with("\nnobody tries these again; `lb run` does\n"), "{said}");
    commands.json("unload", &[]);
}

#[test]
fn a_daemon_that_is_stopped_before_its_first_state_leaves_nothing() {
    let Some(commands) = Commands::new() else { return };
    let _net = Net::new();
    commands.write(&unanswered(commands.folder.path()));
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_lb"));
    daemon.current_dir(&commands.folder).arg("--pin-path").arg(&commands.place.path);
    let mut daemon = daemon.args(["run", "--config", "lb.toml"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(daemon.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("attached")), "it ended early");
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    let rest: Vec<String> = log.collect();
    assert!(daemon.wait().unwrap().success());
    let last = rest.last().unwrap();
    assert!(last.contains("stopped before anything was served; what was set up is taken down again"), "{rest:?}");
    assert!(!commands.place.path.exists(), "pins are left");
}

#[test]
fn puts_decap_on_and_off() {
    let Some(commands) = Commands::new() else { return };
    let _net = Net::new();
    let done = commands.json("decap", &["--interface", "lbx0", "--address", "10.0.0.11"]);
    assert_eq!((&done["mode"], &done["addresses"]), (&"native".into(), &serde_json::json!(["10.0.0.11"])));
    assert_eq!((&done["gue_port"], &done["allowed_sources"]), (&6080.into(), &serde_json::json!([])));
    let options =
        ["--address", "fd00::11", "--gue-port", "7000", "--allow-source", "10.1.0.0/16", "--allow-source", "::1"];
    commands.json("decap", &[&["--interface", "lbx0"][..], &options].concat());
    let shown = commands.json("decap", &["--interface", "lbx0", "--show"]);
    assert_eq!((&shown["gue_port"], &shown["addresses"]), (&7000.into(), &serde_json::json!(["fd00::11"])));
    assert_eq!(shown["allowed_sources"], serde_json::json!(["10.1.0.0/16", "::1/128"]));
    assert_eq!((&shown["counters"]["gue_unwrapped_v6"], &shown["counters"]["foreign_source"]), (&0.into(), &0.into()));
    assert_eq!(commands.json("decap", &["--interface", "lbx0", "--remove"])["removed"], true);
    assert_eq!(commands.json("decap", &["--interface", "lbx0", "--remove"])["removed"], false);
    commands.refusal(1, "decap", &["--interface", "lbx0", "--show"]);
    for wrong in [
        &["--remove"][..],
        &["--interface", "lbx0", "--remove", "--gue-port", "7000"],
        &["--interface", "lbx0", "--gue-port", "0"],
        &["--interface", "lbx0", "--allow-source", "10.0.0.1/8"],
        &["--interface", "lbx0", "--address", "0.0.0.0"],
    ] {
        commands.refusal(64, "decap", wrong);
    }
}

#[test]
fn makes_nothing_without_capabilities() {
    let Some(commands) = Commands::new() else { return };
    let _net = Net::new();
    for arguments in [&["decap", "--interface", "lbx0", "--address", "10.0.0.11"][..], &["load", "--config", "lb.toml"]]
    {
        let mut process = Command::new("setpriv");
        process.args(["--bounding-set=-bpf,-perfmon,-sys_admin,-net_admin", env!("CARGO_BIN_EXE_lb")]);
        process.current_dir(&commands.folder).arg("--pin-path").arg(&commands.place.path).args(arguments);
        let output = process.output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        assert!(complaint.contains("lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN"), "{complaint}");
        assert!(!commands.place.path.exists(), "{arguments:?} made a folder");
    }
}

#[test]
fn a_daemon_whose_log_nobody_reads_any_more_goes_on() {
    let Some(commands) = Commands::new() else { return };
    let socket = commands.folder.path().join("lb.sock").display().to_string();
    let quiet = format!("{}[pool.web]", files_of_daemon(commands.folder.path()));
    commands.write(&CONFIG.replace("[\"lbx0\"]", "[]").replace("[pool.web]", &quiet));
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_lb"));
    daemon.current_dir(&commands.folder).arg("--pin-path").arg(&commands.place.path);
    let mut daemon = daemon.args(["run", "--config", "lb.toml"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(daemon.stderr.take());
    let applied = || {
        let output = commands.run("status", &["--api", &socket]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        status["applied"].as_u64()
    };
    for _ in 0..200 {
        if applied() == Some(1) {
            break;
        }
        assert_eq!(daemon.try_wait().unwrap(), None, "it ended");
        sleep(Duration::from_millis(50));
    }
    assert_eq!(applied(), Some(1));
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    commands.json("unload", &[]);
}

#[test]
fn a_daemon_that_is_refused_leaves_every_interface_attached_and_the_tables_as_they_are() {
    let Some(commands) = Commands::new() else { return };
    let _net = Net::new();
    commands.write(&CONFIG.replace("[\"lbx0\"]", "[\"lbx0\", \"lbx1\"]"));
    let loaded = commands.json("load", &["--config", "lb.toml"]);
    assert_eq!(loaded["interfaces"].as_array().unwrap().len(), 2, "{loaded}");
    let vip = |n: u8| {
        format!("[[vip]]\nname = \"v{n}\"\naddress = \"192.0.2.{n}\"\nport = 1\nprotocol = \"udp\"\npool = \"web\"\n")
    };
    // More than the tables have room for, and an interface that is not there.
    let vips: String = (20..80).map(vip).collect();
    let config = CONFIG.replace("[\"lbx0\"]", "[\"lbx0\", \"nosuch\"]");
    let quiet = format!("{}[pool.web]", files_of_daemon(commands.folder.path()));
    commands.write(&format!("{}{vips}", config.replace("[pool.web]", &quiet)));
    let complaint = commands.refusal(1, "run", &["--config", "lb.toml"]);
    assert!(complaint.contains("no interface nosuch"), "{complaint}");
    let done = commands.json("unload", &[]);
    assert_eq!(done["detached"], serde_json::json!(["lbx0", "lbx1"]));
}
