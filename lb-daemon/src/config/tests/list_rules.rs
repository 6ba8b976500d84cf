//! Rules of `allow`, `deny`, and lists in files of their own.

use std::{fs, time::Instant};

use super::{VALID, check_beside, complaints, refuses, refuses_found, short, valid, with};
use crate::{
    config::{Checked, Reading, read},
    model::{Access, Config},
};

/// The first VIP's list, the dataplane's, both with this line.
fn both(line: &str) -> [String; 2] {
    ["#dataplane", "#vip"].map(|mark| with(mark, line))
}

fn accesses(config: Config) -> [Access; 2] {
    [config.dataplane.access, config.vips[0].access.clone()]
}

fn nets(list: &[ipnet::IpNet]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn reads_access_lists_of_all_vips_and_of_one() {
    let lines = "allow = [\"203.0.113.0/24\", \"2001:db8::1\"]\ndeny = [\"203.0.113.9\", \"::/0\"]";
    for (place, text) in both(lines).iter().enumerate() {
        let found = accesses(valid(text));
        assert_eq!(nets(&found[place].allow), ["203.0.113.0/24", "2001:db8::1/128"]);
        assert_eq!(nets(&found[place].deny), ["203.0.113.9/32", "::/0"]);
        assert!(found[1 - place].is_empty());
    }
}

#[test]
fn refuses_access_lists_that_are_none() {
    for text in both("deny = [\"203.0.113.9/24\"]") {
        refuses(&text, "invalid-value", "\"203.0.113.9/24\"", "write \"203.0.113.0/24\"");
    }
    refuses(&with("#vip", "allow = \"10.0.0.0/8\""), "wrong-type", "\"10.0.0.0/8\"", "[\"10.0.0.0/8\"]");
    refuses(&with("#vip", "allow = [1]"), "wrong-type", "1]", "put it in quotes");
}

#[test]
fn refuses_a_prefix_in_two_lists_or_twice_in_one() {
    for text in both("allow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]") {
        refuses(&text, "conflict", "\"10.0.0.0/8\"]", "leave it in one");
    }
    for text in both("deny = [\"10.0.0.1\", \"10.0.0.1/32\"]") {
        refuses(&text, "duplicate", "\"10.0.0.1/32\"", "each prefix once");
    }
    // Of all VIPs and of one are two lists.
    valid(&with("#dataplane", "deny = [\"10.0.0.0/8\"]").replace("#vip", "allow = [\"10.0.0.0/8\"]"));
}

#[test]
fn reads_lists_from_files_beside_the_configuration() {
    let list =
        "\u{feff}# Offices\r\n\r\n10.0.0.0/8 # one\r\n\t2001:db8::/32\r\n192.0.2.1\n#10.1.0.0/16\n   \n198.51.100.0/24";
    for (place, text) in both("allow = [\"203.0.113.0/24\"]\nallow_file = \"lists/a.txt\"").iter().enumerate() {
        let Checked { config, diagnostics } = check_beside(text, &[("lists/a.txt", list.as_bytes())]);
        assert!(diagnostics.is_empty(), "{diagnostics}");
        let wanted = ["203.0.113.0/24", "10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32", "198.51.100.0/24"];
        assert_eq!(nets(&accesses(config.unwrap())[place].allow), wanted);
    }
}

#[test]
fn refuses_an_empty_file_of_those_let_in() {
    let text = with("#vip", "allow_file = \"a.txt\"");
    let empty: [(&str, &[u8]); 1] = [("a.txt", b"# nobody\n\n")];
    refuses_found(&text, check_beside(&text, &empty), "invalid-value", "\"a.txt\"", "0.0.0.0/0");
    let others = text.replace("allow_file", "allow = [\"10.0.0.0/8\"]\nallow_file");
    assert!(check_beside(&others, &empty).config.is_some(), "the rest is kept out by the other list");
    let deny = text.replace("allow_file", "deny_file");
    assert!(check_beside(&deny, &empty).config.is_some());
}

#[test]
fn paths_are_relative_to_the_configurations_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lb.toml");
    fs::create_dir(folder.path().join("lists")).expect("a folder");
    fs::write(folder.path().join("lists/deny.txt"), "10.0.0.0/8\n").expect("a file");
    let deny = |file: &str| {
        fs::write(&path, with("#vip", &format!("deny_file = \"{file}\""))).expect("a file");
        read(&path).and_then(Reading::valid).expect("a valid configuration").1.vips[0].access.deny.clone()
    };
    let net = ["10.0.0.0/8".parse().unwrap()];
    assert_eq!(deny("lists/deny.txt"), net);
    assert_eq!(deny(&folder.path().join("lists/deny.txt").display().to_string()), net);
}

#[test]
fn refuses_a_file_that_cannot_be_read() {
    for text in both("deny_file = \"nowhere.txt\"") {
        refuses(&text, "unreadable-file", "\"nowhere.txt\"", "begins at the main file's folder");
    }
    refuses(&with("#vip", "source_routes_file = \"a/b\""), "unreadable-file", "\"a/b\"", "readable");
    refuses(&with("#vip", "allow_file = \"\""), "invalid-value", "\"\"", "path");
}

/// What is said of one list, as `line:column code`.
fn of_list(line: &str, list: &[u8]) -> Vec<String> {
    let found = check_beside(&with("#vip", line), &[("a.txt", list)]);
    assert!(found.config.is_none());
    assert!(found.diagnostics.iter().all(|one| one.place.file == "a.txt" && one.hint.is_some()));
    found.diagnostics.iter().map(short).collect()
}

#[test]
fn names_the_lines_of_a_file_that_are_wrong() {
    let list = b"10.0.0.0/8\n 10.0.0.1/8\nwhat\n10.1.0.0/16 eth0\n10.0.0.0/8\n";
    let wanted = ["2:2 invalid-value", "3:1 invalid-value", "4:13 invalid-value", "5:1 duplicate"];
    assert_eq!(of_list("deny_file = \"a.txt\"", list), wanted);
    assert_eq!(of_list("deny_file = \"a.txt\"", b"\xef\xbb\xbf10.0.0.0/8\ncaf\xe9\n"), ["2:4 not-utf8"]);
}

#[test]
fn names_a_prefix_that_two_files_have() {
    let text = with("#vip", "allow_file = \"a\"\ndeny_file = \"b\"");
    let found = check_beside(&text, &[("a", b"10.0.0.0/8"), ("b", b"\n10.0.0.0/8")]).diagnostics;
    let [one] = found.iter().collect::<Vec<_>>()[..] else { panic!("{found}") };
    let also = one.also.as_ref().expect("the first place");
    assert_eq!((short(one).as_str(), one.place.file.as_str()), ("2:1 conflict", "b"));
    assert_eq!((also.file.as_str(), also.line), ("a", 1));
}

#[test]
fn complains_once_about_a_file_that_several_vips_name() {
    let second = "[[vip]]\nname = \"b\"\naddress = \"192.0.2.11\"\nport = 443\nprotocol = \"tcp\"\npool = \"web\"";
    let line = "deny_file = \"a\"";
    let text = with("#vip", line).replace("#end", &format!("{second}\n{line}"));
    let read = |list: &[u8]| check_beside(&text, &[("a", list)]);
    refuses_found("10.0.0.1/8", read(b"10.0.0.1/8"), "invalid-value", "10.0.0.1/8", "write \"10.0.0.0/8\"");
    refuses_found("10.0.0.0/8 x", read(b"10.0.0.0/8 x"), "invalid-value", "x", "one prefix a line");
    let config = read(b"10.0.0.0/8").config.expect("valid");
    assert_eq!(config.vips[0].access, config.vips[1].access);
}

#[test]
fn shows_the_first_of_many_wrong_lines() {
    let list = "10.0.0.1/8\n".repeat(100_000);
    let found = of_list("deny_file = \"a.txt\"", list.as_bytes());
    assert_eq!(found.len(), 21);
    assert_eq!(found.last().map(String::as_str), Some("21:1 invalid-value"));
    let routes = "10.0.0.0/8 pool nowhere\n".repeat(100_000);
    assert_eq!(of_list("source_routes_file = \"a.txt\"", routes.as_bytes()).len(), 21);
}

#[test]
fn reads_long_lists_in_little_time() {
    let line = |n: u32, after: &str| format!("{}.{}.{}.0{after}\n", 1 + (n >> 16), n >> 8 & 255, n & 255);
    let list = |after: &str| (0..100_000).map(|n| line(n, after)).collect::<String>().into_bytes();
    let text = VALID.replace("#vip", "source_routes_file = \"routes\"\ndeny_file = \"deny\"");
    let files: [(&str, &[u8]); 2] = [("routes", &list("/24 pool web")), ("deny", &list(""))];
    let start = Instant::now();
    let Checked { config, diagnostics } = check_beside(&text, &files);
    let vip = &config.unwrap_or_else(|| panic!("{diagnostics}")).vips[0];
    assert_eq!((vip.source_routes.len(), vip.access.deny.len()), (100_000, 100_000));
    // A second or two without optimisation. A step that compared each line with each would take minutes.
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[test]
fn says_nothing_of_a_file_without_lines() {
    let found = check_beside(&with("#vip", "deny_file = \"a\""), &[("a", b"# none yet\n")]);
    assert!(found.diagnostics.is_empty());
    assert_eq!(complaints(VALID), Vec::<String>::new());
}
