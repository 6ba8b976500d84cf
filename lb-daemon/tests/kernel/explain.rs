//! `lb explain`, `lb flow` and `lb ring` as processes, with a daemon and without one.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::place::{Net, Place};

const CLIENT: &str = "198.51.100.7:51000";
const VIP: &str = "192.0.2.10:443";

fn config(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"
version = 1
[dataplane]
interfaces = ["lbx0"]
next_hop = "02:00:00:00:00:01"
flow_table_entries = 4096
ring_size = 251
deny = ["203.0.113.0/24"]
[daemon]
state_dir = "{folder}/state"
[api]
socket = "{folder}/lb.sock"
[metrics]
listen = "off"
[pool.web]
backends = [{{ name = "web-1", address = "10.0.0.11" }}, {{ name = "web-2", address = "2001:db8::12" }}]
[[vip]]
name = "web"
address = "192.0.2.10"
port = 443
protocol = "tcp"
pool = "web"
[[vip]]
name = "dns-six"
address = "2001:db8::10"
port = 53
protocol = "udp"
pool = "web"
"#
    )
}

/// A loaded balancer, with a daemon if one was started.
struct Lab {
    place: Place,
    folder: tempfile::TempDir,
    daemon: Option<Child>,
    _net: Net,
}

impl Lab {
    fn new() -> Option<Self> {
        let lab = Self { place: Place::new()?, folder: tempfile::tempdir().unwrap(), daemon: None, _net: Net::new() };
        std::fs::write(lab.folder.path().join("lb.toml"), config(lab.folder.path())).unwrap();
        let output = lab.run(&["load", "--config", "lb.toml"]);
        assert!(output.status.success(), "{output:?}");
        Some(lab)
    }

    fn socket(&self) -> String {
        self.folder.path().join("lb.sock").display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut process = Command::new(env!("CARGO_BIN_EXE_lb"));
        process.current_dir(&self.folder).args(arguments).arg("--pin-path").arg(&self.place.path);
        if !["load", "unload", "run"].contains(&arguments[0]) {
            process.args(["--api", &self.socket()]);
        }
        process
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn start_daemon(&mut self) {
        let daemon = self.command(&["run", "--config", "lb.toml"]).stderr(Stdio::null()).spawn().unwrap();
        self.daemon = Some(daemon);
        for _ in 0..200 {
            let status = self.run(&["status", "-o", "json"]);
            let status: Option<Value> = serde_json::from_slice(&status.stdout).ok();
            if status.is_some_and(|status| status["pid"].is_u64() && status["generation"] != 0) {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("the daemon does not serve");
    }

    /// What a command says that must succeed, in words.
    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same in JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[arguments, &["-o", "json"]].concat())).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = kill_process(Pid::from_child(&daemon), Signal::TERM);
            let _ = daemon.wait();
        }
        self.run(&["unload"]);
    }
}

/// What holds with a daemon and without one; the VIP's and a backend's name by which it is asked.
fn demand(lab: &Lab, vip: &str, backends: [&str; 2]) {
    let told = lab.json(&["explain", "tcp", CLIENT, VIP]);
    assert_eq!(
        (&told["verdict"], &told["action"], &told["vip"]),
        (&"forwarded".into(), &"tx".into(), &vip.into()),
        "{told}"
    );
    let backend = told["backend"].as_str().unwrap();
    assert!(backends.contains(&backend), "{told}");
    let (slot, stages) = (told["stages"]["ring"]["slot"].as_u64().unwrap(), &told["stages"]);
    let why = told["why"].as_str().unwrap();
    assert!(why.contains(&format!("slot {slot} of 251 of vip {vip} leads there")), "{why}");
    assert_eq!((&stages["flow"]["result"], &stages["flow"]["remembered"]), (&"miss".into(), &true.into()), "{told}");
    assert_eq!(stages["next_hop"]["mac"], "02:00:00:00:00:01");
    assert_eq!(stages["outer"]["destination"], told["address"]);
    assert_eq!(stages["access"][0]["list"], "all vips");
    assert_eq!(told["opening"]["stages"]["flow"]["becomes"]["state"], "half_open", "{told}");
    let text = lab.text(&["explain", "tcp", CLIENT, VIP]);
    assert!(text.contains(&format!("\n{why}\n")) && text.contains("a SYN of this tuple: likewise"), "{text}");

    let denied = lab.json(&["explain", "tcp 203.0.113.9:7 192.0.2.10:443", "--flags", "S"]);
    assert_eq!((&denied["verdict"], &denied["opening"]), (&"denied".into(), &Value::Null), "{denied}");
    assert_eq!(denied["stages"]["access"][0]["prefix"], "203.0.113.0/24");
    let six = lab.json(&["explain", "udp", "[2001:db8::7]:51000", "[2001:db8::10]:53", "--vlan", "7"]);
    assert_eq!((&six["verdict"], &six["stages"]["packet"]["vlans"][0]), (&"forwarded".into(), &7.into()), "{six}");
    assert_eq!(lab.json(&["explain", "icmp", "198.51.100.7", "192.0.2.10"])["verdict"], "echo_replied");
    assert_eq!(lab.json(&["explain", "tcp", CLIENT, "192.0.2.10:80"])["verdict"], "not_vip");

    let ring = lab.json(&["ring", "show", vip, "--slots"]);
    let led = ring["slots"][usize::try_from(slot).unwrap()].as_u64().unwrap();
    assert_eq!(ring["backends"][usize::try_from(led).unwrap()]["address"], told["address"], "{slot}");
    assert_eq!((&ring["size"], ring["slots"].as_array().unwrap().len()), (&251.into(), 251));
    let unknown = lab.run(&["ring", "show", "none"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no vip none; there are:"), "{unknown:?}");

    // Nothing was remembered by all that.
    let flow = lab.run(&["flow", "show", "tcp", CLIENT, VIP, "-o", "json"]);
    let shown: Value = serde_json::from_slice(&flow.stdout).unwrap();
    assert_eq!((flow.status.code(), &shown["found"], &shown["vip"]), (Some(1), &false.into(), &vip.into()));
    let count = lab.json(&["flow", "count"]);
    assert_eq!((&count["entries"], &count["capacity"]), (&0.into(), &4096.into()));
    for arguments in [
        &["explain", "tcp", CLIENT][..],
        &["explain", "tcp", CLIENT, VIP, "--flags", "SX"],
        &["explain", "udp", CLIENT, VIP, "--flags", "S"],
        &["flow", "show", "sctp", CLIENT, VIP],
        &["explain"],
    ] {
        let output = lab.run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {output:?}");
    }
    let nowhere = lab.run(&["explain", "tcp", CLIENT, VIP, "--interface", "nosuch"]);
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("attached to lbx0"), "{nowhere:?}");
}

#[test]
fn packets_are_explained_alike_with_a_daemon_and_without() {
    let Some(mut lab) = Lab::new() else { return };
    demand(&lab, "192.0.2.10:443 tcp", ["10.0.0.11", "2001:db8::12"]);
    let before = lab.json(&["explain", "tcp", CLIENT, VIP]);
    let digests = lab.json(&["ring", "digest"]);
    lab.start_daemon();
    demand(&lab, "web", ["web-1", "web-2"]);
    let after = lab.json(&["explain", "tcp", CLIENT, VIP]);
    for same in ["address", "frame_out", "verdict", "leaves_by"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    let managed = lab.json(&["ring", "digest"]);
    assert_eq!(managed["digest"], digests["digest"]);
    assert_eq!(managed["vips"][1]["vip"], "dns-six");
    assert_eq!(lab.json(&["ring", "show", "dns-six"])["digest"], managed["vips"][1]["digest"]);
}

/// A pcap file with these frames.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0]);
    file.extend([0, 0, 262_144, 1].map(u32::to_le_bytes).as_flattened());
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        file.extend([0, 0, length, length].map(u32::to_le_bytes).as_flattened());
        file.extend(frame);
    }
    file
}

#[test]
fn each_packet_of_a_capture_gets_a_line() {
    let Some(mut lab) = Lab::new() else { return };
    let frame = |from: &str, to: &str| {
        let tuple: lb_daemon::explain::tuple::Tuple = format!("tcp {from} {to}").parse().unwrap();
        tuple.frame(2, &[]).unwrap()
    };
    let mut frames: Vec<Vec<u8>> = (1..600).map(|port| frame(&format!("198.51.100.7:{port}"), VIP)).collect();
    frames.push(frame("198.51.100.7:1", "192.0.2.99:80"));
    frames.push(vec![0xff; 20]);
    std::fs::write(lab.folder.path().join("a.pcap"), pcap(&frames)).unwrap();
    for _ in 0..2 {
        let told = lab.text(&["explain", "--pcap", "a.pcap", "-o", "json"]);
        let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 601);
        for (number, line) in (1_u64..).zip(&lines) {
            let verdict = match number {
                600 => "not_vip",
                601 => "not_ip",
                _ => "forwarded",
            };
            assert_eq!((line["number"].as_u64(), &line["verdict"]), (Some(number), &verdict.into()), "{line}");
        }
        let text = lab.text(&["explain", "--pcap", "a.pcap"]);
        assert!(text.starts_with(&format!("1 tcp 198.51.100.7:1 {VIP} S: forwarded ")), "{text:.200}");
        lab.daemon.is_none().then(|| lab.start_daemon());
    }
}
