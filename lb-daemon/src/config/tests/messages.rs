//! Whole messages, as they are printed.

use std::{fs, path::Path};

use super::{VALID, check, check_beside, complaints, with};
use crate::config::{Bundle, LoadError, parse, read};

/// All that is printed about a text, without the empty line after each complaint.
fn printed(text: &str) -> String {
    parse(text, "lb.toml").expect_err("an invalid text").to_string()
}

#[test]
fn prints_both_places_of_a_backend_address_given_twice() {
    let text = with("#backend", "{ name = \"web-3\", address = \"10.0.0.11\" },");
    assert_eq!(
        printed(&text),
        r#"error[duplicate]: backend address 10.0.0.11 is given twice
  --> lb.toml:10:31
   |
 8 |   { name = "web-1", address = "10.0.0.11" },
   |                               ----------- first here
 9 |   { name = "web-2", address = "10.0.0.12" },
10 |   { name = "web-3", address = "10.0.0.11" },
   |                               ^^^^^^^^^^^ again here
   |
   = help: name each address once in a pool; a larger `weight` gives it a larger share"#
    );
}

#[test]
fn prints_the_nearest_key() {
    assert_eq!(
        printed(&with("#health", "intervall = \"2s\"")),
        r#"error[unknown-key]: unknown key `intervall`
  --> lb.toml:14:1
   |
14 | intervall = "2s"
   | ^^^^^^^^^ not a key of [pool.NAME.health]
   |
   = help: did you mean `interval`?"#
    );
}

#[test]
fn prints_both_places_when_they_are_in_two_files() {
    let text = with("#dataplane", "deny = [\"198.51.100.0/24\"]\ndeny_file = \"bad.txt\"");
    let list = b"# Yesterday's.\n203.0.113.0/24\n  198.51.100.0/24 # again\n\n192.0.2.1/24\n";
    let found = check_beside(&text, &[("bad.txt", list)]).diagnostics;
    assert_eq!(
        found.to_string(),
        r#"error[duplicate]: prefix 198.51.100.0/24 is given twice in `deny`
 --> bad.txt:3:3
  |
3 |   198.51.100.0/24 # again
  |   ^^^^^^^^^^^^^^^ again here
  |
 ::: lb.toml:3:9
  |
3 | deny = ["198.51.100.0/24"]
  |         ----------------- first here
  |
  = help: give each prefix once

error[invalid-value]: the line does not begin with a prefix
 --> bad.txt:5:1
  |
5 | 192.0.2.1/24
  | ^^^^^^^^^^^^ bits are set beyond the prefix
  |
  = help: write "192.0.2.0/24""#
    );
    let places: Vec<String> = found.iter().map(|one| format!("{}:{}", one.place.file, one.place.line)).collect();
    assert_eq!(places, ["bad.txt:3", "bad.txt:5"]);
}

#[test]
fn prints_both_places_of_a_table_given_twice() {
    assert_eq!(
        printed(&with("#end", "[pool.web]")),
        r"error[duplicate]: key `web` is given twice
  --> lb.toml:22:7
   |
 6 | [pool.web]
   |       --- first here
...
22 | [pool.web]
   |       ^^^ again here
   |
   = help: give each key and each [table] once; further VIPs are further [[vip]]"
    );
}

#[test]
fn prints_every_syntax_error() {
    assert_eq!(
        printed("port = tcp\nname = \"web\nx = 1\n"),
        r#"error[syntax]: invalid boolean
 --> lb.toml:1:8
  |
1 | port = tcp
  |        ^^^ expected `true`
  |
  = help: write true, false, a number, or a string in double quotes

error[syntax]: invalid basic string
 --> lb.toml:2:12
  |
2 | name = "web
  |            ^ expected `"`
  |
  = help: https://toml.io explains how TOML is written"#
    );
}

#[test]
fn reports_all_complaints_at_once_in_the_files_order() {
    let text = VALID
        .replace("#dataplane", "ring_size = 65536\nmood = 1")
        .replace("\"10.0.0.12\"", "\"10.0.0.11\", weight = 70000, wieght = 1")
        .replace("type = \"http\"", "type = \"htps\"")
        .replace("port = 443", "port = \"443\"")
        .replace("pool = \"web\"", "pool = \"wbe\"")
        .replace("#end", "[[vip]]\naddress = \"192.0.2.300\"");
    assert_eq!(
        complaints(&text),
        [
            "3:13 invalid-value",
            "4:1 unknown-key",
            "10:31 duplicate",
            "10:53 out-of-range",
            "10:60 unknown-key",
            "14:8 invalid-value",
            "19:8 wrong-type",
            "21:8 unknown-pool",
            "23:1 missing-key",
            "23:1 missing-key",
            "23:1 missing-key",
            "23:1 missing-key",
            "24:11 invalid-value",
        ]
    );
}

#[test]
fn says_a_complaint_in_one_line_for_logs() {
    let diagnostics = check("mood = 1\n[[vip]]\n").diagnostics;
    let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    let keys = "version, include, dataplane, daemon, api, metrics, health, pool, vip";
    let wanted = format!("lb.toml:1:1: unknown key `mood` [unknown-key]: the keys of the main file are {keys}");
    assert!(lines.contains(&wanted), "{lines:?}");
}

#[test]
fn says_a_complaint_as_json_for_programs() {
    let text =
        with("#end", "[[vip]]\nname = \"web\"\naddress = \"::1:2\"\nport = 1\nprotocol = \"tcp\"\npool = \"web\"");
    let json: Vec<serde_json::Value> = check(&text).diagnostics.iter().map(|one| serde_json::json!(one)).collect();
    let wanted = serde_json::json!([{
        "code": "duplicate",
        "severity": "error",
        "message": "VIP name web is given twice",
        "file": "lb.toml",
        "line": 23,
        "column": 8,
        "label": "again here",
        "also": { "file": "lb.toml", "line": 16, "column": 8, "label": "first here" },
        "hint": "give each VIP its own name",
    }]);
    assert_eq!(serde_json::json!(json), wanted);
}

#[test]
fn counts_columns_in_characters_as_the_printed_place_does() {
    let text = "metrics = { \"é\" = 1, lisen = 2 }\n";
    let diagnostics = check(text).diagnostics;
    let one = diagnostics.iter().find(|one| one.message.contains("lisen")).expect("the unknown key");
    assert_eq!((one.place.line, one.place.column), (1, 22));
    assert!(diagnostics.render(false).contains("--> lb.toml:1:22"), "{diagnostics}");
}

#[test]
fn ignores_a_byte_order_mark() {
    assert_eq!(complaints("\u{feff}mood = 1\n[dataplane]\ninterfaces = [\"e\"]\n"), ["1:1 unknown-key", "1:1 no-vip"]);
}

#[test]
fn prints_the_first_hundred_of_many_complaints() {
    let lines: Vec<String> = (0..150).map(|n| format!("unknown{n} = 1\n")).collect();
    let diagnostics = check(&lines.concat()).diagnostics;
    assert_eq!(diagnostics.iter().count(), 152);
    assert_eq!(diagnostics.summary(), "150 errors, 2 warnings");
    let rendered = diagnostics.render(false);
    assert_eq!(rendered.matches("-->").count(), 100);
    assert!(rendered.ends_with("... and 52 more\n\n"));
}

#[test]
fn refuses_a_file_that_is_not_utf8() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("lb.toml");
    fs::write(&file, b"version = 1\n# caf\xe9\n").expect("a file");
    let diagnostics = Bundle::read(&file).expect("a readable file").checked.diagnostics;
    let found: Vec<String> = diagnostics.iter().map(super::short).collect();
    assert_eq!(found, ["2:6 not-utf8"]);
}

#[test]
fn says_why_a_file_cannot_be_read() {
    let error = read(Path::new("/nowhere/lb.toml")).expect_err("no such file");
    assert!(matches!(error, LoadError::Read { .. }));
    assert_eq!(
        format!("{:#}", anyhow::Error::from(error)),
        "cannot read config /nowhere/lb.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn escapes_what_a_terminal_would_obey() {
    let text = with("#vip", "\"a\\u001b[2J\\nb\" = 1");
    let found = printed(&text);
    assert!(found.starts_with("error[unknown-key]: unknown key `a\\u{1b}[2J\\nb`\n"), "{found}");
    assert!(!found.contains('\u{1b}'));
    // Raw, where it is no TOML either.
    assert!(!printed("a = \u{1b}[2J").contains('\u{1b}'));
}
