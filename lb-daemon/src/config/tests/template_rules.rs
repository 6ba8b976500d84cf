//! Rules of `[health.NAME]`, and how a pool's check comes together.

use std::time::Duration;

use super::{VALID, check_beside, complaints, refuses, short, valid, warns};
use crate::model::{Ask, Check, Http, Route};

/// The valid file with this instead of the pool's health section, and these templates.
fn file(health: &str, templates: &str) -> String {
    let section = "[pool.web.health]\ntype = \"http\"\n#health\n";
    assert!(VALID.contains(section));
    VALID.replace(section, health).replace("#end", templates)
}

/// The check of a pool with this in its health section, over these templates.
fn merged(own: &str, templates: &str) -> Check {
    valid(&file(&format!("[pool.web.health]\n{own}\n"), templates)).pools["web"].health.checks[0].clone()
}

const FAST: &str =
    "[health.fast]\ntype = \"http\"\npath = \"/up\"\ninterval = \"500ms\"\ntimeout = \"200ms\"\nfall = 2";
const DEFAULT: &str = "[health.default]\ntype = \"tcp\"\ninterval = \"10s\"\nrise = 5\nport = 81";

#[test]
fn a_pool_takes_its_whole_check_from_a_template() {
    let section = FAST.replace("[health.fast]", "[pool.web.health]") + "\n";
    let written_out = valid(&file(&section, "")).pools;
    assert_eq!(valid(&file("health = \"fast\"\n", FAST)).pools, written_out);
    assert_eq!(valid(&file("[pool.web.health]\ntemplate = \"fast\"\n", FAST)).pools, written_out);
    assert_eq!(valid(&file("health = { template = \"fast\" }\n", FAST)).pools, written_out);
}

#[test]
fn the_pools_keys_come_before_the_templates_and_these_before_the_default() {
    let health = merged("template = \"fast\"\nfall = 9\npath = \"/own\"", &format!("{FAST}\n{DEFAULT}"));
    let ask = Ask::Http(Http { path: "/own".into(), ..Http::default() });
    let (interval, timeout) = (Duration::from_millis(500), Duration::from_millis(200));
    let (route, fast_interval) = (Route::VipIfPossible, Some(interval / 2));
    assert_eq!(
        health,
        Check { route, fast_interval, port: Some(81), interval, timeout, rise: 5, fall: 9, ..Check::of(ask) }
    );
}

#[test]
fn the_default_holds_for_sections_that_name_no_template() {
    let health = merged("fall = 9", DEFAULT);
    assert_eq!((health.ask, health.rise, health.fall, health.port), (Ask::Tcp, 5, 9, Some(81)));
    let health = valid(&file("health = \"default\"\n", DEFAULT)).pools["web"].health.checks[0].clone();
    assert_eq!((health.ask, health.rise), (Ask::Tcp, 5));
}

#[test]
fn a_pool_without_a_section_has_no_check() {
    let text = file("", DEFAULT);
    warns(&text, "unused-template", "default", "write `health = \"default\"`");
    let found = check_beside(&text, &[]).config.expect("valid");
    assert!(found.pools["web"].health.checks.is_empty());
}

#[test]
fn refuses_a_template_that_is_not_there() {
    for (health, place) in
        [("health = \"fsat\"\n", "\"fsat\""), ("[pool.web.health]\ntemplate = \"fsat\"\n", "\"fsat\"")]
    {
        refuses(&file(health, FAST), "unknown-template", place, "did you mean \"fast\"?");
    }
    refuses(&file("health = \"tcp\"\n", ""), "unknown-template", "\"tcp\"", "write `health = { type = \"tcp\" }`");
    refuses(&file("health = \"other\"\n", ""), "unknown-template", "\"other\"", "add a [health.other]");
    refuses(&file("health = \"default\"\n", ""), "unknown-template", "\"default\"", "add a [health.default]");
    refuses(&file("health = 1\n", ""), "wrong-type", "1", "type = \"tcp\"");
}

#[test]
fn warns_of_a_template_that_no_pool_uses() {
    let text = file("health = \"fast\"\n", &format!("{FAST}\n[health.slow]\ntype = \"tcp\""));
    warns(&text, "unused-template", "slow", "remove the template");
}

#[test]
fn refuses_keys_that_a_template_cannot_have() {
    let text = file("health = \"fast\"\n", &format!("{FAST}\ntemplate = \"fast\""));
    refuses(&text, "unknown-key", "template", "`template` is a key of [pool.NAME.health]");
    let text = file("health = \"a b\"\n", "[health.\"a b\"]\ntype = \"tcp\"");
    refuses(&text, "invalid-value", "\"a b\"]", "letters, digits");
}

#[test]
fn complains_once_and_where_the_value_was_written() {
    let pools =
        "health = \"fast\"\n[pool.more]\nhealth = \"fast\"\nbackends = [{ name = \"b\", address = \"10.0.0.2\" }]\n";
    let routes = "#vip\nsource_routes = [{ source = \"10.0.0.0/8\", pool = \"more\" }]";
    let text = file(pools, FAST).replace("#vip", routes);
    valid(&text);
    refuses(&text.replace("fall = 2", "fall = 0"), "out-of-range", "0", "from 1 to 100");
    // One that no pool looks at too.
    let text = file("", &FAST.replace("500ms", "500"));
    assert_eq!(complaints(&text), ["19:9 unused-template", "22:12 invalid-value"]);
}

#[test]
fn a_check_needs_a_type_in_one_of_the_places() {
    let partly = "[health.partly]\nrise = 1";
    refuses(&file("health = \"partly\"\n", partly), "missing-key", "\"partly\"", "type = \"tcp\"");
    assert_eq!(merged("template = \"partly\"\ntype = \"tcp\"", partly).rise, 1);
}

#[test]
fn keys_meant_for_another_type_below_are_passed_over() {
    assert_eq!(merged("template = \"fast\"\ntype = \"tcp\"", FAST).ask, Ask::Tcp);
    let none = valid(&file("[pool.web.health]\ntemplate = \"fast\"\ntype = \"none\"\n", FAST));
    assert!(none.pools["web"].health.checks.is_empty());
    // What stands above it, or beside, is not.
    let text = file("[pool.web.health]\npath = \"/own\"\n", DEFAULT);
    assert_eq!(
        check_beside(&text, &[]).diagnostics.to_string(),
        "error[conflict]: `path` is for `type = \"http\" or \"https\"`, not \"tcp\"
  --> lb.toml:13:1
   |
13 | path = \"/own\"
   | ^^^^
...
22 | type = \"tcp\"
   | ---- `type` is from here
   |
   = help: remove `path`, or change `type`"
    );
    refuses(&file("health = \"fast\"\n", &FAST.replace("\"http\"", "\"tcp\"")), "conflict", "path", "remove `path`");
}

#[test]
fn timeout_and_interval_are_compared_after_merging() {
    let slow = "[health.slow]\ntype = \"tcp\"\ntimeout = \"5s\"";
    assert_eq!(merged("template = \"slow\"\ninterval = \"5s\"", slow).timeout, Duration::from_secs(5));
    // By itself the template says nothing wrong; where it is used without a longer interval, it does.
    refuses(&file("health = \"slow\"\n", slow), "conflict", "\"5s\"", "at most \"2s\"");
    let text = file("[pool.web.health]\ntemplate = \"slow\"\ninterval = \"3s\"\n", slow);
    refuses(&text, "conflict", "\"3s\"", "at least \"5s\"");
}

#[test]
fn fast_interval_and_interval_are_compared_after_merging() {
    let slow = "[health.slow]\ntype = \"tcp\"\nfast_interval = \"5s\"";
    let fast = merged("template = \"slow\"\ninterval = \"5s\"", slow).fast_interval;
    assert_eq!(fast, Some(Duration::from_secs(5)));
    refuses(&file("health = \"slow\"\n", slow), "conflict", "\"5s\"", "`fast_interval` at most \"2s\"");
    let text = file("[pool.web.health]\ntemplate = \"slow\"\ninterval = \"3s\"\n", slow);
    refuses(&text, "conflict", "\"3s\"", "at least \"5s\", or a shorter `fast_interval`");
}

#[test]
fn templates_of_all_files_are_known_to_all_and_named_once() {
    let text = format!("include = [\"a\"]\n{}", file("health = \"fast\"\n", "[health.own]\nrise = 1"));
    let pool = "[pool.late]\nbackends = [{ name = \"b\", address = \"10.0.0.1\" }]\nhealth = { template = \"own\", type = \"none\" }\n";
    let vip = "[[vip]]\nname = \"v\"\naddress = \"192.0.2.1\"\nport = 1\nprotocol = \"tcp\"\npool = \"late\"\n";
    let found = |included: &str| check_beside(&text, &[("a", included.as_bytes())]);
    let whole = format!("{pool}{vip}{FAST}\n");
    let valid = found(&whole);
    assert!(valid.diagnostics.is_empty(), "{}", valid.diagnostics);
    assert_eq!(valid.config.expect("valid").pools["web"].health.checks[0].fall, 2);
    let twice = found(&(whole.clone() + "[health.own]\n")).diagnostics;
    let [one] = twice.iter().collect::<Vec<_>>()[..] else { panic!("{twice}") };
    assert_eq!((short(one).as_str(), one.place.file.as_str()), ("16:9 duplicate", "a"));
    assert_eq!(one.also.as_ref().map(|also| also.file.as_str()), Some("lb.toml"));
    let wrong = found(&whole.replace("\"/up\"", "\"up\"")).diagnostics;
    let [one] = wrong.iter().collect::<Vec<_>>()[..] else { panic!("{wrong}") };
    assert_eq!((short(one).as_str(), one.place.file.as_str()), ("12:8 invalid-value", "a"));
}
