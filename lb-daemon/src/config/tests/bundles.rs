//! Bundles: read, checked, told apart, sent.

use std::{fs, path::Path};

use certificates::Authority;
use tempfile::TempDir;

use super::{VALID, with};
use crate::config::{Bundle, Diagnostic, Reading};

/// A folder with these files, of which the first is the main one.
pub(super) fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

pub(super) fn read(folder: &TempDir) -> Reading {
    Bundle::read(&folder.path().join("lb.toml")).expect("a readable file")
}

fn listed() -> String {
    VALID.replace("#vip", "deny_file = \"lists/deny.txt\"")
}

#[test]
fn reads_the_main_file_and_all_that_it_names() {
    let folder = folder(&[("lb.toml", &listed()), ("lists/deny.txt", "10.0.0.0/8\n"), ("other.txt", "")]);
    let Reading { bundle, checked, .. } = read(&folder);
    assert!(checked.diagnostics.is_empty(), "{}", checked.diagnostics);
    let names: Vec<&Path> = bundle.files.keys().map(|name| name.strip_prefix(folder.path()).unwrap()).collect();
    assert_eq!(names, [Path::new("lb.toml"), Path::new("lists/deny.txt")]);
    assert_eq!(bundle.check().config, checked.config);
    drop(folder);
    assert_eq!(bundle.check().config, checked.config, "nothing is read again");
}

#[test]
fn the_certificates_that_a_check_trusts_are_part_of_it() {
    let authority = Authority::new().expect("an authority");
    let main = VALID.replace("type = \"http\"", "type = \"tls\"\nca_file = \"ca.pem\"");
    let folder = folder(&[("lb.toml", &main), ("ca.pem", &authority.pem())]);
    let Reading { bundle, checked, .. } = read(&folder);
    let config = checked.config.expect("valid");
    fs::write(folder.path().join("ca.pem"), "").expect("a file");
    assert_eq!(bundle.check().config, Some(config), "a rollback has the same authorities");
    assert!(read(&folder).checked.config.is_none());
}

#[test]
fn says_which_file_a_bundle_lacks() {
    let bundle = Bundle::of("/etc/lb/lb.toml", listed());
    let found: Vec<String> = bundle.check().diagnostics.iter().map(Diagnostic::to_string).collect();
    let [one] = &found[..] else { panic!("{found:?}") };
    assert!(one.contains("`deny_file`: /etc/lb/lists/deny.txt cannot be read [unreadable-file]: send it"), "{one}");
    let empty = Bundle { files: [].into(), ..bundle };
    assert_eq!(
        empty.check().diagnostics.to_string(),
        "error[unreadable-file]: there is no main file
 --> /etc/lb/lb.toml:1:1
  |
1 |
  | ^ not among the files that came with the configuration
  |
  = help: name a main file that is there"
    );
}

#[test]
fn a_digest_tells_contents_apart_and_folders_not() {
    let files = [("lb.toml", listed()), ("lists/deny.txt", "10.0.0.0/8\n".to_owned())];
    let in_folder = |main: &str, files: &[(&str, String)]| {
        let path = |name: &str| Path::new(main).join(name);
        let files = files.iter().map(|(name, text)| (path(name), text.as_str().into())).collect();
        Bundle { main: path("lb.toml"), files }
    };
    let digest = in_folder("/etc/lb", &files).digest();
    assert_eq!(digest.len(), 64);
    assert!(digest.bytes().all(|digit| digit.is_ascii_hexdigit()));
    for other in ["/home/x", "", "a/b", "/"] {
        assert_eq!(in_folder(other, &files).digest(), digest, "{other}");
    }
    let change = |at: usize, name: Option<&'static str>, text: Option<&str>| {
        let mut files = files.clone();
        files[at] = (name.unwrap_or(files[at].0), text.map_or(files[at].1.clone(), str::to_owned));
        in_folder("/etc/lb", &files).digest()
    };
    let mut seen = vec![
        digest,
        change(0, None, Some(&with("#vip", "deny_file = \"lists/deny.txt\" "))),
        change(1, None, Some("10.0.0.0/9\n")),
        change(1, None, Some("10.0.0.0/8")),
        change(1, None, Some("")),
        change(1, Some("deny.txt"), None),
        change(1, Some("/lists/deny.txt"), None),
        in_folder("/etc/lb", &files[..1]).digest(),
    ];
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all);
}

#[test]
fn the_main_files_name_is_no_part_of_what_it_says() {
    assert_eq!(Bundle::of("/a/x.toml", VALID).digest(), Bundle::of("y.toml", VALID).digest());
}

#[test]
fn travels_as_json() {
    let folder = folder(&[("lb.toml", &listed()), ("lists/deny.txt", "10.0.0.0/8\n")]);
    let bundle = read(&folder).bundle;
    let json = serde_json::to_value(&bundle).expect("names that are UTF-8");
    let main = folder.path().join("lb.toml").display().to_string();
    let deny = folder.path().join("lists/deny.txt").display().to_string();
    let wanted = serde_json::json!({ "main": main, "files": { &main: listed(), deny: "10.0.0.0/8\n" } });
    assert_eq!(json, wanted);
    assert_eq!(serde_json::from_value::<Bundle>(json).expect("a bundle"), bundle);
    let unknown = serde_json::json!({ "main": "x", "files": {}, "more": 1 });
    assert!(serde_json::from_value::<Bundle>(unknown).is_err());
}

#[test]
fn traces_tell_whether_a_file_changed_since_it_was_read() {
    let main = format!("include = [\"d/*.toml\", \"none\"]\n{}", listed());
    let folder = folder(&[("lb.toml", &main), ("lists/deny.txt", ""), ("x", "")]);
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("d")).expect("a folder");
    let mut traces = read(&folder).traces;
    let mut differ = |what: &str, differ: bool| {
        let now = traces.now();
        assert_eq!(now != traces, differ, "{what}");
        traces = now;
    };
    differ("nothing was done", false);
    fs::write(path("x"), "1").expect("a file");
    fs::write(path("d/x.txt"), "1").expect("a file");
    differ("files that nobody names", false);
    fs::write(path("lb.toml"), "").expect("a file");
    differ("the main file was written", true);
    fs::write(path("none"), "").expect("a file");
    differ("a file came that was not there", true);
    fs::write(path("d/a.toml"), "").expect("a file");
    differ("a file came that a pattern matches", true);
    fs::rename(path("none"), path("lb.toml")).expect("a file");
    differ("one was put in place of another", true);
    fs::set_permissions(path("lb.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("a file");
    differ("rights changed", true);
    fs::remove_file(path("lb.toml")).expect("a file");
    differ("the main file is gone", true);
    differ("it still is", false);
}

#[test]
fn a_list_that_is_a_pipe_is_not_waited_for() {
    let folder = folder(&[("lb.toml", &listed()), ("lists/x", "")]);
    let pipe = folder.path().join("lists/deny.txt");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let found = read(&folder).checked.diagnostics.to_string();
    assert!(found.contains("a pipe, not a file"), "{found}");
}
