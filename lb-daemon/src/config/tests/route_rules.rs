//! Rules of `source_routes`.

use super::{check_beside, refuses, refuses_found, valid, warns, with};
use crate::model::{RouteTo, SourceRoute};

/// The first VIP with these routes, beside a second pool.
fn routes(list: &str) -> String {
    with_pool("{ name = \"far-1\", address = \"10.0.9.1\" }", &format!("source_routes = [{list}]"))
}

/// A second pool, and a line of the first VIP.
fn with_pool(backends: &str, line: &str) -> String {
    with("#end", &format!("[pool.far]\nbackends = [{backends}]")).replace("#vip", line)
}

fn route(source: &str, to: RouteTo) -> SourceRoute {
    SourceRoute { source: source.parse().unwrap(), to }
}

#[test]
fn reads_routes_to_pools_and_to_backends() {
    let list = "{ source = \"203.0.113.0/24\", pool = \"far\" }, { source = \"2001:db8::/32\", backend = \"web-2\" }, \
                { source = \"203.0.113.9\", pool = \"web\" }";
    let vip = &valid(&routes(list)).vips[0];
    let wanted = [
        route("203.0.113.0/24", RouteTo::Pool("far".into())),
        route("2001:db8::/32", RouteTo::Backend("web-2".into())),
        route("203.0.113.9/32", RouteTo::Pool("web".into())),
    ];
    assert_eq!(vip.source_routes, wanted);
    assert_eq!(vip.pools().collect::<Vec<_>>(), ["web", "far"]);
}

#[test]
fn reads_routes_from_a_file() {
    let line = "source_routes = [{ source = \"192.0.2.0/24\", pool = \"far\" }]\nsource_routes_file = \"routes\"";
    let text = with_pool("{ name = \"far-1\", address = \"10.0.9.1\" }", line);
    let list = b"# who goes where\n203.0.113.0/24\tpool  far # near the sea\n\n2001:db8::/32 backend web-2";
    let config = check_beside(&text, &[("routes", list)]).config.expect("a valid configuration");
    let wanted = [
        route("192.0.2.0/24", RouteTo::Pool("far".into())),
        route("203.0.113.0/24", RouteTo::Pool("far".into())),
        route("2001:db8::/32", RouteTo::Backend("web-2".into())),
    ];
    assert_eq!(config.vips[0].source_routes, wanted);
}

#[test]
fn refuses_lines_of_a_file_that_are_no_routes() {
    let text = with_pool("{ name = \"far-1\", address = \"10.0.9.1\" }", "source_routes_file = \"routes\"");
    let text =
        text.replace("pool = \"web\"", "pool = \"web\"\nsource_routes = [{ source = \"10.0.0.0/8\", pool = \"far\" }]");
    for (list, code, place, hint) in [
        ("203.0.113.0/24", "invalid-value", "203.0.113.0/24", "PREFIX pool NAME"),
        ("203.0.113.0/24 far", "invalid-value", "far", "PREFIX pool NAME"),
        ("203.0.113.0/24 to far", "invalid-value", "to far", "PREFIX pool NAME"),
        ("203.0.113.0/24 pool far web", "invalid-value", "pool far web", "PREFIX pool NAME"),
        ("203.0.113.0/24 pool fra", "unknown-pool", "fra", "did you mean \"far\"?"),
        ("203.0.113.0/24 backend web-9", "unknown-backend", "web-9", "did you mean \"web-1\"?"),
        ("203.0.113.9/24 pool far", "invalid-value", "203.0.113.9/24", "write \"203.0.113.0/24\""),
        ("10.0.0.0/8 pool far", "duplicate", "10.0.0.0/8", "each prefix of a VIP once"),
    ] {
        refuses_found(list, check_beside(&text, &[("routes", list.as_bytes())]), code, place, hint);
    }
}

#[test]
fn refuses_routes_that_lead_nowhere_or_to_two_places() {
    let source = "source = \"203.0.113.0/24\"";
    let far = format!("{{ {source}, pool = \"far\" }}");
    let with_far = |route: &str| routes(&format!("{}, {{ {route} }}", far.replace("113", "112")));
    refuses(&with_far(source), "missing-key", "{ source = \"203.0.113", "backend = \"NAME\"");
    refuses(&with_far(&format!("{source}, pool = \"far\", backend = \"web-1\"")), "conflict", "backend", "leave out");
    refuses(&with_far("pool = \"far\""), "missing-key", "{ pool", "source = \"203.0.113.0/24\"");
    refuses(&with_far(&format!("{source}, pool = \"fra\"")), "unknown-pool", "\"fra\"", "did you mean \"far\"?");
    // A backend is one of the VIP's own pool.
    refuses(&with_far(&format!("{source}, backend = \"far-1\"")), "unknown-backend", "\"far-1\"", "`pool`");
    refuses(&with_far("source = \"203.0.113.9/24\", pool = \"far\""), "invalid-value", "\"203.0.113.9/24\"", "write");
    refuses(&with_far(&format!("{source}, pool = \"far\", to = 1")), "unknown-key", "to = 1", "source, pool, backend");
}

#[test]
fn refuses_a_source_twice() {
    let list = "{ source = \"203.0.113.9\", pool = \"far\" }, { source = \"203.0.113.9/32\", backend = \"web-1\" }";
    refuses(&routes(list), "duplicate", "\"203.0.113.9/32\"", "once");
}

#[test]
fn a_pool_that_only_routes_lead_to_is_used() {
    warns(&routes("{ source = \"203.0.113.0/24\", pool = \"web\" }"), "unused-pool", "far]", "pool = \"far\"");
}

#[test]
fn looks_at_the_pools_of_routes_as_at_the_vips_own() {
    let line = "source_routes = [{ source = \"203.0.113.0/24\", pool = \"far\" }]";
    let own = with_pool("{ name = \"far-1\", address = \"192.0.2.10\" }", line);
    refuses(&own, "conflict", "\"192.0.2.10\"", "the backend's own address");
    let health = "[pool.web.health]\ntype = \"http\"\nport = 80";
    let text = routes("{ source = \"203.0.113.0/24\", pool = \"far\" }").replace("port = 443", "port = 0");
    let text = text.replace("[pool.web.health]\ntype = \"http\"", health);
    let check = "[pool.far]\nhealth = { type = \"tcp\" }";
    refuses(&text.replace("[pool.far]", check), "conflict", "\"192.0.2.10\"", "[pool.far.health]");
}
