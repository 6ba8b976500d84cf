//! Rules of health checks by datagrams and of name servers.

use super::{VALID, refuses, valid, warns, with};
use crate::model::{Ask, Dns, Payload, Rcode, RecordType, Transport, Udp};

/// The valid file with a check of this type, which asks a port of its own.
fn checked(kind: &str, lines: &str) -> String {
    with("type = \"http\"", &format!("type = \"{kind}\"\nport = 9\n{lines}"))
}

fn asked(text: &str) -> Ask {
    valid(text).pools["web"].health.checks[0].ask.clone()
}

#[test]
fn datagrams_are_text_or_hexadecimal_digits() {
    let sent = |given: &str| match asked(&checked("udp", &format!("send = \"x\"\nexpect = {given}"))) {
        Ask::Udp(Udp { send, expect }) => {
            assert_eq!(send, Payload(b"x".into()));
            expect.unwrap().0
        }
        other => panic!("{other:?}"),
    };
    for (given, bytes) in [
        ("\"ping\"", &b"ping"[..]),
        ("\"a\\r\\n\\u0000\"", b"a\r\n\0"),
        ("'a\\n'", b"a\\n"),
        ("\"hex:00ff0A\"", b"\x00\xff\x0a"),
        ("\"hex:00 ff 0a\"", b"\x00\xff\x0a"),
    ] {
        assert_eq!(sent(given), bytes, "{given}");
    }
    assert_eq!(sent(&format!("\"{}\"", "x".repeat(1024))).len(), 1024);
}

#[test]
fn refuses_datagrams_without_bytes_or_with_too_many() {
    let send = |given: &str| checked("udp", &format!("send = {given}"));
    refuses(&send("\"\""), "invalid-value", "\"\"", "hexadecimal digits");
    refuses(&send("\"hex:\""), "invalid-value", "\"hex:\"", "hexadecimal digits");
    refuses(&send("\"hex:0\""), "invalid-value", "\"hex:0\"", "two hexadecimal digits for each byte");
    refuses(&send("\"hex:0g\""), "invalid-value", "\"hex:0g\"", "two hexadecimal digits for each byte");
    refuses(&send(&format!("\"{}\"", "x".repeat(1025))), "invalid-value", "\"xxx", "at most 1024");
    refuses(&checked("udp", "expect = \"x\""), "missing-key", "[pool.web.health]", "send = \"ping\"");
}

#[test]
fn a_name_server_is_asked_for_an_address_by_a_datagram_unless_it_says_otherwise() {
    let usual = Dns {
        query: "www.example.org".into(),
        query_type: RecordType::A,
        expect_rcode: Rcode::NoError,
        expect_answer: None,
        transport: Transport::Udp,
    };
    assert_eq!(asked(&checked("dns", "query = \"www.example.org\"")), Ask::Dns(usual));
    let lines = "query = \"_sip._tcp.example.org.\"\nquery_type = \"SRV\"\nexpect_rcode = \"NXDOMAIN\"\n\
                 expect_answer = \"0 5 5060 sip.example.org\"\ntransport = \"tcp\"";
    let other = Dns {
        query: "_sip._tcp.example.org.".into(),
        query_type: RecordType::Srv,
        expect_rcode: Rcode::NxDomain,
        expect_answer: Some("0 5 5060 sip.example.org".into()),
        transport: Transport::Tcp,
    };
    assert_eq!(asked(&checked("dns", lines)), Ask::Dns(other));
}

#[test]
fn refuses_questions_that_a_message_cannot_carry() {
    let query = |name: &str| checked("dns", &format!("query = \"{name}\""));
    for (name, hint) in [
        ("", "www.example.org"),
        ("a..b", "www.example.org"),
        (".a", "www.example.org"),
        ("a b", "xn--"),
        ("bücher.example", "xn--"),
        (&"x".repeat(64), "www.example.org"),
        (&"x.".repeat(128), "www.example.org"),
    ] {
        refuses(&query(name), "invalid-value", &format!("\"{name}\""), hint);
    }
    for name in [".", "example.org.", &"x".repeat(63), &"x.".repeat(127)] {
        valid(&query(name));
    }
    refuses(&checked("dns", ""), "missing-key", "[pool.web.health]", "query = ");
}

#[test]
fn refuses_other_words_for_questions_and_answers() {
    let with_line = |line: &str| checked("dns", &format!("query = \"a\"\n{line}"));
    refuses(&with_line("query_type = \"AAA\""), "invalid-value", "\"AAA\"", "did you mean \"AAAA\"?");
    refuses(&with_line("expect_rcode = \"NXDOMIAN\""), "invalid-value", "\"NXDOMIAN\"", "did you mean \"NXDOMAIN\"?");
    refuses(&with_line("expect_rcode = \"5\""), "invalid-value", "\"5\"", "\"NOERROR\", \"FORMERR\"");
    refuses(&with_line("transport = \"tls\""), "invalid-value", "\"tls\"", "\"udp\" or \"tcp\"");
    refuses(&with_line("expect_answer = \"\""), "invalid-value", "\"\"", "192.0.2.1");
    refuses(&with_line("expect = \"x\""), "conflict", "expect", "remove `expect`");
    refuses(&checked("udp", "send = \"x\"\nquery = \"a\""), "conflict", "query", "remove `query`");
}

#[test]
fn warns_of_a_port_of_the_vip_that_is_asked_by_another_protocol() {
    let own_port = |text: String| text.replace("port = 9\n", "");
    warns(&own_port(checked("udp", "send = \"x\"")), "no-effect", "\"192.0.2.10\"", "add `port`");
    warns(&own_port(checked("dns", "query = \"a\"")), "no-effect", "\"192.0.2.10\"", "add `port`");
    valid(&own_port(checked("dns", "query = \"a\"\ntransport = \"tcp\"")));
    assert!(VALID.contains("protocol = \"tcp\""));
}
