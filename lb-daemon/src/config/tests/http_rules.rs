//! Rules of HTTP checks.

use super::{refuses, valid, with};
use crate::model::{Ask, Body, Http, Method, Pattern};

fn health(line: &str) -> String {
    with("#health", line)
}

/// What the check asks in a file with this line.
fn asked(line: &str) -> Http {
    let Ask::Http(http) = &valid(&health(line)).pools["web"].health.checks[0].ask else { panic!("no http") };
    http.clone()
}

#[test]
fn refuses_requests_that_http_cannot_carry() {
    refuses(&health("path = \"healthz\""), "invalid-value", "\"healthz\"", "\"/healthz\"");
    refuses(&health("path = \"/a b\""), "invalid-value", "\"/a b\"", "%20");
    refuses(&health("path = \"/a\\r\\nX: y\""), "invalid-value", "\"/a", "%20");
    refuses(&health("host = \"a b\""), "invalid-value", "\"a b\"", "Host");
    refuses(&health("host = \"\""), "invalid-value", "\"\"", "Host");
}

#[test]
fn refuses_statuses_that_http_does_not_have() {
    for given in ["\"2xx\"", "\"299-200\"", "99", "\"600\""] {
        refuses(&health(&format!("expect_status = [{given}]")), "invalid-value", given, "100 to 599");
    }
    refuses(&health("expect_status = []"), "invalid-value", "[]", "200-299");
    refuses(&health("expect_status = \"200\""), "wrong-type", "\"200\"", "[\"200\"]");
    refuses(&health("expect_status = 200"), "wrong-type", "200", "[200]");
    refuses(&health("expect_status = [true]"), "wrong-type", "true", "status code");
    let check = valid(&health("expect_status = [\"200-204\", 301]")).pools["web"].health.checks[0].ask.clone();
    assert!(matches!(check, Ask::Http(Http { expect_status, .. }) if expect_status == [(200, 204), (301, 301)]));
}

#[test]
fn knows_methods_as_http_writes_them() {
    assert_eq!(asked("").method, Method::Get);
    assert_eq!(asked("method = \"HEAD\"").method, Method::Head);
    refuses(&health("method = \"get\""), "invalid-value", "\"get\"", "did you mean \"GET\"?");
    refuses(&health("method = \"CONNECT\""), "invalid-value", "\"CONNECT\"", "\"POST\" or \"PUT\"");
    refuses(&health("method = 1"), "wrong-type", "1", "use \"GET\"");
}

#[test]
fn takes_headers_that_a_request_can_carry() {
    let headers = asked("headers = { X-Check = \"lb\", \"Accept\" = \"*/*\", empty = \"\" }").headers;
    let wanted = [("X-Check", "lb"), ("Accept", "*/*"), ("empty", "")];
    assert_eq!(headers, wanted.map(|(name, value)| (name.into(), value.into())).into());
    let refuse = |given: &str, code, place, hint| refuses(&health(&format!("headers = {given}")), code, place, hint);
    refuse("[\"X-Check: lb\"]", "wrong-type", "[", "{ NAME = \"value\" }");
    refuse("{ X-Check = 1 }", "wrong-type", "1", "in quotes: \"1\"");
    refuse("{ \"X-Check:\" = \"lb\" }", "invalid-value", "\"X-Check:\"", "without the colon");
    refuse("{ X-Check = \"a\\nb\" }", "invalid-value", "\"a", "without line ends");
    refuse("{ Host = \"a\" }", "invalid-value", "Host", "host = \"www.example.org\"");
    refuse("{ Content-Length = \"5\" }", "invalid-value", "Content-Length", "remove \"Content-Length\"");
    refuse("{ connection = \"close\" }", "invalid-value", "connection", "remove \"connection\"");
    refuse("{ a = \"1\", A = \"2\" }", "duplicate", "a = ", "capitals make no difference");
    let many: Vec<String> = (0..33).map(|number| format!("h{number} = \"\"")).collect();
    refuse(&format!("{{ {} }}", many.join(", ")), "invalid-value", "{", "at most 32");
    refuse(&format!("{{ a = \"{}\" }}", "x".repeat(4097)), "invalid-value", "\"xxx", "up to 4096 bytes");
}

#[test]
fn takes_a_text_or_a_pattern_of_a_body() {
    assert_eq!(asked("expect_body = \"ready\"").expect_body, Some(Body::Text("ready".into())));
    let pattern = Pattern::new("^(ok|fine)$").unwrap();
    assert_eq!(asked("expect_body_regex = '^(ok|fine)$'").expect_body, Some(Body::Match(pattern)));
    let both = "expect_body = \"ready\"\nexpect_body_regex = \"x\"";
    refuses(&health(both), "conflict", "\"x\"", "keep one of them");
    refuses(&health("expect_body = \"\""), "invalid-value", "\"\"", "a good answer");
    refuses(&health(&format!("expect_body = \"{}\"", "x".repeat(1025))), "invalid-value", "\"xxx", "a part");
    for key in ["expect_body", "expect_body_regex"] {
        let head = format!("method = \"HEAD\"\n{key} = \"x\"");
        refuses(&health(&head), "conflict", "\"x\"", &format!("remove `{key}`"));
    }
}

#[test]
fn refuses_patterns_that_are_none_or_take_too_much() {
    let found = super::check(&health("expect_body_regex = 'é(a|b'")).diagnostics.to_string();
    assert!(found.contains("unclosed group, at character 2"), "{found}");
    let found = super::check(&health("expect_body_regex = '[z-a]'")).diagnostics.to_string();
    assert!(found.contains("at character 2"), "{found}");
    for (pattern, hint) in [
        ("'a{'", "mend it there"),
        ("'\\'", "mend it there"),
        ("'x{1,100000}'", "repeat less"),
        ("'(x{100}){100}'", "repeat less"),
        ("''", "needs a character"),
        ("'x*'", "needs a character"),
    ] {
        refuses(&health(&format!("expect_body_regex = {pattern}")), "invalid-value", pattern, hint);
    }
    refuses(
        &health(&format!("expect_body_regex = '{}'", "x".repeat(1025))),
        "invalid-value",
        "'xxx",
        "search for less",
    );
    assert!(asked("expect_body_regex = '^x*$'").expect_body.is_some());
}

#[test]
fn refuses_keys_of_http_in_other_checks() {
    for line in ["method = \"GET\"", "headers = {}", "expect_body = \"x\"", "expect_body_regex = \"x\""] {
        let key = line.split(' ').next().unwrap();
        let text = with("type = \"http\"", &format!("type = \"tcp\"\n{line}"));
        refuses(&text, "conflict", key, &format!("remove `{key}`"));
    }
}
