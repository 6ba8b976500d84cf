//! Rules of `[pool.NAME.passive]`.

use std::time::Duration;

use super::{VALID, refuses, valid, warns, with};
use crate::model::Passive;

/// The valid file with this section, and with a share that is one of two backends unless `keys` have another.
fn passive(keys: &str) -> String {
    let share = if keys.contains("max_ejected") { "" } else { "max_ejected = \"50%\"" };
    with("#health", &format!("[pool.web.passive]\n{keys}\n{share}"))
}

#[test]
fn reads_passive_health_and_fills_in_what_is_left_out() {
    assert_eq!(valid(VALID).pools["web"].health.passive, None);
    let defaults = Passive {
        window: Duration::from_secs(10),
        min_new_flows: 20,
        success_below: 50,
        eject_for: Duration::from_secs(30),
        max_ejected: 50,
    };
    assert_eq!(valid(&passive("")).pools["web"].health.passive, Some(defaults));
    let keys =
        "window = \"1m\"\nmin_new_flows = 100\nsuccess_below = \"90%\"\neject_for = \"1h\"\nmax_ejected = \"100%\"";
    let wanted = Passive {
        window: Duration::from_mins(1),
        min_new_flows: 100,
        success_below: 90,
        eject_for: Duration::from_hours(1),
        max_ejected: 100,
    };
    let pool = valid(&passive(keys)).pools.remove("web").unwrap();
    assert_eq!((pool.health.passive, pool.health.is_watched()), (Some(wanted), true));
    let alone = passive("").replace("[pool.web.health]\ntype = \"http\"", "");
    assert!(valid(&alone).pools["web"].health.is_watched(), "passive health needs no checks");
}

#[test]
fn refuses_values_out_of_range() {
    for (key, value, hint) in [
        ("window", "\"500ms\"", "\"1s\" to \"1m\""),
        ("window", "\"2m\"", "\"1s\" to \"1m\""),
        ("min_new_flows", "9", "10 to 1000000"),
        ("success_below", "\"0%\"", "\"1%\" to \"99%\""),
        ("success_below", "\"100%\"", "\"1%\" to \"99%\""),
        ("eject_for", "\"0s\"", "\"1s\" to \"1h\""),
        ("max_ejected", "\"0%\"", "\"1%\" to \"100%\""),
    ] {
        let text = if key == "max_ejected" {
            // What it would be without the key is too little for two backends, which is another complaint.
            passive(&format!("{key} = {value}")).replace(
                "#backend",
                "{ name = \"web-3\", address = \"10.0.0.13\" }, { name = \"web-4\", address = \"10.0.0.14\" }",
            )
        } else {
            passive(&format!("{key} = {value}"))
        };
        refuses(&text, "out-of-range", value, hint);
    }
    refuses(&passive("success_below = \"half\""), "invalid-value", "\"half\"", "percentage");
    refuses(&passive("window = 10"), "wrong-type", "10", "\"10s\"");
    refuses(&passive("max_eject = \"50%\"\nmax_ejected = \"50%\""), "unknown-key", "max_eject ", "max_ejected");
}

#[test]
fn warns_of_a_share_that_ejects_nobody() {
    warns(&passive("max_ejected = \"49%\""), "no-effect", "\"49%\"", "at least \"50%\"");
    let section = with("#health", "[pool.web.passive]");
    warns(&section, "no-effect", "[pool.web.passive]", "at least \"50%\"");
    let third = section.replace("#backend", "{ name = \"web-3\", address = \"10.0.0.13\" },");
    warns(&third, "no-effect", "[pool.web.passive]", "at least \"34%\"");
    let drained = third.replace("\"10.0.0.13\"", "\"10.0.0.13\", state = \"drain\"");
    warns(&drained, "no-effect", "[pool.web.passive]", "at least \"50%\"");
    let alone = passive("").replace("\"10.0.0.12\"", "\"10.0.0.12\", weight = 0");
    warns(&alone, "no-effect", "\"50%\"", "second backend");
}

#[test]
fn warns_where_no_handshake_is_seen() {
    let untracked = passive("").replace("#vip", "flow_tracking = \"off\"");
    warns(&untracked, "no-effect", "\"off\"", "always");
    let no_checks = passive("").replace("[pool.web.health]\ntype = \"http\"", "");
    let udp = no_checks.replace("protocol = \"tcp\"", "protocol = \"udp\"");
    warns(&udp, "no-effect", "[pool.web.passive]", "remove the section");
    let vip = "[[vip]]\nname = \"quic\"\naddress = \"192.0.2.10\"\nport = 443\nprotocol = \"udp\"\npool = \"web\"";
    assert_eq!(valid(&no_checks.replace("#end", vip)).vips.len(), 2, "one of them serves TCP");
}
