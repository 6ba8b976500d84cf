//! The whole program, once, quickly: what it prints, writes and leaves, not how fast anything is.

use std::{
    collections::BTreeSet,
    env,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use bench::{
    lab::Stop,
    machine,
    record::{REFERENCE, Record, Row, VALUE},
    wire::{Contender, Generator, Makes, Mode, Plan, QueueWatch, Site, Traffic, measure},
};
use netns_tests::{balancer, leftovers, scenario::is_root};
use rustix::process::{Pid, Signal, kill_process};

/// As few and short turns as there can be.
const QUICK: [&str; 8] = ["--rounds", "1", "--seconds", "0.05", "--sizes", "64,1500", "--queues", "1"];

/// Runs it with the `lb` that tests use, or says why not.
fn wire(arguments: &[&str]) -> Option<Output> {
    is_root().then(|| command(arguments).output().expect("wire starts"))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wire"));
    command.args(arguments).env("LB_BIN", balancer::binary().expect("an lb"));
    command
}

#[test]
fn counts_what_each_way_brings_back_over_the_wire() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("figures.json");
    let more = ["--generator", "live", "--json", json.to_str().expect("text")];
    let Some(output) = wire(&[&QUICK[..], &more].concat()) else { return };
    let told = String::from_utf8_lossy(&output.stdout);
    // How fast lb is, and so whether it reaches the goal, is no matter here. What it makes of packets, wire looks at itself.
    assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
    let record = Record::read(&json).unwrap_or_else(|error| panic!("{error:#}\n{told}\n{output:?}"));
    let mut found = BTreeSet::new();
    for row in &record.rows {
        let text = |name: &str| row.text(name).expect("text");
        found.insert((text("figure"), text("program"), text("mode"), row.number("frame_bytes")));
        assert_eq!(row.samples[VALUE].len(), 1, "{row:?}");
        assert!(row.value() > 0.0, "{row:?}");
        if text("figure") == "rate" {
            assert!(row.samples["offered"][0] >= row.value() * 0.999, "more than was sent: {row:?}");
            assert!((0.0..=100.0).contains(&row.samples["lost"][0]), "{row:?}");
            assert_eq!(row.samples.contains_key(REFERENCE), text("program") != "xdp_tx", "{row:?}");
        }
    }
    for (program, mode) in
        [("xdp_tx", "native"), ("lb", "native"), ("xdp_tx", "generic"), ("lb", "generic"), ("forwarding", "stack")]
    {
        for bytes in [Some(64), Some(1500)] {
            assert!(found.contains(&("rate", program, mode, bytes)), "{program} {mode} in {found:?}");
            let compared = found.contains(&("of-xdp-tx", program, mode, bytes));
            assert_eq!(compared, program != "xdp_tx", "{program} {mode}");
            let line = told.lines().any(|line| line.contains(&format!("{program} ")) && line.contains(mode));
            assert!(line, "{program} {mode} in\n{told}");
        }
    }
    assert!(record.about.method.contains_key("ipvs") != found.iter().any(|row| row.1 == "ipvs"), "{told}");
}

#[test]
fn tells_packets_in_tunnels_from_others() {
    if !is_root() {
        return;
    }
    let site = Site::build(1).expect("a site");
    let mut generator = Generator::live(&site).expect("a generator");
    let binary = balancer::binary().expect("an lb");
    let (traffic, plan) = (Traffic::new(100, 64), Plan { rounds: 1, time: Duration::from_millis(50) });
    let mut watch = QueueWatch::start(&site.cpus).expect("its CPUs");
    let mut run = |contender: Contender| {
        let mut all = [contender];
        let stop = Stop::default();
        measure(&site, &mut generator, &mut all, (&traffic, plan), (&mut watch, &stop))
    };
    let lb = || Contender::lb(&site, &binary, Mode::Native).expect("lb loads");
    let before = site.arrived().expect("counters");
    let samples = run(lb()).expect("it wraps every packet");
    let arrived = site.arrived().expect("counters");
    assert_eq!((arrived.plain - before.plain, arrived.others), (0, 0));
    // Verification and warm-up are counted too.
    assert!(arrived.wrapped - before.wrapped > samples[0][0].arrived, "{arrived:?} {samples:?}");
    assert_eq!(arrived.bytes - before.bytes, 120 * (arrived.wrapped - before.wrapped), "20 bytes more each");
    let mut taken_for_plain = lb();
    taken_for_plain.makes = Makes::Plain;
    let error = run(taken_for_plain).expect_err("no packet comes as it went").to_string();
    assert_eq!(error, "lb (native): 0 packets came back as they were, 128 in tunnels");
}

#[test]
fn leaves_nothing_when_it_is_interrupted() {
    if !is_root() {
        return;
    }
    let long = ["--rounds", "1000", "--sizes", "64", "--queues", "1", "--mode", "native", "--generator", "live"];
    for signal in [Signal::INT, Signal::TERM] {
        let child = command(&long).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("wire starts");
        let lab = format!("lbtest-{}", child.id());
        let far = Path::new("/run/netns").join(format!("{lab}-bench-wire-far"));
        // From then on there is more to take away than namespaces.
        let has_program = || {
            let mut show = Command::new("nsenter");
            let shown = show.arg(format!("--net={}", far.display())).args(["ip", "link", "show", "eth0"]).output();
            String::from_utf8_lossy(&shown.expect("nsenter").stdout).contains("prog/xdp")
        };
        let begun = Instant::now();
        while !has_program() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not begin");
            thread::sleep(Duration::from_millis(10));
        }
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains("interrupted"), "{signal:?}: {output:?}");
        assert_eq!(leftovers::of(&lab), Vec::<String>::new());
    }
}

#[test]
fn names_what_is_missing() {
    let Some(output) = wire(&["--pin", "lb=/sys/fs/bpf/no-such-pin", "--queues", "1"]) else { return };
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("more than one program is called lb"), "{message}");
    let output = wire(&["--pin", "nothing=/sys/fs/bpf/no-such-pin", "--queues", "1"]).expect("root");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("/sys/fs/bpf/no-such-pin"), "{message}");
    let output = wire(&["--queues", "64"]).expect("root");
    let message = String::from_utf8_lossy(&output.stderr);
    let cpus = machine::cpus().expect("CPUs").len();
    assert!(cpus >= 64 || message.contains("ask for fewer with --queues"), "{message}");
}

#[test]
fn sends_by_pktgen_where_the_kernel_has_it() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("figures.json");
    let least = ["--rounds", "1", "--seconds", "0.05", "--sizes", "64", "--queues", "1", "--mode", "native"];
    let mut command =
        command(&[&least[..], &["--generator", "pktgen", "--json", json.to_str().expect("text")]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("wire starts");
    let begun = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begun.elapsed() > Duration::from_mins(1) {
            // With the namespace goes what pktgen sends from it.
            kill_process(Pid::from_child(&child), Signal::KILL).expect("it runs");
            child.wait().expect("it ends");
            leftovers::sweep();
            panic!("pktgen does not come to an end");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("it ended");
    let message = String::from_utf8_lossy(&output.stderr);
    if message.contains("CONFIG_NET_PKTGEN") {
        eprintln!("skipped: this kernel has no pktgen");
        return;
    }
    assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
    let rows = Record::read(&json).expect("results").rows;
    for program in ["xdp_tx", "lb", "forwarding"] {
        let is_rate = |row: &&Row| row.text("figure") == Some("rate") && row.text("program") == Some(program);
        let row = rows.iter().find(is_rate).unwrap_or_else(|| panic!("no rate of {program}: {rows:?}"));
        assert!(row.text("generator") == Some("pktgen") && row.value() > 0.0, "{row:?}");
    }
}
