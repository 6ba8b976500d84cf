//! What a pool says of health.

use super::{super::report::Setting, time};
use crate::model::{Ask, Authorities, Body, Check, Damping, Dns, Exec, Grpc, Health, Http, Passive, Tls, Trust, Udp};

/// Values that differ. A check that is of another type now, or gone, has no further keys but those that it has now.
pub(super) fn differing(old: &Health, new: &Health) -> Vec<Setting> {
    let mut settings = super::differing(&told(old), &told(new));
    let typed = |key: &str| key.strip_suffix(".type").map(|check| format!("{check}."));
    let retyped: Vec<String> = settings.iter().filter_map(|one| typed(&one.key)).collect();
    let went_with_it = |key: &str| typed(key).is_none() && retyped.iter().any(|check| key.starts_with(check));
    settings.retain(|one| one.to != "none" || !went_with_it(&one.key));
    settings
}

/// Keys and values in a fixed order. Those of several checks bear the check's name.
fn told(health: &Health) -> Vec<(String, String)> {
    let Health { checks, matching, damping, passive, agent, slow_start } = health;
    let mut told: Vec<(String, String)> = match checks.as_slice() {
        [] => vec![("health.type".into(), "none".into())],
        [one] => check(one).into_iter().map(|(key, value)| (format!("health.{key}"), value)).collect(),
        several => {
            let named = |one: &Check| {
                let name = one.name.clone();
                check(one).into_iter().map(move |(key, value)| (format!("health.{name}.{key}"), value))
            };
            several.iter().flat_map(named).collect()
        }
    };
    if checks.len() > 1 {
        told.push(("health_match".into(), matching.to_string()));
    }
    if let Some(Damping { flaps, within, hold_for }) = damping {
        told.push(("damping.flaps".into(), flaps.to_string()));
        told.push(("damping.within".into(), time(*within)));
        told.push(("damping.hold_for".into(), time(*hold_for)));
    }
    told.extend(passive.iter().flat_map(traffic));
    told.extend(agent.iter().flat_map(self::agent));
    told.push(("slow_start".into(), slow_start.map_or_else(|| "none".into(), time)));
    told
}

fn traffic(passive: &Passive) -> [(String, String); 5] {
    let Passive { window, min_new_flows, success_below, eject_for, max_ejected } = passive;
    [
        ("passive.window".into(), time(*window)),
        ("passive.min_new_flows".into(), min_new_flows.to_string()),
        ("passive.success_below".into(), format!("{success_below}%")),
        ("passive.eject_for".into(), time(*eject_for)),
        ("passive.max_ejected".into(), format!("{max_ejected}%")),
    ]
}

/// What is asked otherwise than of other agents; what all have in common is left out.
fn agent(agent: &Check) -> Vec<(String, String)> {
    let Check { ask, port, interval, timeout, .. } = agent;
    let port = port.map(|port| ("port", port.to_string()));
    let paced = [("interval", time(*interval)), ("timeout", time(*timeout))];
    let told = port.into_iter().chain(paced).chain(asked(ask));
    told.map(|(key, value)| (format!("agent.{key}"), value)).collect()
}

fn check(check: &Check) -> Vec<(&'static str, String)> {
    // Its name is the first thing that several are told apart by.
    let Check { name: _, ask, route, port, initial, interval, fast_interval, timeout, rise, fall } = check;
    let mut told = vec![("type", ask.kind().to_owned())];
    told.extend(asked(ask));
    // A program goes its own way.
    told.extend((!matches!(ask, Ask::Exec(_))).then(|| ("probe", route.to_string())));
    told.extend([
        ("port", port.map_or_else(|| "the VIP's".into(), |port| port.to_string())),
        ("initial", initial.to_string()),
        ("interval", time(*interval)),
        ("fast_interval", fast_interval.map_or_else(|| "none".into(), time)),
        ("timeout", time(*timeout)),
        ("rise", rise.to_string()),
        ("fall", fall.to_string()),
    ]);
    told
}

fn asked(ask: &Ask) -> Vec<(&'static str, String)> {
    match ask {
        Ask::Tcp => Vec::new(),
        Ask::Tls(asked) => tls(asked),
        Ask::Http(asked) => http(asked),
        Ask::Grpc(asked) => grpc(asked),
        Ask::Udp(Udp { send, expect }) => {
            let any = || "any answer, or none".into();
            vec![("send", send.to_string()), ("expect", expect.as_ref().map_or_else(any, ToString::to_string))]
        }
        Ask::Dns(Dns { query, query_type, expect_rcode, expect_answer, transport }) => vec![
            ("query", query.clone()),
            ("query_type", query_type.to_string()),
            ("expect_rcode", expect_rcode.to_string()),
            ("expect_answer", expect_answer.clone().unwrap_or_else(|| "any".into())),
            ("transport", transport.to_string()),
        ],
        Ask::Exec(Exec { argv, env }) => {
            let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let env = if env.is_empty() { "none".into() } else { env.join(" ") };
            vec![("argv", format!("{argv:?}")), ("env", env)]
        }
        Ask::Agent(send) => vec![("send", send.as_ref().map_or_else(|| "nothing".into(), ToString::to_string))],
    }
}

fn http(asked: &Http) -> Vec<(&'static str, String)> {
    let Http { method, path, host, headers, expect_status, expect_body, tls: encrypted } = asked;
    let range = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let ranges: Vec<String> = expect_status.iter().map(range).collect();
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut told = vec![
        ("method", method.name().to_owned()),
        ("path", path.clone()),
        ("host", host.clone().unwrap_or_else(|| "the VIP's address".into())),
        ("headers", if headers.is_empty() { "none".into() } else { headers.join(", ") }),
        ("expect_status", ranges.join(", ")),
    ];
    told.extend(expect_body.as_ref().map(|body| match body {
        Body::Text(text) => ("expect_body", text.clone()),
        Body::Match(pattern) => ("expect_body_regex", pattern.as_str().to_owned()),
    }));
    told.extend(encrypted.iter().flat_map(tls));
    told
}

fn grpc(asked: &Grpc) -> Vec<(&'static str, String)> {
    let Grpc { service, host, tls: encrypted } = asked;
    let mut told = vec![
        ("service", if service.is_empty() { "the server as a whole".into() } else { service.clone() }),
        ("host", host.clone().unwrap_or_else(|| "the VIP's address".into())),
        ("tls", encrypted.is_some().to_string()),
    ];
    told.extend(encrypted.iter().flat_map(tls));
    told
}

fn tls(asked: &Tls) -> Vec<(&'static str, String)> {
    let Tls { trust, sni } = asked;
    let (verify, authorities) = match trust {
        Trust::System => ("true", "the system's".into()),
        Trust::Anybody => ("false", "none".into()),
        Trust::Authorities(Authorities { file, digest, certificates }) => {
            // Enough of it to tell two of them apart.
            let [a, b, c, d, ..] = *digest;
            let digest = u32::from_be_bytes([a, b, c, d]);
            ("true", format!("{file} ({} certificates, SHA-256 {digest:08x}…)", certificates.len()))
        }
    };
    let sni = sni.clone().unwrap_or_else(|| "the host's or VIP's".into());
    vec![("verify", verify.into()), ("sni", sni), ("ca_file", authorities)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Payload;

    fn of(ask: Ask) -> Vec<(String, String)> {
        told(&Health { checks: vec![Check::of(ask)], ..Health::default() })
    }

    fn value<'a>(told: &'a [(String, String)], key: &str) -> &'a str {
        told.iter().find(|(known, _)| known == key).map_or("absent", |(_, value)| value)
    }

    #[test]
    fn tells_whose_certificates_are_taken() {
        let trusting = |trust| of(Ask::Http(Http { tls: Some(Tls { trust, sni: None }), ..Http::default() }));
        let blind = trusting(Trust::Anybody);
        assert_eq!((value(&blind, "health.type"), value(&blind, "health.verify")), ("https", "false"));
        let file = |digest| {
            let certificates = [vec![0], vec![1]].into();
            trusting(Trust::Authorities(Authorities { file: "ca.pem".into(), digest: [digest; 32], certificates }))
        };
        assert_eq!(value(&file(1), "health.ca_file"), "ca.pem (2 certificates, SHA-256 01010101…)");
        assert_ne!(file(1), file(2), "another file under the same name is a difference");
        assert_eq!(value(&trusting(Trust::System), "health.ca_file"), "the system's");
        assert_eq!(value(&of(Ask::Http(Http::default())), "health.verify"), "absent");
    }

    #[test]
    fn keys_of_a_type_that_is_gone_go_without_a_word() {
        let health = |checks: &[Check]| Health { checks: checks.to_vec(), ..Health::default() };
        let check = |ask, port| Check { port: Some(port), ..Check::of(ask) };
        let told = |old: &[Check], new: &[Check]| -> Vec<String> {
            let settings = differing(&health(old), &health(new)).into_iter();
            settings.map(|Setting { key, from, to }| format!("{key} {from} -> {to}")).collect()
        };
        let (http, tcp) = (check(Ask::Http(Http::default()), 80), check(Ask::Tcp, 81));
        let http = std::slice::from_ref(&http);
        assert_eq!(told(http, &[tcp]), ["health.type http -> tcp", "health.port 80 -> 81"]);
        assert_eq!(told(http, &[]), ["health.type http -> none"]);
        let exec = Exec { argv: vec!["/bin/check".into()], env: BTreeMap::new() };
        let mends = ["health.type http -> exec", "health.argv none -> [\"/bin/check\"]"];
        assert_eq!(told(http, &[check(Ask::Exec(exec), 80)]), mends);
    }

    #[test]
    fn tells_what_agents_are_asked() {
        let agent = Some(Check::of_agent(9707, Some(Payload(b"web\n".into()))));
        let told = told(&Health { agent, ..Health::default() });
        for (key, wanted) in [
            ("health.type", "none"),
            ("agent.port", "9707"),
            ("agent.interval", "2s"),
            ("agent.timeout", "1s"),
            ("agent.send", "\"hex:7765620a\""),
        ] {
            assert_eq!(value(&told, key), wanted);
        }
    }

    #[test]
    fn tells_what_is_asked_and_expected() {
        let headers = [("X-Check", "lb"), ("Accept", "*/*")].map(|(name, value)| (name.into(), value.into()));
        let expect_body = Some(Body::Text("ready".into()));
        let http = of(Ask::Http(Http { headers: headers.into(), expect_body, ..Http::default() }));
        for (key, wanted) in [
            ("health.method", "GET"),
            ("health.headers", "Accept: */*, X-Check: lb"),
            ("health.expect_status", "200-299"),
            ("health.expect_body", "ready"),
        ] {
            assert_eq!(value(&http, key), wanted);
        }
        let grpc = of(Ask::Grpc(Grpc::default()));
        assert_eq!(value(&grpc, "health.service"), "the server as a whole");
        assert_eq!((value(&grpc, "health.tls"), value(&grpc, "health.verify")), ("false", "absent"));
    }
}
