//! Tests of the whole way from text to model, and what they share.

mod agent_rules;
mod bundles;
mod datagram_rules;
mod dataplane_rules;
mod example;
mod exec_rules;
mod grpc_rules;
mod http_rules;
mod include_rules;
mod list_rules;
mod messages;
mod on_change_rules;
mod passive_rules;
mod pool_rules;
mod random;
mod route_rules;
mod server_id_rules;
mod template_rules;
mod tls_rules;
mod vip_rules;

use std::{
    io,
    path::{Path, PathBuf},
};

use glob::Pattern;

use super::{
    Bundle, Checked,
    diagnostic::Diagnostic,
    source::{Fault, Found, Source},
};
use crate::model::Config;

const MINIMAL: &str = include_str!("../../../config/minimal.toml");
const EXAMPLE: &str = include_str!("../../../config/lb.example.toml");

/// A valid file; each rule's test breaks one line of it.
const VALID: &str = r#"[dataplane]
interfaces = ["eth0"]
#dataplane
[daemon]
#daemon
[pool.web]
backends = [
  { name = "web-1", address = "10.0.0.11" },
  { name = "web-2", address = "10.0.0.12" },
  #backend
]
[pool.web.health]
type = "http"
#health
[[vip]]
name = "web"
address = "192.0.2.10"
port = 443
protocol = "tcp"
pool = "web"
#vip
#end
"#;

/// [`VALID`] with the line `old` (or the mark) replaced by `new`.
fn with(old: &str, new: &str) -> String {
    assert_eq!(VALID.matches(old).count(), 1, "{old} is not one place of the valid file");
    VALID.replace(old, new)
}

/// What a text is found to be beside which these files lie, and no others.
fn check_beside(text: &str, files: &[(&str, &[u8])]) -> Checked {
    let found = Found { text: text.into(), valid: None };
    super::check(Path::new("lb.toml"), Ok(found), &Beside(files))
}

/// The files beside a text.
struct Beside<'a>(&'a [(&'a str, &'a [u8])]);

impl Source for Beside<'_> {
    fn text(&self, path: &Path) -> Result<Found, Fault> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
        Ok(Found::of(found.ok_or(Fault::Unreadable(io::ErrorKind::NotFound.into()))?.1.to_vec()))
    }

    fn matches(&self, pattern: &Pattern) -> Result<Vec<PathBuf>, Fault> {
        let names = self.0.iter().map(|(name, _)| (PathBuf::from(name), "".into()));
        Bundle { main: PathBuf::new(), files: names.collect() }.matches(pattern)
    }
}

fn check(text: &str) -> Checked {
    check_beside(text, &[])
}

fn valid(text: &str) -> Config {
    let Checked { config, diagnostics } = check(text);
    assert!(diagnostics.is_empty(), "{diagnostics}");
    config.expect("no complaint, but no config either")
}

/// What is said about a text, as `line:column code`.
fn complaints(text: &str) -> Vec<String> {
    let Checked { config, diagnostics } = check(text);
    assert_eq!(config.is_none(), diagnostics.has_errors());
    diagnostics.iter().map(short).collect()
}

fn short(one: &Diagnostic) -> String {
    format!("{}:{} {}", one.place.line, one.place.column, one.code)
}

/// Demands exactly one complaint, and that it is about `place`, which the text has once.
#[track_caller]
fn refuses(text: &str, code: &str, place: &str, hint: &str) {
    refuses_found(text, check(text), code, place, hint);
}

/// As [`refuses`], of what a text was found to be.
#[track_caller]
fn refuses_found(text: &str, found: Checked, code: &str, place: &str, hint: &str) {
    let Checked { config, diagnostics } = found;
    let [one] = diagnostics.iter().collect::<Vec<_>>()[..] else { panic!("not one complaint:\n{diagnostics}") };
    assert!(config.is_none(), "accepted all the same:\n{diagnostics}");
    says(text, one, code, place, hint);
}

/// As [`refuses`], for a text that is accepted.
#[track_caller]
fn warns(text: &str, code: &str, place: &str, hint: &str) {
    let Checked { config, diagnostics } = check(text);
    let [one] = diagnostics.iter().collect::<Vec<_>>()[..] else { panic!("not one complaint:\n{diagnostics}") };
    assert!(config.is_some(), "refused:\n{diagnostics}");
    says(text, one, code, place, hint);
}

#[track_caller]
fn says(text: &str, one: &Diagnostic, code: &str, place: &str, hint: &str) {
    assert_eq!(one.code.name(), code, "{one}");
    let line = text.lines().nth(one.place.line - 1).expect("a line of the text");
    let from: String = line.chars().skip(one.place.column - 1).collect();
    assert!(from.starts_with(place), "at `{from}`, not at `{place}`: {one}");
    let given = one.hint.as_deref().expect("every complaint has a hint");
    assert!(given.contains(hint), "hint `{given}`, not `{hint}`");
}

#[test]
fn a_file_without_an_end_is_refused() {
    let error = Bundle::read(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
}
