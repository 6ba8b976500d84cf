//! Rules of `include`, and that places name the right file.

use std::fs;

use super::{
    VALID,
    bundles::{folder, read},
    check_beside, refuses_found, short,
};
use crate::config::{Bundle, Checked};

/// The valid file without its pool and VIP, with this `include`.
fn main(include: &str) -> String {
    format!("include = {include}\n{}", VALID.split("[pool.web]").next().expect("what stands before"))
}

fn pool(name: &str, address: &str) -> String {
    format!("[pool.{name}]\nbackends = [{{ name = \"b\", address = \"{address}\" }}]\n")
}

fn vip(name: &str, port: u16, pool: &str) -> String {
    let head = format!("[[vip]]\nname = \"{name}\"\naddress = \"192.0.2.1\"\nport = {port}\n");
    format!("{head}protocol = \"tcp\"\npool = \"{pool}\"\n")
}

fn check(include: &str, files: &[(&str, &str)]) -> Checked {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    check_beside(&main(include), &files)
}

/// Each complaint as `file:line:column code`.
fn places(found: &Checked) -> Vec<String> {
    found.diagnostics.iter().map(|one| format!("{}:{}", one.place.file, short(one))).collect()
}

/// The VIPs' names, of a valid configuration.
#[track_caller]
fn names(found: Checked) -> Vec<String> {
    assert!(found.diagnostics.is_empty(), "{}", found.diagnostics);
    found.config.expect("valid").vips.into_iter().map(|vip| vip.name).collect()
}

#[test]
fn reads_pools_and_vips_of_several_files_in_their_order() {
    let (c, a, b) = (vip("c", 3, "p"), vip("a", 1, "p"), vip("b", 2, "p"));
    let pool = pool("p", "10.0.0.1");
    let files =
        [("z.toml", &*c), ("d/2.toml", &b), ("d/10.toml", &a), ("d/.x.toml", "?"), ("d/x.txt", "?"), ("p", &pool)];
    assert_eq!(names(check("[\"z.toml\", \"d/*.toml\", \"p\"]", &files)), ["c", "a", "b"]);
    assert_eq!(names(check("[\"p\", \"./d/??.toml\", \"d/./?.toml\", \"z.toml\"]", &files)), ["a", "b", "c"]);
}

#[test]
fn a_file_is_read_once_at_its_first_name() {
    let (a, b) = (vip("a", 1, "p"), pool("p", "10.0.0.1") + &vip("b", 2, "p"));
    let files = [("a.toml", &*a), ("b.toml", &b), ("lb.toml", "?")];
    assert_eq!(names(check("[\"b.toml\", \"*.toml\", \"./a.toml\", \"a.toml\"]", &files)), ["b", "a"]);
}

#[test]
fn refuses_a_name_that_two_files_give_and_shows_both() {
    let (web, again) = (pool("web", "10.0.0.1") + &vip("web", 1, "web"), pool("web", "10.0.0.2"));
    let found = check("[\"a\", \"b\"]", &[("a", &web), ("b", &again)]);
    assert_eq!(
        found.diagnostics.to_string(),
        "error[duplicate]: pool web is given twice
 --> b:1:7
  |
1 | [pool.web]
  |       ^^^ again here
  |
 ::: a:1:7
  |
1 | [pool.web]
  |       --- first here
  |
  = help: give each pool its own name, over all files"
    );
    let again = vip("web", 1, "web");
    let found = check("[\"a\", \"b\"]", &[("a", &web), ("b", &again)]);
    assert_eq!(places(&found), ["b:2:8 duplicate", "b:3:11 duplicate"]);
    assert!(found.diagnostics.iter().all(|one| one.also.as_ref().is_some_and(|also| also.file == "a")));
}

#[test]
fn an_included_file_holds_pools_vips_and_templates_alone() {
    let text = format!("include = [\"a\"]\n{VALID}");
    let included = b"include = [\"a\"]\n[api]\nsocket = \"/x\"\n[pols.x]\n";
    assert_eq!(
        check_beside(&text, &[("a", included)]).diagnostics.to_string(),
        "error[unknown-key]: unknown key `include`
 --> a:1:1
  |
1 | include = [\"a\"]
  | ^^^^^^^ not a key of an included file
  |
  = help: `include` is a key of the main file

error[unknown-key]: unknown key `api`
 --> a:2:2
  |
2 | [api]
  |  ^^^ not a key of an included file
  |
  = help: `api` is a key of the main file

error[unknown-key]: unknown key `pols`
 --> a:4:2
  |
4 | [pols.x]
  |  ^^^^ not a key of an included file
  |
  = help: the keys of an included file are health, pool, vip"
    );
}

#[test]
fn places_name_the_included_file() {
    let text = pool("p", "10.0.0.1") + "encap = \"x\"\n" + &vip("v", 1, "q") + "deny_file = \"l\"\nallow = [1]\n";
    let found = check("[\"ok\", \"bad\"]", &[("ok", ""), ("bad", &text), ("l", "10.0.0.0/8\n?\n")]);
    assert_eq!(
        places(&found),
        ["bad:3:9 invalid-value", "bad:9:8 unknown-pool", "bad:11:10 wrong-type", "l:2:1 invalid-value"]
    );
}

#[test]
fn shows_all_that_is_wrong_in_an_included_file() {
    let wrong: Vec<String> = (0..60).map(|n| format!("x{n} = 1\n")).collect();
    let found = check("[\"a\"]", &[("a", &wrong.concat())]);
    assert_eq!(places(&found).iter().filter(|place| place.starts_with("a:")).count(), 60);
}

#[test]
fn says_nothing_of_what_follows_from_a_missing_file() {
    let files = [("a", "x = \n"), ("b", "[pool.x\n"), ("c", "\u{feff}[pool]")];
    let found = check("[\"a\", \"none\", \"b\", \"c\", \"n*\"]", &files);
    assert_eq!(
        places(&found),
        ["lb.toml:1:17 unreadable-file", "lb.toml:1:35 no-match", "a:1:5 syntax", "b:1:8 syntax"]
    );
}

#[test]
fn refuses_what_is_no_name_and_no_pattern() {
    let one = |include: &str, code: &str, place: &str, hint: &str| {
        refuses_found(&main(include), check(include, &[("a", "")]), code, place, hint);
    };
    let served = |include: &str| format!("include = {include}\n{VALID}");
    for (include, code, place, hint) in [
        ("\"a\"", "wrong-type", "\"a\"", "[\"a\"]"),
        ("[1]", "wrong-type", "1]", "quotes"),
        ("[\"\"]", "invalid-value", "\"\"", "the path of a file"),
        ("[\"lb.toml\"]", "invalid-value", "\"lb.toml\"", "main file is left out"),
        ("[\"./lb.toml\"]", "invalid-value", "\"./lb.toml\"", "main file is left out"),
        ("[\"d/**/*.toml\"]", "invalid-value", "\"d/**", "conf.d/*.toml"),
        ("[\"[a\"]", "invalid-value", "\"[a\"", "conf.d/*.toml"),
    ] {
        let text = served(include);
        refuses_found(&text, check_beside(&text, &[]), code, place, hint);
    }
    one("[\"b\"]", "unreadable-file", "\"b\"", "begins at the main file's folder");
}

#[test]
fn warns_of_a_pattern_that_matches_nothing() {
    let text = format!("include = [\"conf.d/*.toml\"]\n{VALID}");
    super::warns(&text, "no-match", "\"conf.d/*.toml\"", "begin at the main file's folder");
}

#[test]
fn reads_from_disk_what_the_bundle_holds() {
    let folder = folder(&[
        ("[x]/lb.toml", &main("[\"*.toml\", \"./conf.d/*.toml\", \"../more/?.toml\"]")),
        ("[x]/conf.d/b.toml", &vip("b", 2, "p")),
        ("[x]/conf.d/a.toml", &(vip("a", 1, "p") + "deny_file = \"conf.d/deny.txt\"\n")),
        ("[x]/conf.d/.c.toml", "?"),
        ("[x]/conf.d/deny.txt", "10.0.0.0/8\n"),
        ("linked", &vip("l", 3, "p")),
        ("more/p.toml", &pool("p", "10.0.0.1")),
    ]);
    std::os::unix::fs::symlink("../linked", folder.path().join("[x]/l.toml")).expect("a link");
    let reading = Bundle::read(&folder.path().join("[x]/lb.toml")).expect("a readable file");
    assert_eq!(reading.bundle.files.len(), 6);
    assert_eq!(names(reading.bundle.check()), ["l", "a", "b"]);
    assert_eq!(names(reading.checked), ["l", "a", "b"]);
    // In another folder it is the same.
    let [from, to] = [folder.path().display().to_string(), "/elsewhere".into()];
    let files = reading.bundle.files.iter();
    let files = files.map(|(name, text)| (name.display().to_string().replace(&from, &to).into(), text.clone()));
    let moved = Bundle { main: "/elsewhere/[x]/lb.toml".into(), files: files.collect() };
    assert_eq!(names(moved.check()), ["l", "a", "b"]);
    assert_eq!(moved.digest(), reading.bundle.digest());
}

#[test]
fn refuses_what_is_no_readable_text_and_says_why() {
    let folder =
        folder(&[("lb.toml", &main("[\"d\", \"none\", \"dead\", \"zero\", \"latin\", \"pipe\"]")), ("d/x", "")]);
    let path = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink("nowhere", path("dead")).expect("a link");
    std::os::unix::fs::symlink("/dev/zero", path("zero")).expect("a link");
    fs::write(path("latin"), b"# caf\xe9\n").expect("a file");
    rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let found = read(&folder).checked;
    let text = found.diagnostics.to_string();
    for label in [
        "Is a directory (os error 21)",
        "No such file or directory (os error 2)",
        "larger than 64 MiB",
        "a pipe, not a file",
        "latin:1:6",
    ] {
        assert!(text.contains(label), "{label}: {text}");
    }
    assert_eq!(found.diagnostics.summary(), "6 errors");
}

#[test]
fn reads_a_thousand_files() {
    let mut files = vec![("lb.toml".to_owned(), main("[\"d/*.toml\"]")), ("d/p.toml".into(), pool("p", "10.0.0.1"))];
    files.extend((1..=1000).map(|n| (format!("d/{n:04}.toml"), vip(&format!("v{n}"), n, "p"))));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let folder = folder(&files);
    let reading = read(&folder);
    let found = names(reading.checked);
    assert_eq!((found.len(), found.first().map(String::as_str)), (1000, Some("v1")));
    assert_eq!(reading.bundle.check().config.expect("valid").vips.len(), 1000);
}

#[test]
fn pools_of_all_files_are_known_to_all() {
    let text = format!("include = [\"a\"]\n{}", VALID.replace("pool = \"web\"", "pool = \"late\""));
    let included = vip("w", 1, "web") + &pool("late", "10.0.0.1");
    assert_eq!(names(check_beside(&text, &[("a", included.as_bytes())])), ["web", "w"]);
}
