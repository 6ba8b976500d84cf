//! The programs that need no kernel of their own, from their command lines to their exit codes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bench::record::{Better, Record, Row};
use serde_json::json;
use tempfile::TempDir;

/// Runs a program, and tells its exit code and what it printed.
fn run(program: &str, arguments: &[&Path]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(program).args(arguments).output().expect("it starts");
    (status.code(), [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

/// Results of `prog-run`, with a row for each program.
fn results(folder: &TempDir, name: &str, programs: &[(&str, f64)], rounds: usize) -> PathBuf {
    let mut record = Record::begin("prog-run", json!({})).expect("a record");
    record.rows.extend(programs.iter().map(|(program, value)| {
        let what = [("packet", "udp4".into()), ("program", (*program).into())];
        Row::new(what, "ns", Better::Less, vec![*value; rounds])
    }));
    let path = folder.path().join(name);
    record.write(&path).expect("a file");
    path
}

#[test]
fn compare_tells_by_its_exit_code_whether_anything_got_worse() {
    let folder = tempfile::tempdir().expect("a folder");
    let compare = |arguments: &[&Path]| run(env!("CARGO_BIN_EXE_compare"), arguments);
    let old = results(&folder, "old.json", &[("lb", 70.0), ("older", 80.0)], 11);
    let slower = results(&folder, "slower.json", &[("lb", 77.0), ("older", 70.0)], 11);
    assert_eq!(compare(&[&old, &old]).0, Some(0));
    let (code, told) = compare(&[&slower, &old]);
    assert!(code == Some(1) && told.contains("x 1.10"), "{code:?} {told}");
    let margin = Path::new("--margin");
    assert_eq!(compare(&[&slower, &old, margin, Path::new("11")]).0, Some(0));
    let beside = |file: &Path| compare(&[file, Path::new("--beside"), Path::new("older")]).0;
    assert_eq!((beside(&old), beside(&slower)), (Some(0), Some(1)));
    let (code, told) = compare(&[&old, &folder.path().join("none.json")]);
    assert!(code == Some(1) && told.contains("none.json"), "{code:?} {told}");
    assert_eq!(compare(&[&old]).0, Some(2), "with what?");
}

#[test]
fn maglev_writes_a_row_for_each_figure_and_compares_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("rings.json");
    let maglev = |more: &[&str]| {
        let quick = ["--slots", "101,101", "--backends", "2,1000", "--rounds", "1", "--repeats", "1", "--json"];
        let arguments: Vec<&Path> = quick.iter().map(Path::new).chain([json.as_path()]).collect();
        run(env!("CARGO_BIN_EXE_maglev"), &[&arguments[..], &more.iter().map(Path::new).collect::<Vec<_>>()].concat())
    };
    let (code, told) = maglev(&[]);
    assert_eq!(code, Some(0), "{told}");
    let rows = Record::read(&json).expect("results").rows;
    let even = rows.iter().find(|row| row.number("backends") == Some(2) && row.text("figure") == Some("most"));
    let even = even.expect("a figure").value();
    assert!((even - 102.0 / 101.0).abs() < 1e-4, "51 of 101 slots where 50.5 are due: {even}");
    let whats: BTreeSet<_> = rows.iter().map(|row| &row.what).collect();
    assert_eq!(whats.len(), rows.len(), "one event befalls a ring once, whatever it is part of: {told}");
    assert!(rows.iter().all(|row| told.contains(row.text("figure").expect("text"))), "{told}");
    let (_, told) = maglev(&["--compare", json.to_str().expect("text")]);
    assert!(told.contains(&format!("of {} rows are as they were\n", rows.len())), "{told}");
}

#[test]
fn report_makes_pictures_and_tables_of_the_files_in_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    fs::create_dir(home.join("results")).expect("a folder");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a page");
    fs::write(home.join("README.md"), readme).expect("a file");
    results(&folder, "results/prog-run.json", &[("lb", 70.0)], 1);
    let (code, told) = run(env!("CARGO_BIN_EXE_report"), &[home]);
    assert!(code == Some(0) && told.contains("README.md"), "{code:?} {told}");
    let made = fs::read_to_string(home.join("README.md")).expect("a page");
    assert!(made.contains("Not measured yet: `./dev bench wire"), "{made}");
    fs::remove_file(home.join("README.md")).expect("a file");
    let (code, told) = run(env!("CARGO_BIN_EXE_report"), &[home]);
    assert!(code == Some(1) && told.contains("README.md"), "{code:?} {told}");
}
