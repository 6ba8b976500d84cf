//! What `./dev bench all` is asked for is looked at before anything is built.

use std::{path::Path, process::Command};

#[test]
fn bench_all_refuses_what_it_cannot_compare_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().canonicalize().expect("a path");
    std::fs::create_dir(here.join("empty")).expect("a folder");
    let dev = concat!(env!("CARGO_MANIFEST_DIR"), "/../dev");
    let refused = |arguments: &[&str], because: &str| {
        let output =
            Command::new(dev).args(["bench", "all"]).args(arguments).current_dir(&here).output().expect("a shell");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && message.contains(because), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "it began: {output:?}");
    };
    let nothing = |folder: &Path| format!("no results to compare with in {}", folder.display());
    refused(&["--compare", "typo"], &nothing(&here.join("typo")));
    refused(&["--compare", "empty"], &nothing(&here.join("empty")));
    refused(&["--compare", "/no/such/folder"], &nothing(Path::new("/no/such/folder")));
    refused(&["--compare"], "--compare wants a folder");
    refused(&["--json-dir"], "--json-dir wants a folder");
    refused(&["--comapre", "empty"], "not --comapre");
}
