use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Output},
    thread,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use super::*;

fn dry_run(arguments: &[String]) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/pktgen/pktgen.sh");
    Command::new("sh").arg(script).args(arguments).arg("--dry-run").output().expect("a shell")
}

#[test]
fn has_the_script_send_the_flows_by_all_queues() {
    let arguments = arguments(&[0, 3], &Traffic::new(128, 4096), Amount::Time(Duration::from_millis(50)));
    let told = dry_run(&arguments);
    assert!(told.status.success(), "{told:?}");
    let told = String::from_utf8(told.stdout).expect("text");
    let lines: Vec<&str> = told.lines().collect();
    let position =
        |line: &str| lines.iter().position(|one| *one == line).unwrap_or_else(|| panic!("{line} in\n{told}"));
    for line in [
        "add_device near0@3 > /proc/net/pktgen/kpktgend_3",
        "pkt_size 128 > /proc/net/pktgen/near0@0",
        "dst 10.200.0.1 > /proc/net/pktgen/near0@0",
        "dst_mac 02:00:00:00:00:02 > /proc/net/pktgen/near0@0",
        // 2,048 flows each, of 1,024 ports and 2 sources, of which the last is never drawn.
        "src_min 10.1.0.1 > /proc/net/pktgen/near0@0",
        "src_max 10.1.0.3 > /proc/net/pktgen/near0@0",
        "src_min 10.2.0.1 > /proc/net/pktgen/near0@3",
        "udp_src_max 2048 > /proc/net/pktgen/near0@3",
        "queue_map_min 1 > /proc/net/pktgen/near0@3",
        "flag IPSRC_RND > /proc/net/pktgen/near0@3",
    ] {
        position(line);
    }
    assert_eq!(lines.first(), Some(&"flows: 4096, of 1024 ports and 2 sources by each CPU"));
    let order = ["start > /proc/net/pktgen/pgctrl", "sleep 0.050", "stop > /proc/net/pktgen/pgctrl"].map(position);
    assert!(order.is_sorted(), "{told}");
    assert_eq!(lines.last(), Some(&"rem_device_all > /proc/net/pktgen/kpktgend_3"));
}

#[test]
fn the_script_refuses_what_pktgen_would_misunderstand() {
    let good = ["--interface", "eth0", "--to", "192.0.2.1", "--mac", "02:00:00:00:00:01"];
    let with = |more: &[&str]| dry_run(&[&good, more].concat().iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(with(&[]).status.success());
    for bad in [
        ["--to", "192.0.2"],
        ["--to", "192.0.2.256"],
        ["--to", "192.0.2.1.1"],
        ["--from", "::1"],
        ["--mac", "02:00:00:00:00"],
        ["--flows", "1000"],
        ["--flows", "0"],
        ["--size", "59"],
        ["--port", "65536"],
        ["--cpus", "0,x"],
        ["--cpus", ""],
        ["--seconds", "1s"],
        ["--count", "0"],
        ["--rate", "99999999999999999999"],
        // A shell takes these for octal numbers.
        ["--flows", "02000"],
        ["--size", "0128"],
        ["--cpus", "00"],
        ["--to", "192.0.02.1"],
        ["--colour", "red"],
    ] {
        let told = with(&bad);
        assert_eq!(told.status.code(), Some(64), "{bad:?}: {told:?}");
    }
}

#[test]
fn reads_what_the_script_tells() {
    let sent =
        total("near0@0: sent 10 packets, 0 errors, in 5 us\ntotal: sent 12345 packets, 6 errors, in 500123 us\n");
    let sent = sent.expect("a total");
    assert_eq!((sent.packets, sent.time), (12_345, Duration::from_micros(500_123)));
    assert!(total("near0@0: sent 10 packets, 0 errors, in 5 us\n").is_none());
    assert!(total("total: sent x packets, 6 errors, in 500123 us\n").is_none());
}

#[test]
fn the_script_tells_how_many_flows_there_are() {
    let told = |flows: u32, cpus: &[usize]| {
        let told = dry_run(&arguments(cpus, &Traffic::new(64, flows), Amount::Packets(1)));
        String::from_utf8(told.stdout).expect("text").lines().next().map(str::to_owned)
    };
    assert_eq!(told(1024, &[0]).as_deref(), Some("flows: 1024, of 1024 ports and 1 sources by each CPU"));
    assert_eq!(told(4096, &[0, 1, 2]).as_deref(), Some("flows: 3072, of 1024 ports and 1 sources by each CPU"));
    assert_eq!(told(2, &[0, 1, 2]).as_deref(), Some("flows: 3, of 1 ports and 1 sources by each CPU"));
}

/// What stands for the kernel's side: its threads see `start` only after a tenth of a second, and forget what they were told
/// to before. Writing `start` returns when they have stopped.
const KERNEL: &str = r#"put() {
    echo "$1 $2" >>"$PROC/log"
    case "$1 $2" in
        "pgctrl start")
            sleep 0.1
            rm -f "$PROC/stop"
            echo "Running: eth0@0 " >"$PROC/kpktgend_0"
            echo running >>"$PROC/log"
            until [ -e "$PROC/stop" ]; do sleep 0.01; done
            printf 'Params: count 0\n     pkts-sofar: 1234  errors: 5\n     started: 1000us  stopped: 51000us\n' >"$PROC/eth0@0"
            ;;
        "pgctrl stop") : >"$PROC/stop" ;;
        *" dst 0.0.0.0") echo "Result: no such place" >"$PROC/$1" && return 1 ;;
    esac
}"#;

/// Runs the script over a folder that stands for pktgen's.
fn start(shell: &str, folder: &TempDir, more: &[&str]) -> Child {
    let put = r#"put() { echo "$2" >"$PROC/$1"; } # file text"#;
    let place = "PROC=/proc/net/pktgen";
    assert!(SCRIPT.contains(put) && SCRIPT.contains(place), "nothing to replace");
    for file in ["pgctrl", "kpktgend_0", "log"] {
        fs::write(folder.path().join(file), "").expect("a file");
    }
    let script = SCRIPT.replace(put, KERNEL).replace(place, &format!("PROC={}", folder.path().display()));
    let mut command = Command::new(shell);
    command.args(["-c", &script, shell]);
    command.args(["--interface", "eth0", "--to", "192.0.2.1", "--mac", "02:00:00:00:00:01"]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().expect("a shell")
}

/// Its output, if it ends. What it left to run is ended, and is not waited for.
fn ended(mut child: Child) -> Output {
    let begun = Instant::now();
    let mut ends = true;
    while ends && child.try_wait().expect("a child").is_none() {
        ends = begun.elapsed() < Duration::from_secs(10);
        thread::sleep(Duration::from_millis(5));
    }
    // Mostly there is nothing left.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let output = child.wait_with_output().expect("it ended");
    assert!(ends, "the script does not end: {output:?}");
    output
}

/// Shells that there are: the script is for any.
fn shells() -> impl Iterator<Item = &'static str> {
    let is_there = |shell: &&str| Command::new(shell).args(["-c", ":"]).status().is_ok_and(|ended| ended.success());
    ["sh", "dash", "bash"].into_iter().filter(is_there)
}

#[test]
fn a_stop_right_after_the_start_is_not_lost() {
    for shell in shells() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = ended(start(shell, &folder, &["--seconds", "0.01"]));
        let told = String::from_utf8_lossy(&output.stdout);
        let sent = total(&told).unwrap_or_else(|| panic!("{shell}: {output:?}"));
        assert_eq!((sent.packets, sent.time), (1234, Duration::from_millis(50)), "{shell}");
        let log = fs::read_to_string(folder.path().join("log")).expect("a log");
        let position = |line: &str| log.lines().position(|one| one == line);
        assert!(position("running") < position("pgctrl stop"), "{shell}: the time is that of sending: {log}");
        assert_eq!(log.lines().last(), Some("kpktgend_0 rem_device_all"), "{shell}");
    }
}

#[test]
fn an_interrupted_script_stops_what_it_started() {
    for shell in shells() {
        // Before threads have begun, and after.
        for begun in ["pgctrl start", "running"] {
            let folder = tempfile::tempdir().expect("a folder");
            let child = start(shell, &folder, &["--seconds", "1000"]);
            let log = || fs::read_to_string(folder.path().join("log")).expect("a log");
            let waited = Instant::now();
            while !log().lines().any(|line| line == begun) {
                assert!(waited.elapsed() < Duration::from_secs(10), "{shell}: {}", log());
                thread::sleep(Duration::from_millis(1));
            }
            kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
            let output = ended(child);
            assert_eq!(output.status.code(), Some(130), "{shell}: {output:?}");
            assert_eq!(log().lines().last(), Some("kpktgend_0 rem_device_all"), "{shell}: {}", log());
            assert!(folder.path().join("eth0@0").exists(), "{shell}: it was not waited for");
        }
    }
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = ended(start("sh", &folder, &["--to", "0.0.0.0"]));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("pktgen refuses 'dst 0.0.0.0'") && message.contains(": no such place"), "{message}");
    assert!(!output.status.success());
}
