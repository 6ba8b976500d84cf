//! The benchmarks of the running daemon, once, quickly: what they print, write and leave, not how fast anything is.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use bench::record::{Record, VALUE};
use netns_tests::{balancer, leftovers, scenario::is_root};
use rustix::process::{Pid, Signal, kill_process};

const CONTROL: &str = env!("CARGO_BIN_EXE_control");
const HEALTH: &str = env!("CARGO_BIN_EXE_health");
/// A small site, over and over.
const LONG: [&str; 6] = ["--vips", "8", "--backends", "2", "--rounds", "1000"];
/// Longest wait for what takes a moment.
const LIMIT: Duration = Duration::from_secs(30);

/// Starts it with this `lb`.
fn start(program: &str, arguments: &[&str], lb: &Path) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).env("LB_BIN", lb).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

/// Runs it with the `lb` that tests use, and looks for what it left.
fn run(program: &str, arguments: &[&str]) -> Output {
    let child = start(program, arguments, &balancer::binary().expect("an lb"));
    let lab = lab(&child);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(leftovers::of(&lab), Vec::<String>::new(), "{output:?}");
    output
}

/// First words of all that it makes.
fn lab(child: &Child) -> String {
    format!("lbtest-{}", child.id())
}

/// Starts a long run, and waits until its daemon has tables.
fn running() -> (Child, PathBuf) {
    let child = start(CONTROL, &LONG, &balancer::binary().expect("an lb"));
    let made = |word: &str| leftovers::of(&lab(&child)).into_iter().find(|path| path.contains(word)).map(PathBuf::from);
    until("it makes tables", || made("/bpf/").is_some_and(|pins| pins.join("prog").exists()));
    let namespace = made("/netns/").expect("a namespace");
    (child, namespace)
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

/// Figures of the rows in that file, each with as many samples as asked for.
fn figures(json: &Path, samples: usize) -> BTreeSet<String> {
    let record = Record::read(json).expect("results");
    let figures = record.rows.iter().map(|row| {
        assert!(row.value() >= 0.0 && row.samples[VALUE].len() == samples, "{row:?}");
        row.text("figure").expect("a figure").to_owned()
    });
    figures.collect()
}

#[test]
fn control_times_each_change() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("control.json");
    let small = ["--vips", "8", "--backends", "2", "--rounds", "1", "--json", json.to_str().expect("text")];
    let output = run(CONTROL, &small);
    // Whether it is within its limits is no matter here.
    assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
    let expected =
        ["ring", "apply", "change", "change-file", "scrape", "metrics", "restart", "memory", "tables", "flows"];
    assert_eq!(figures(&json, 1), expected.map(str::to_owned).into(), "{output:?}");
}

#[test]
fn health_watches_a_daemon_that_checks_real_servers() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("health.json");
    let small = ["--checks", "5", "--interval", "1", "--seconds", "1", "--settle", "0", "--kind", "tcp-vip"];
    let output = run(HEALTH, &[&small[..], &["--json", json.to_str().expect("text")]].concat());
    assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.lines().any(|line| line.starts_with("tcp-vip ")), "{told}");
    let record = Record::read(&json).unwrap_or_else(|error| panic!("{error:#}\n{output:?}"));
    let failed = record.rows.iter().find(|row| row.text("figure") == Some("failed")).expect("a row");
    assert!(failed.value() < 0.5, "probes by the VIP fail: {output:?}");
}

#[test]
fn leaves_nothing_when_it_is_asked_to_end() {
    if !is_root() {
        return;
    }
    let (child, _) = running();
    let lab = lab(&child);
    kill(&child, Signal::TERM);
    let output = child.wait_with_output().expect("it ends");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("interrupted"), "{output:?}");
    assert_eq!(leftovers::of(&lab), Vec::<String>::new());
}

#[test]
fn what_a_killed_one_leaves_is_swept() {
    if !is_root() {
        return;
    }
    let (mut child, namespace) = running();
    let lab = lab(&child);
    assert!(!leftovers::inside(&namespace).is_empty(), "a daemon");
    kill(&child, Signal::KILL);
    child.wait().expect("it ends");
    until("its daemon dies with it", || leftovers::inside(&namespace).is_empty());
    leftovers::sweep();
    assert_eq!(leftovers::of(&lab), Vec::<String>::new());
}

#[test]
fn a_daemon_that_does_not_start_is_not_waited_for() {
    if !is_root() {
        return;
    }
    let begun = Instant::now();
    let output = start(CONTROL, &LONG, Path::new("/bin/false")).wait_with_output().expect("it ends");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("the daemon ended"), "{output:?}");
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}
