//! `lb check` as a process: what it prints, and its exit codes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const VALID: &str = "[dataplane]\ninterfaces = [\"eth0\"]\n\
                     [pool.a]\nbackends = [{ name = \"a\", address = \"10.0.0.1\" }]\n\
                     [[vip]]\nname = \"a\"\naddress = \"192.0.2.1\"\nport = 1\nprotocol = \"udp\"\npool = \"a\"\n";

fn lb(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lb")).args(arguments).output().expect("lb starts")
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file in the temporary folder");
    path
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8 output")
}

#[test]
fn says_ok_of_a_valid_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = file(folder.path(), "good.toml", VALID);
    let output = lb(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), format!("{}: ok\n", path.display()));
}

#[test]
fn accepts_the_files_that_come_with_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let files = ["lb.example.toml", "minimal.toml"].map(|name| folder.join(name));
    let output = lb(&["check", "--strict", files[0].to_str().unwrap(), files[1].to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

#[test]
fn prints_every_complaint_of_every_file_and_exits_with_3() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bad = file(folder.path(), "bad.toml", &VALID.replace("port = 1", "prot = 1").replace("10.0.0.1", "10.0.0"));
    let good = file(folder.path(), "good.toml", VALID);
    let output = lb(&["check", bad.to_str().unwrap(), good.to_str().unwrap()]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(3));
    for part in [
        format!("error[invalid-value]: `address` is invalid\n --> {}:4:37\n", bad.display()),
        format!("error[missing-key]: `port` is missing\n --> {}:5:1\n", bad.display()),
        format!("error[unknown-key]: unknown key `prot`\n --> {}:8:1\n", bad.display()),
        "= help: did you mean `port`?\n".to_owned(),
        format!("{}: 3 errors\n{}: ok\n", bad.display(), good.display()),
    ] {
        assert!(text.contains(&part), "no `{part}` in:\n{text}");
    }
}

#[test]
fn prints_json_for_programs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bad = file(folder.path(), "bad.toml", &VALID.replace("port = 1", "port = 70000"));
    let output = lb(&["check", "-o", "json", bad.to_str().unwrap(), "/nowhere/lb.toml"]);
    assert_eq!(output.status.code(), Some(3));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json[0]["valid"], false);
    assert_eq!(json[0]["diagnostics"][0]["code"], "out-of-range");
    assert_eq!(json[0]["diagnostics"][0]["line"], 8);
    assert_eq!(json[0]["diagnostics"][0]["column"], 8);
    assert_eq!(json[1]["unreadable"], "No such file or directory (os error 2)");
}

#[test]
fn a_socket_that_would_be_ignored_is_refused_or_noted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = file(folder.path(), "good.toml", VALID);
    let good = good.to_str().unwrap();
    let output = lb(&["--api", "/nowhere/lb.sock", "run", "--config", good]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for part in ["[api] socket", "/run/lb/lb.sock", "/nowhere/lb.sock"] {
        assert!(said.contains(part), "{part} is not named: {said}");
    }
    let output = lb(&["--api", "/nowhere/lb.sock", "check", good]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), "! --api changes nothing: `lb check` asks no daemon\n"));
}

#[test]
fn exits_with_1_when_a_file_cannot_be_read() {
    let output = lb(&["check", "/nowhere/lb.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "/nowhere/lb.toml: cannot be read: No such file or directory (os error 2)\n");
}

#[test]
fn takes_warnings_for_errors_when_strict() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = file(folder.path(), "empty.toml", "");
    assert_eq!(lb(&["check", path.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(lb(&["check", "--strict", path.to_str().unwrap()]).status.code(), Some(3));
}

#[test]
fn exits_with_64_when_used_wrongly_and_0_when_asked_for_help() {
    for arguments in [&["bogus"][..], &[], &["check"], &["check", "-o", "yaml", "x"], &["check", "x", "--bogus"]] {
        let output = lb(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["check", "--help"], &["help", "check"]] {
        let output = lb(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn takes_a_reader_that_goes_away_for_success() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = file(folder.path(), "good.toml", VALID);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    // More than a pipe holds, so that lb is still writing when the reader is gone.
    command.arg("check").args(std::iter::repeat_n(&path, 5000));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lb starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("lb ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
