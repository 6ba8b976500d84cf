//! Who may import whom: reads the sources and fails on a breach.
//!
//! The tables below are the rule. To change it, change them here, and say why in the commit.

use std::collections::{BTreeMap, BTreeSet};

#[path = "layers/reader.rs"]
mod reader;

use self::reader::{Source, bare, imports, module, shipped, sources, words};

/// lb-daemon: what each module may import of its own crate, besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    // Values and arithmetic.
    ("model", &[]),
    ("maglev", &[]),
    ("telemetry", &[]),
    // What this process may do: asked by who opens files and loads programs.
    ("privileges", &[]),
    // Connections that are made from here.
    ("client", &["model"]),
    ("plain", &[]),
    ("dice", &[]),
    ("runner", &["client", "model", "plain", "privileges"]),
    ("http", &[]),
    ("latch", &[]),
    // One thing each.
    ("config", &["model", "privileges"]),
    ("health", &["client", "dice", "model", "plain", "runner"]),
    ("hook", &["model", "runner"]),
    ("nexthop", &[]),
    // Keeps what health says.
    ("state", &["config", "health", "latch", "model"]),
    // Of health and next hops the plan knows what they publish, nothing of how they work.
    ("plan", &["health", "maglev", "model", "nexthop"]),
    ("dataplane", &["latch", "model", "plan", "privileges"]),
    // The one owner. Its governor counts the slots that a change would move, by the rings themselves.
    ("controller", &["config", "dataplane", "health", "latch", "maglev", "model", "nexthop", "plan", "state"]),
    // The packet's way over the tables in use.
    ("explain", &["dataplane", "plan"]),
    // Those who ask.
    (
        "api",
        &["config", "controller", "dataplane", "explain", "health", "http", "model", "plan", "privileges", "state"],
    ),
    ("metrics", &["api", "controller"]),
    ("notify", &["controller", "model", "plan"]),
    // Puts all together.
    (
        "cli",
        &[
            "api",
            "client",
            "config",
            "controller",
            "dataplane",
            "explain",
            "health",
            "hook",
            "http",
            "metrics",
            "model",
            "nexthop",
            "notify",
            "plan",
            "privileges",
            "runner",
            "state",
            "telemetry",
        ],
    ),
];

/// lb-xdp: the same, from the bottom up. `path` puts the steps together, and they stand over `frame` and `wire`. Three
/// lines point upwards: steps that look something up know `path`, which declares `Tables`; `parse` and the side roads
/// take constants of the outer header from `encap`; and `frame` names `path::whole` as the default of two methods, which
/// the kernel's frame replaces: it goes there by functions of its own, see `bpf/context.rs`.
const STEPS: &[(&str, &[&str])] = &[
    // Bytes and arithmetic.
    ("wire", &[]),
    ("checksum", &[]),
    ("ecn", &[]),
    ("hash", &[]),
    ("frame", &["path"]),
    // What is it?
    ("parse", &["encap", "frame", "hash", "wire"]),
    ("link", &["frame", "parse", "wire"]),
    // Whose traffic, and what does that VIP ask for?
    ("vip", &["frame", "parse", "path"]),
    ("access", &["path"]),
    ("limit", &["frame", "hash", "parse", "path"]),
    ("server_id", &["frame", "parse", "path", "wire"]),
    ("ring", &["hash", "path"]),
    ("select", &["access", "frame", "limit", "parse", "path", "ring", "server_id"]),
    // A known flow's target. A new flow asks for its target by a request of `select`, which has the ring.
    ("flow", &["frame", "parse", "path", "ring", "select", "wire"]),
    ("fragment", &["flow", "frame", "hash", "parse", "path", "vip", "wire"]),
    // Off to the target, or back to the sender of what does not fit.
    ("too_big", &["checksum", "encap", "frame", "limit", "link", "parse", "path", "wire"]),
    ("encap", &["checksum", "frame", "link", "parse", "path", "too_big", "wire"]),
    // Side roads.
    ("icmp", &["checksum", "encap", "flow", "frame", "hash", "link", "parse", "path", "ring", "select", "vip", "wire"]),
    ("tunnel", &["checksum", "ecn", "encap", "frame", "parse", "path", "wire"]),
    ("path", &["encap", "flow", "fragment", "frame", "icmp", "link", "parse", "ring", "select", "tunnel", "vip"]),
    // What this host asks its backends.
    ("probe", &["checksum", "encap", "frame", "parse", "path", "wire"]),
    // The other end of the tunnel.
    ("decap", &["checksum", "ecn", "encap", "frame", "link", "parse", "wire"]),
    ("host", &["checksum", "decap", "frame", "path", "wire"]),
    // A program of its own, over the library.
    ("bpf", &[]),
];

/// Outside crates that only some files may see, by the beginnings of their paths.
const CRATES: &[(&str, &[&str])] = &[
    (
        "aya",
        &["lb-common/src/pod.rs", "lb-daemon/src/dataplane/kernel", "lb-xdp/fuzz/src/kernel", "bench/", "netns-tests/"],
    ),
    ("aya_obj", &["lb-daemon/src/dataplane/kernel", "bench/", "netns-tests/"]),
    ("aya_ebpf", &["lb-xdp/src/bpf/", "bench/xdp/src/bpf/"]),
    // The daemon plans what packets meet, and walks their way only to explain it; but for the form of `VIPS`, which both know.
    (
        "lb_xdp",
        &[
            "lb-daemon/src/api/",
            "lb-daemon/src/cli/explain/",
            "lb-daemon/src/dataplane/kernel/copy.rs",
            "lb-daemon/src/dataplane/kernel/live.rs",
            "lb-daemon/src/dataplane/kernel/vips.rs",
            "lb-daemon/src/explain",
            "lb-daemon/tests/",
            "lb-xdp/",
            "bench/",
            "netns-tests/",
        ],
    ),
    // Files are found and read in one place.
    ("glob", &["lb-daemon/src/config"]),
    ("landlock", &["lb-daemon/src/privileges/files.rs"]),
    // gRPC is spoken to ask for a backend's health, and by the laboratory's server that is asked.
    ("h2", &["lb-daemon/src/health/probe/", "netns-tests/tests/kinds/"]),
    ("prost", &["lb-daemon/src/health/probe/"]),
    // Of TLS the configuration reads certificates; who speaks it is told by the model. Servers of tests speak it too.
    (
        "rustls",
        &[
            "lb-daemon/src/client/",
            "lb-daemon/src/config/",
            "lb-daemon/src/health/probe/",
            "lb-daemon/tests/",
            "bench/src/health/",
            "certificates/",
            "netns-tests/",
        ],
    ),
    // Certificates of tests are made in one place.
    ("rcgen", &["certificates/"]),
    ("seccompiler", &["lb-daemon/src/privileges/calls"]),
    (
        "tokio",
        &[
            "lb-daemon/src/api",
            "lb-daemon/src/cli/ask.rs",
            "lb-daemon/src/cli/load.rs",
            "lb-daemon/src/cli/run",
            "lb-daemon/src/cli/top",
            "lb-daemon/src/client",
            "lb-daemon/src/controller",
            "lb-daemon/src/health/driver",
            "lb-daemon/src/health/probe",
            "lb-daemon/src/hook",
            "lb-daemon/src/http",
            "lb-daemon/src/metrics",
            "lb-daemon/src/nexthop/",
            "lb-daemon/src/notify/",
            "lb-daemon/src/runner/",
            "lb-daemon/tests/",
            "bench/src/health/",
            "netns-tests/",
        ],
    ),
    (
        "serde",
        &[
            // Diagnostics are printed as JSON, and texts travel as such; the configuration itself is read by hand, from a document with places.
            "lb-daemon/src/api",
            "lb-daemon/src/cli/",
            "lb-daemon/src/config/bundle.rs",
            "lb-daemon/src/config/diagnostic.rs",
            "lb-daemon/src/config/place.rs",
            // Events go out as JSON.
            "lb-daemon/src/hook.rs",
            "lb-daemon/src/state/",
            // What daemon and runner tell each other.
            "lb-daemon/src/runner.rs",
            "lb-daemon/src/runner/",
            // What a plan changes is handed out as it is.
            "lb-daemon/src/plan/preview/report.rs",
            "bench/",
            "netns-tests/",
        ],
    ),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &[
    "lb-common/src/pod.rs",
    "lb-common/src/layout/flow.rs",
    "lb-daemon/src/dataplane/kernel/",
    "lb-daemon/src/privileges/calls/install.rs",
    "lb-xdp/fuzz/src/kernel/",
    "lb-xdp/src/bpf/",
    "bench/src/machine.rs",
    "bench/xdp/src/bpf/",
    "netns-tests/src/",
];

/// Most lines of a file.
const LONGEST: usize = 400;

/// Complaints about modules that import what their row does not allow, and about rows that allow what nobody imports.
fn breaches(sources: &[Source], folder: &str, rule: &[(&str, &[&str])]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = rule.iter().copied().collect();
    let mut unused: BTreeSet<(&str, &str)> =
        rule.iter().flat_map(|(module, all)| all.iter().map(|one| (*module, *one))).collect();
    let mut complaints = Vec::new();
    for source in sources {
        let Some(module) = module(&source.path, folder) else { continue };
        let Some(allowed) = allowed.get(module) else {
            complaints.push(format!("{}: module {module} has no row", source.path));
            continue;
        };
        let words = words(shipped(&source.code));
        let mut found = imports(&words, "crate");
        if source.path == format!("{folder}{module}.rs") {
            found.extend(imports(&words, "super"));
        }
        for import in found {
            unused.remove(&(module, import));
            // Macros and functions of the crate's root are nobody's.
            if import != module && !allowed.contains(&import) && rule.iter().any(|(known, _)| *known == import) {
                complaints.push(format!("{}: {module} must not import {import}", source.path));
            }
        }
    }
    complaints.extend(unused.into_iter().map(|(module, one)| format!("{module} may import {one} and does not")));
    complaints
}

fn may(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

#[test]
fn modules_of_the_daemon_import_only_what_lies_below_them() {
    let complaints = breaches(&sources(), "lb-daemon/src/", LAYERS);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn steps_of_the_packets_way_import_only_what_lies_below_them() {
    let complaints = breaches(&sources(), "lb-xdp/src/", STEPS);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn outside_crates_are_seen_only_where_they_belong() {
    let mut complaints = Vec::new();
    for source in sources() {
        let words = words(shipped(&source.code));
        for (name, places) in CRATES {
            let seen = words.windows(2).any(|pair| pair == [*name, "::"]);
            if seen && !may(&source.path, places) {
                complaints.push(format!("{}: must not see {name}", source.path));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn common_depends_on_nothing_of_ours_and_the_packets_way_not_on_the_daemon() {
    let above: &[(&str, &[&str])] = &[
        ("lb-common/src/", &["lb_xdp", "lb_daemon", "netns_tests", "bench"]),
        ("lb-xdp/src/", &["lb_daemon", "netns_tests", "bench"]),
        ("lb-daemon/src/", &["netns_tests", "bench"]),
    ];
    let mut complaints = Vec::new();
    for source in sources() {
        let words = words(&source.code);
        for (_, crates) in above.iter().filter(|(folder, _)| source.path.starts_with(folder)) {
            let seen = crates.iter().filter(|name| words.windows(2).any(|pair| pair == [**name, "::"]));
            complaints.extend(seen.map(|name| format!("{}: must not see {name}", source.path)));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn unsafe_stands_only_behind_the_fences() {
    let is_unsafe = |source: &Source| words(&source.code).contains(&"unsafe") && !may(&source.path, UNSAFE);
    let found: Vec<String> = sources().into_iter().filter(is_unsafe).map(|source| source.path).collect();
    assert!(found.is_empty(), "unsafe in {found:?}");
}

#[test]
fn files_are_short_and_none_is_a_mod_rs() {
    for Source { path, lines, .. } in sources() {
        assert!(lines <= LONGEST, "{path} has {lines} lines, {LONGEST} at most");
        assert!(!path.ends_with("/mod.rs"), "{path}: a module is foo.rs and foo/");
    }
}

#[test]
fn the_reader_finds_imports_in_trees_and_paths_and_not_in_words() {
    let text = "//! crate::comment\nuse crate::{\n    a::{b, c},\n    d,\n    self,\n};\nfn f() -> crate::e::E { \
                \"crate::string\"; r#\"crate::\"raw\"#; '\"'; crate :: g::h(); x::crate_::y(); other::crate::z }";
    let code = bare(text);
    let found = imports(&words(&code), "crate");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g", "self"]);
    let source = |path: &str, code: &str| Source { path: path.into(), code: code.into(), lines: 1 };
    let rule: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
    let good = [source("p/high.rs", "use crate::low;"), source("p/low/tests.rs", "use crate::high;")];
    assert!(breaches(&good, "p/", rule).is_empty());
    let bad = [source("p/high/deep.rs", "crate::low::f()"), source("p/low.rs", "use super::{high::x};")];
    assert_eq!(breaches(&bad, "p/", rule), ["p/low.rs: low must not import high"]);
    assert_eq!(breaches(&[source("p/new.rs", "")], "p/", rule)[0], "p/new.rs: module new has no row");
}
