//! Rules of gRPC checks.

use super::{check_beside, refuses, refuses_found, valid, with};
use crate::model::{Ask, Config, Grpc, Tls, Trust};

/// The file with such a check, and these lines.
fn check(lines: &str) -> String {
    with("type = \"http\"", &format!("type = \"grpc\"\n{lines}"))
}

fn asked(config: &Config) -> Grpc {
    let Ask::Grpc(grpc) = &config.pools["web"].health.checks[0].ask else { panic!("no grpc") };
    grpc.clone()
}

#[test]
fn grpc_asks_for_the_server_as_a_whole_in_plaintext_unless_told_otherwise() {
    assert_eq!(asked(&valid(&check(""))), Grpc::default());
    let grpc = asked(&valid(&check("service = \"shop.v1.Cart\"\nhost = \"shop.example\"\ntls = true")));
    let tls = Some(Tls::default());
    assert_eq!(grpc, Grpc { service: "shop.v1.Cart".into(), host: Some("shop.example".into()), tls });
    let blind = asked(&valid(&check("tls = true\nverify = false"))).tls.unwrap();
    assert_eq!(blind.trust, Trust::Anybody);
}

#[test]
fn refuses_keys_of_tls_in_a_grpc_check_without() {
    for line in ["sni = \"a\"", "verify = true", "sni = \"a\"\ntls = false"] {
        let key = line.split(' ').next().unwrap();
        refuses(&check(line), "conflict", key, "add `tls = true`");
    }
    // A template may have them for others.
    let template = "[health.default]\nsni = \"a\"\n[dataplane]";
    let text = check("").replace("[dataplane]", template);
    assert_eq!(asked(&valid(&text)), Grpc::default());
}

#[test]
fn refuses_services_that_have_no_such_name() {
    let long = "x".repeat(256);
    for name in ["a b", "é", &long] {
        refuses(&check(&format!("service = \"{name}\"")), "invalid-value", &format!("\"{name}\""), "\"shop.v1.Cart\"");
    }
    refuses(&check("tls = \"yes\""), "wrong-type", "\"yes\"", "true or false");
}

#[test]
fn refuses_keys_of_grpc_in_other_checks_and_theirs_in_it() {
    for line in ["service = \"a\"", "tls = true"] {
        let key = line.split(' ').next().unwrap();
        let text = with("type = \"http\"", &format!("type = \"https\"\n{line}"));
        refuses(&text, "conflict", key, &format!("remove `{key}`"));
    }
    let text = check("path = \"/\"");
    refuses_found(&text, check_beside(&text, &[]), "conflict", "path", "remove `path`");
}
