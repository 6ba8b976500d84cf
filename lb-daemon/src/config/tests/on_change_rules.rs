//! Rules of who is told of changes.

use std::time::Duration;

use super::{VALID, refuses, valid};
use crate::model::OnChange;

/// The valid file with that section.
fn told(lines: &str) -> String {
    format!("{VALID}\n[daemon.on_change]\n{lines}\n")
}

fn on_change(lines: &str) -> OnChange {
    OnChange::clone(valid(&told(lines)).daemon.on_change.as_ref().unwrap())
}

#[test]
fn a_program_or_a_webhook_or_both_are_told() {
    assert_eq!(valid(VALID).daemon.on_change, None);
    let url = "https://example.org:8443/a?b=c";
    let webhook = OnChange { exec: Vec::new(), webhook: Some(url.into()), timeout: Duration::from_secs(5), retries: 3 };
    assert_eq!(on_change(&format!("webhook = \"{url}\"")), webhook);
    let exec = vec!["/bin/tell".into(), "-v".into()];
    let both = OnChange { exec, timeout: Duration::from_mins(1), retries: 0, ..webhook };
    let lines = "exec = [\"/bin/tell\", \"-v\"]\ntimeout = \"1m\"\nretries = 0";
    assert_eq!(on_change(&format!("{lines}\nwebhook = \"{url}\"")), both);
    assert_eq!(on_change(lines), OnChange { webhook: None, ..both });
    assert_eq!(valid(&told(lines)).needs_runner(), Some("daemon.on_change"));
    for url in ["http://localhost", "http://[2001:db8::1]:80/", "http://192.0.2.1/x", "HTTPS://example.org"] {
        assert_eq!(on_change(&format!("webhook = \"{url}\"")).webhook.as_deref(), Some(url));
    }
}

#[test]
fn refuses_to_tell_nobody() {
    refuses(&told(""), "missing-key", "[daemon.on_change]", "webhook = ");
    refuses(&told("retries = 3"), "missing-key", "[daemon.on_change]", "exec = [");
}

#[test]
fn refuses_programs_and_urls_that_cannot_be_told() {
    refuses(&told("exec = []"), "invalid-value", "[]", "write [");
    refuses(&told("exec = [\"tell\"]"), "invalid-value", "\"tell\"", "begin with a slash");
    refuses(&told("exec = \"/bin/tell\""), "wrong-type", "\"/bin/tell\"", "[\"/bin/tell\"]");
    for url in [
        "example.org",
        "ftp://example.org/",
        "http://",
        "http:///x",
        "http://exa mple.org/",
        "http://example..org/",
        "http://example.org:0/",
        "http://example.org:65536/",
    ] {
        let quoted = format!("{url:?}");
        refuses(&told(&format!("webhook = {quoted}")), "invalid-value", &quoted, "https://example.org/changes");
    }
    let url = "\"http://ada:secret@example.org/\"";
    refuses(&told(&format!("webhook = {url}")), "invalid-value", url, "have a program post");
}

#[test]
fn refuses_times_and_counts_out_of_range() {
    let with_line = |line: &str| told(&format!("webhook = \"http://localhost/\"\n{line}"));
    refuses(&with_line("timeout = \"99ms\""), "out-of-range", "\"99ms\"", "100ms");
    refuses(&with_line("timeout = \"6m\""), "out-of-range", "\"6m\"", "5m");
    refuses(&with_line("retries = 101"), "out-of-range", "101", "100");
    refuses(&with_line("retries = -1"), "out-of-range", "-1", "0");
    refuses(&with_line("retry = 1"), "unknown-key", "retry", "retries");
}
