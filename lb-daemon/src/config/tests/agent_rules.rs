//! Rules of `[pool.NAME.agent]`.

use std::time::Duration;

use super::{VALID, refuses, valid, warns, with};
use crate::model::{Check, Payload};

fn agent(keys: &str) -> String {
    with("#health", &format!("[pool.web.agent]\n{keys}"))
}

fn read(keys: &str) -> Option<Check> {
    valid(&agent(keys)).pools["web"].health.agent.clone()
}

#[test]
fn reads_what_agents_are_asked_and_fills_in_what_is_left_out() {
    assert_eq!(valid(VALID).pools["web"].health.agent, None);
    let plain = Check::of_agent(9707, None);
    assert_eq!((plain.interval, plain.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!(read("port = 9707"), Some(plain.clone()));
    let [interval, timeout] = [10, 3].map(Duration::from_secs);
    let wanted = Check { interval, timeout, ..Check::of_agent(9707, Some(Payload(b"a\n".into()))) };
    assert_eq!(read("port = 9707\nsend = \"a\\n\"\ninterval = \"10s\"\ntimeout = \"3s\""), Some(wanted));
    let half = Duration::from_millis(500);
    assert_eq!(read("port = 9707\ninterval = \"500ms\""), Some(Check { interval: half, timeout: half, ..plain }));
    let alone = agent("port = 9707").replace("[pool.web.health]\ntype = \"http\"", "");
    assert!(valid(&alone).pools["web"].health.is_watched(), "an agent needs no checks beside it");
    let damped = alone.replace("[pool.web.agent]", "[pool.web.damping]\n[pool.web.agent]");
    assert!(valid(&damped).pools["web"].health.damping.is_some(), "an agent may flap too");
}

#[test]
fn refuses_what_makes_no_sense() {
    refuses(&agent("interval = \"2s\""), "missing-key", "[pool.web.agent]", "`port = 9707`");
    let one = with("#health", "").replace("[pool.web.health]", "agent = 9707\n[pool.web.health]");
    refuses(&one, "wrong-type", "9707", "a table: [pool.NAME.agent]");
    refuses(&agent("port = 0"), "out-of-range", "0", "1 to 65535");
    refuses(&agent("port = 9707\ninterval = \"10ms\""), "out-of-range", "\"10ms\"", "\"100ms\" to \"1h\"");
    refuses(&agent("port = 9707\ntimeout = \"3s\""), "conflict", "\"3s\"", "at most \"2s\"");
    refuses(&agent("port = 9707\nsend = \"\""), "invalid-value", "\"\"", "write some text");
    refuses(&agent("port = 9707\nrise = 2"), "unknown-key", "rise", "");
    refuses(&agent("port = 9707").replace("[pool.web.agent]", "[pool.web.agents]"), "unknown-key", "agents", "agent");
    let named = agent("port = 9707").replace("type = \"http\"", "type = \"http\"\nname = \"agent\"");
    refuses(&named, "duplicate", "[pool.web.health]", "another `name`");
    valid(&named.replace("[pool.web.agent]\nport = 9707", ""));
}

#[test]
fn damping_without_anything_to_damp_is_told() {
    let nothing = with("#health", "[pool.web.damping]").replace("[pool.web.health]\ntype = \"http\"", "");
    warns(&nothing, "no-effect", "damping", "add a health check");
}
