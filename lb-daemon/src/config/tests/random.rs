//! Whatever the text, reading it ends with a config or with complaints that can be printed.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use proptest::prelude::*;

use super::{EXAMPLE, MINIMAL, VALID, check_beside};
use crate::config::{Bundle, Checked};

/// What the files beside the text say.
const LIST: &[u8] = b"203.0.113.0/24\n2001:db8::/32 pool a\n0.0.0.0/0 backend x # rest\n1.2.3.4/8\nwhat\n";

/// What holds for every text.
fn holds(text: &str) -> Result<(), TestCaseError> {
    let Checked { config, diagnostics } = check_beside(text, &[("a", LIST)]);
    prop_assert_eq!(config.is_none(), diagnostics.has_errors());
    let rendered = diagnostics.render(false);
    prop_assert_eq!(diagnostics.is_empty(), rendered.is_empty());
    for one in diagnostics.iter() {
        let lines =
            if one.place.file == "lb.toml" { text.split('\n').count() } else { LIST.split(|b| *b == b'\n').count() };
        prop_assert!((1..=lines).contains(&one.place.line), "{}", one);
        prop_assert!(one.hint.is_some(), "{}", one);
    }
    Ok(())
}

/// Words that files are made of, so that random ones get beyond the syntax.
fn line() -> impl Strategy<Value = String> {
    let header = prop::sample::select(vec![
        "[dataplane]",
        "[[dataplane.interface]]",
        "[daemon]",
        "[api]",
        "[metrics]",
        "[pool.a]",
        "[pool.b]",
        "[pool.a.health]",
        "[health.a]",
        "[health.default]",
        "[dataplane.source_limit]",
        "[dataplane.tunnels]",
        "[[vip]]",
    ]);
    let keys: Vec<&str> = crate::config::schema::ALL.iter().flat_map(|schema| schema.keys).copied().collect();
    let value = prop::sample::select(vec![
        "\"a\"",
        "\"b\"",
        "0",
        "443",
        "-1",
        "true",
        "false",
        "1.5",
        "1979-05-27",
        "[]",
        "{}",
        "[\"eth0\"]",
        "\"10.0.0.1\"",
        "\"10.0.0.2\"",
        "\"::1\"",
        "\"2s\"",
        "\"1h\"",
        "\"tcp\"",
        "\"udp\"",
        "\"http\"",
        "\"none\"",
        "\"50%\"",
        "[{ name = \"x\", address = \"10.0.0.1\" }]",
        "[{ name = \"x\", address = \"10.0.0.2\", weight = 0 }]",
        "[\"a\"]",
        "[\"b\", \"*.toml\", \"[\"]",
        "65537",
        "\"10.0.0.0/8\"",
        "\"quic-lb\"",
        "\"katran\"",
        "\"gue\"",
        "\"drop\"",
        "[\"10.0.0.0/8\", \"10.0.0.0/8\", \"::/0\"]",
        "[{ name = \"x\", address = \"10.0.0.3\", server_id = \"0a0b\" }, { name = \"y\", address = \"::2\", server_id = 7 }]",
        "[{ name = \"x\", address = \"10.0.0.4\", server_id = 7, local = true }]",
        "[{ config = 0, server_id_length = 2 }]",
        "[{ source = \"10.0.0.0/8\", pool = \"b\" }, { source = \"::/0\", backend = \"x\" }]",
    ]);
    prop_oneof![
        1 => header.prop_map(str::to_owned),
        3 => (prop::sample::select(keys), value).prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

/// A file of keys and values, or of anything.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::collection::vec(line(), 0..12).prop_map(|lines| lines.join("\n")),
        1 => "[ -~\n\t\r]{0,100}",
        1 => any::<String>(),
    ]
}

/// A bundle whose files may name one another.
fn bundle() -> impl Strategy<Value = Bundle> {
    let name = prop::sample::select(vec!["lb.toml", "a", "b", "c.toml", "d/e.toml", "", "/", "x/../y.toml", "\u{1b}"]);
    let start = prop::sample::select(vec!["", "include = [\"a\", \"*.toml\"]\n", "include = [\"d/*\", \"b\"]\n"]);
    let file =
        (name.clone(), start, text()).prop_map(|(name, start, text)| (name.into(), (start.to_owned() + &text).into()));
    let main = prop_oneof![4 => Just("lb.toml"), 1 => name];
    (main, prop::collection::btree_map(any::<u8>(), file, 0..6)).prop_map(|(main, files)| {
        let files: BTreeMap<PathBuf, Arc<str>> = files.into_values().collect();
        Bundle { main: main.into(), files }
    })
}

proptest! {
    #[test]
    fn arbitrary_bundles_are_accepted_or_refused(bundle in bundle()) {
        let Checked { config, diagnostics } = bundle.check();
        prop_assert_eq!(config.is_none(), diagnostics.has_errors());
        prop_assert_eq!(diagnostics.is_empty(), diagnostics.render(false).is_empty());
        for one in diagnostics.iter() {
            let text = bundle.files.iter().find(|(name, _)| name.display().to_string() == one.place.file.replace("\\u{1b}", "\u{1b}"));
            let lines = text.map_or(1, |(_, text)| text.split('\n').count());
            prop_assert!((1..=lines).contains(&one.place.line), "{} of {} lines", one, lines);
            prop_assert!(one.hint.is_some(), "{}", one);
        }
        let json = serde_json::to_string(&bundle).unwrap();
        let back: Bundle = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(back.digest(), bundle.digest());
        prop_assert_eq!(back, bundle);
    }

    #[test]
    fn bundles_with_the_same_digest_say_the_same(one in bundle(), other in bundle()) {
        let contents = |bundle: &Bundle| {
            let main = bundle.files.get(&bundle.main).cloned();
            let others = bundle.files.iter().filter(|(name, _)| **name != bundle.main);
            (main, others.map(|(name, text)| (name.clone(), text.clone())).collect::<Vec<_>>())
        };
        prop_assert_eq!(one.digest() == other.digest(), contents(&one) == contents(&other));
    }

    #[test]
    fn arbitrary_text_is_accepted_or_refused(text in any::<String>()) {
        holds(&text)?;
    }

    #[test]
    fn arbitrary_printable_text_is_accepted_or_refused(text in "[ -~\n\t\r]{0,400}") {
        holds(&text)?;
    }

    #[test]
    fn arbitrary_keys_and_values_are_accepted_or_refused(lines in prop::collection::vec(line(), 0..30)) {
        holds(&lines.join("\n"))?;
    }

    #[test]
    fn a_file_with_a_part_cut_out_is_accepted_or_refused(
        file in prop::sample::select(vec![EXAMPLE, MINIMAL, VALID]),
        at in any::<prop::sample::Index>(),
        length in 0_usize..200,
        patch in "[ -~\n]{0,8}",
    ) {
        let start = file.floor_char_boundary(at.index(file.len()));
        let end = file.floor_char_boundary(start + length);
        holds(&format!("{}{patch}{}", &file[..start], &file[end..]))?;
    }

    #[test]
    fn a_file_with_values_exchanged_is_accepted_or_refused(
        swaps in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 1..4),
    ) {
        let parts = |line: &str| match line.split_once(" = ") {
            Some((key, value)) => (format!("{key} = "), value.to_owned()),
            None => (line.to_owned(), String::new()),
        };
        let mut lines: Vec<(String, String)> = EXAMPLE.lines().filter(|line| !line.starts_with('#')).map(parts).collect();
        for (a, b) in swaps {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            let (x, y) = (lines[a].1.clone(), lines[b].1.clone());
            lines[a].1 = y;
            lines[b].1 = x;
        }
        let text: Vec<String> = lines.into_iter().map(|(key, value)| key + &value).collect();
        holds(&text.join("\n"))?;
    }
}
