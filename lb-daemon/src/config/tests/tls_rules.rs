//! Rules of checks that speak TLS, and of files with certificates of authorities.

use certificates::Authority;

use super::{VALID, check_beside, refuses, refuses_found, valid, with};
use crate::{
    config::Checked,
    model::{Ask, Authorities, Config, Http, Tls, Trust},
};

/// A certificate of an authority.
fn pem() -> String {
    Authority::new().unwrap().pem()
}

/// The file with a check of this type, and this line.
fn check(kind: &str, line: &str) -> String {
    with("type = \"http\"", &format!("type = \"{kind}\"\n{line}"))
}

/// What is found with a `ca_file` of this contents.
fn found(text: &str, file: &str) -> Checked {
    check_beside(text, &[("ca.pem", file.as_bytes())])
}

fn asked(config: &Config) -> Ask {
    config.pools["web"].health.checks[0].ask.clone()
}

#[test]
fn tls_and_https_verify_with_the_systems_authorities_unless_told_otherwise() {
    assert_eq!(asked(&valid(&check("tls", ""))), Ask::Tls(Tls { trust: Trust::System, sni: None }));
    let Ask::Http(Http { tls: Some(tls), path, .. }) = asked(&valid(&check("https", "path = \"/x\""))) else {
        panic!("no https");
    };
    assert_eq!((tls, path.as_str()), (Tls::default(), "/x"));
    let blind = asked(&valid(&check("tls", "verify = false\nsni = \"a.example\"")));
    assert_eq!(blind, Ask::Tls(Tls { trust: Trust::Anybody, sni: Some("a.example".into()) }));
    assert_eq!(asked(&valid(&check("https", ""))).kind(), "https");
}

#[test]
fn takes_the_certificates_of_a_file() {
    let text = check("tls", "ca_file = \"ca.pem\"");
    let (one, other) = (pem(), pem());
    let authorities = |file: &str| {
        let Checked { config, diagnostics } = found(&text, file);
        assert!(diagnostics.is_empty(), "{diagnostics}");
        let Ask::Tls(Tls { trust: Trust::Authorities(found), .. }) = asked(&config.unwrap()) else { panic!("none") };
        found
    };
    let both = authorities(&format!("# Ours\r\n{one}\nand theirs:\n{other}"));
    assert_eq!((both.certificates.len(), both.file.as_str()), (2, "ca.pem"));
    assert_eq!(authorities(&one).certificates[0], both.certificates[0]);
    // What else is in the file makes no difference, what certificates it has does.
    assert_eq!(authorities(&one), authorities(&format!("# {one}")));
    assert_ne!(authorities(&one), authorities(&other));
}

#[test]
fn refuses_files_without_certificates_that_can_be_used() {
    let text = check("https", "ca_file = \"ca.pem\"");
    for empty in ["", "\n", "no PEM", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"] {
        refuses_found(&text, found(&text, empty), "invalid-value", "\"ca.pem\"", "in PEM form");
    }
    let good = pem();
    let refused =
        |file: &str, line: &str, hint: &str| refuses_found(file, found(&text, file), "invalid-value", line, hint);
    let begin = "-----BEGIN CERTIFICATE-----";
    refused(&format!("{good}{begin}\nAAAA\n-----END CERTIFICATE-----\n"), begin, "openssl x509");
    refused(&format!("{good}{begin}\nAAAA\n"), begin, "openssl x509");
    refused(&format!("{begin}\n*\n-----END CERTIFICATE-----\n{good}"), begin, "openssl x509");
    let key = Authority::new().unwrap().sign(&["a"]).unwrap().key;
    refused(&format!("{good}{key}"), "-----BEGIN PRIVATE KEY-----", "certificates alone");
    let shown = found(&text, &key).diagnostics.to_string();
    assert!(!shown.contains(key.lines().nth(1).unwrap()), "the key is shown:\n{shown}");
    let missing = check("tls", "ca_file = \"none.pem\"");
    refuses(&missing, "unreadable-file", "\"none.pem\"", "readable text file");
    refuses(&check("tls", "ca_file = \"\""), "invalid-value", "\"\"", "give the path");
    let found = check_beside(&text, &[("ca.pem", b"\xff")]).diagnostics.to_string();
    assert!(found.contains("UTF-8"), "{found}");
}

#[test]
fn a_file_that_many_name_is_complained_about_once() {
    let template = "[health.t]\ntype = \"tls\"\nca_file = \"ca.pem\"\n[dataplane]";
    let text = with("[dataplane]", template).replace("type = \"http\"", "template = \"t\"");
    let pool = "[pool.b]\nhealth = \"t\"\nbackends = [{ name = \"a\", address = \"10.0.0.1\" }]\n";
    let vip = "[[vip]]\nname = \"b\"\naddress = \"192.0.2.11\"\nport = 1\nprotocol = \"tcp\"\npool = \"b\"";
    let text = text.replace("#end", &format!("{pool}{vip}"));
    refuses_found(&text, found(&text, ""), "invalid-value", "\"ca.pem\"", "in PEM form");
    let config = found(&text, &pem()).config.expect("valid");
    let certificates = |pool: &str| match &config.pools[pool].health.checks[0].ask {
        Ask::Tls(Tls { trust: Trust::Authorities(Authorities { certificates, .. }), .. }) => certificates.clone(),
        other => panic!("{other:?}"),
    };
    assert!(std::sync::Arc::ptr_eq(&certificates("web"), &certificates("b")), "the certificates are kept twice");
}

#[test]
fn refuses_names_that_no_certificate_has() {
    for name in ["", "a b", "https://www.example.org", "www.example.org:443", "*.example.org", "[::1]"] {
        let text = check("tls", &format!("sni = \"{name}\""));
        refuses(&text, "invalid-value", &format!("\"{name}\""), "\"www.example.org\"");
    }
    for name in ["www.example.org", "localhost", "192.0.2.10", "2001:db8::1"] {
        valid(&check("tls", &format!("sni = \"{name}\"")));
    }
}

#[test]
fn refuses_authorities_for_who_trusts_anybody() {
    let text = check("tls", "verify = false\nca_file = \"ca.pem\"");
    refuses_found(&text, found(&text, &pem()), "conflict", "\"ca.pem\"", "remove `verify`");
    let text = check("https", "verify = true\nca_file = \"ca.pem\"");
    assert!(found(&text, &pem()).config.is_some());
    let template = |below: &str, own: &str| {
        VALID
            .replace("[dataplane]\n", &format!("[health.default]\n{below}\n[dataplane]\n"))
            .replace("type = \"http\"", &format!("type = \"tls\"\n{own}"))
    };
    // A pool may trust anybody where others have authorities, but not have some and inherit that they do not count.
    let text = template("ca_file = \"ca.pem\"", "verify = false");
    let config = found(&text, &pem()).config.expect("valid");
    assert_eq!(asked(&config), Ask::Tls(Tls { trust: Trust::Anybody, sni: None }));
    let text = template("verify = false", "ca_file = \"ca.pem\"");
    refuses_found(&text, found(&text, &pem()), "conflict", "\"ca.pem\"", "remove `verify`");
}

#[test]
fn refuses_keys_of_tls_in_other_checks() {
    for line in ["verify = true", "sni = \"a\""] {
        let key = line.split(' ').next().unwrap();
        for kind in ["tcp", "http"] {
            refuses(&check(kind, line), "conflict", key, &format!("remove `{key}`"));
        }
    }
    refuses(&check("tls", "path = \"/\""), "conflict", "path", "remove `path`");
}
