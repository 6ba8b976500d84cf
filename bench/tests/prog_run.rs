//! The whole program, once, quickly: what it prints and writes, not how fast anything is.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command, Output, Stdio},
    time::Duration,
};

use aya::{Ebpf, programs::Xdp};
use bench::{
    machine::Watch,
    measure::{Contender, Task, measure},
    replay::Replay,
    workload::{Action, Case, Verdict},
};
use bench_xdp::BARE_TX;
use netns_tests::leftovers::BPFFS;
use serde_json::Value;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench-xdp.o"));

/// Runs it, or says why not.
fn prog_run(arguments: &[&str]) -> Option<Output> {
    is_root().then(|| Command::new(env!("CARGO_BIN_EXE_prog-run")).args(arguments).output().expect("prog-run starts"))
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root may load XDP programs");
    }
    root
}

#[test]
fn prints_and_writes_a_row_for_each_packet_and_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("figures.json");
    let arguments = [
        "--case",
        "hit,echo,hit",
        "--rounds",
        "2",
        "--chunks",
        "4",
        "--patience",
        "0",
        "--json",
        json.to_str().expect("text"),
    ];
    let Some(output) = prog_run(&arguments) else { return };
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));

    let packets =
        ["udp4", "tcp4-ack", "udp6", "tcp6-ack", "udp4to6", "tcp4to6-ack", "udp4-1400B", "icmp4-echo", "icmp6-echo"];
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("a file")).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    let of = |row: &Value, field: &str| row["what"][field].as_str().unwrap().to_owned();
    let found: BTreeSet<(String, String)> = rows.iter().map(|row| (of(row, "packet"), of(row, "program"))).collect();
    for packet in packets {
        let floor = if packet.contains('6') { "constant_ipv6" } else { "constant_ipv4" };
        for program in ["bare_tx", floor, "lb"] {
            assert!(found.contains(&(packet.to_owned(), program.to_owned())), "{packet} {program} in {found:?}");
            let line = text.lines().find(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.get(1) == Some(&packet) && words.get(3) == Some(&program)
            });
            assert!(line.is_some(), "{packet} {program} in\n{text}");
        }
    }
    assert_eq!(rows.len(), 3 * packets.len());
    for row in rows {
        let figure = |name: &str| row["summary"][name].as_f64().unwrap();
        assert!(figure("raw") > 1.0 && figure("null") > 1.0, "{row}");
        assert!((figure("raw") - figure("null") - figure("value")).abs() < 0.02, "{row}");
        for series in ["value", "median", "reference", "quiet"] {
            assert_eq!(row["samples"][series].as_array().unwrap().len(), 2, "{series} of {row}");
        }
    }
    for key in ["benchmark", "time", "machine", "commit", "method"] {
        assert!(!report["about"][key].is_null(), "{key}");
    }
}

#[test]
fn leaves_no_pins() {
    if !is_root() {
        return;
    }
    let arguments = ["--case", "not-a-vip", "--packet", "nonvip-udp4", "--rounds", "1", "--chunks", "1"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_prog-run"));
    let child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let pid = child.id().to_string();
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for entry in fs::read_dir(BPFFS).expect("a BPF file system") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        assert!(name.split('-').all(|part| part != pid), "{name}");
    }
}

/// Removed when dropped.
struct Pinned(PathBuf);

impl Drop for Pinned {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("it is there");
    }
}

#[test]
fn a_pinned_program_takes_part_where_the_config_is_plain_and_it_does_the_same() {
    if !is_root() {
        return;
    }
    let mut programs = Ebpf::load(OBJECT).expect("programs of ours");
    let bare: &mut Xdp = programs.program_mut(BARE_TX).expect("a baseline").try_into().expect("an XDP program");
    bare.load().expect("it loads");
    let pin = Pinned(Path::new(BPFFS).join(format!("lbtest-{}-bench-bare", process::id())));
    bare.pin(&pin.0).expect("a BPF file system");
    let named = format!("bare={}", pin.0.display());
    let arguments = ["--case", "echo,not-a-vip,vips", "--packet", "icmp4-echo,nonvip-udp4,gue4", "--pin", &named];
    let quick = ["--rounds", "1", "--chunks", "1", "--patience", "0"];
    let output = prog_run(&[&arguments[..], &quick].concat()).expect("root");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let took_part = |packet: &str| told.lines().any(|line| line.contains(packet) && line.contains(" bare "));
    assert!(took_part("icmp4-echo") && told.contains(" gue4 "), "{told}");
    assert!(!took_part("nonvip-udp4") && !took_part("gue4"), "{told}");
    assert!(told.contains("# left out: bare, packet nonvip-udp4: tx+0 instead of pass+0"), "{told}");
}

#[test]
fn names_a_pin_that_is_not_there() {
    let Some(output) = prog_run(&["--pin", "nothing=/sys/fs/bpf/no-such-pin"]) else { return };
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("/sys/fs/bpf/no-such-pin"), "{message}");
    let output = prog_run(&["--pin", "bare_tx=/sys/fs/bpf/no-such-pin"]).expect("root");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("more than one program is called bare_tx"), "{message}");
}

#[test]
fn measures_no_program_that_does_something_else() {
    if !is_root() {
        return;
    }
    let mut replay = Replay::load().expect("the replaying program loads");
    let subject = replay.baseline(BARE_TX).expect("a baseline");
    let workload = &Case::Hit.workloads()[0];
    let task = Task { workload, flows: 1, rounds: 1, chunks: 1, patience: Duration::ZERO };
    let mut measured =
        |expected| measure(&mut replay, &mut Watch::start(), &task, &[Contender { subject: &subject, expected }]);
    let error = measured(workload.expected).expect_err("it does not encapsulate").to_string();
    assert_eq!(error, "bare_tx, packet udp4: tx+0 instead of tx+20");
    let figures = measured(Verdict { action: Action::Tx, grown: 0 }).expect("that is what it does");
    assert_eq!(figures.len(), 1);
}
