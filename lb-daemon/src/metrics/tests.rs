//! The endpoint over TCP, before a controller over tables in memory.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use lb_common::{
    layout::counter::{PathEvent, VerdictCounters},
    verdict::{Action, Verdict},
};
use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Exporter, families, router};
use crate::{
    controller::tests::rig::{Counted, Rig, TEXT},
    health, hook,
    http::serve,
};

/// What the endpoint answers: head and body.
async fn ask(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// What other parts count, as in the daemon.
fn counters() -> Registry {
    let registry = Registry::new();
    health::Stats::new().unwrap().register(&registry).unwrap();
    hook::Stats::new().unwrap().register(&registry).unwrap();
    registry
}

async fn endpoint(rig: &Rig) -> u16 {
    serving(Exporter::new(rig.handle.clone(), counters())).await
}

async fn serving(exporter: Exporter) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve(listener, router(exporter), 0));
    port
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
}

#[tokio::test]
async fn every_family_has_its_samples() {
    let rig = Rig::serving(TEXT).await;
    rig.count(rig.target("web", "web-1"), 5);
    rig.report("10.0.0.3", false);
    rig.settle().await;
    let (head, text) = ask(endpoint(&rig).await, "/metrics").await;
    assert!(head.contains("200 OK") && head.contains("text/plain; version=0.0.4"), "{head}");
    for line in [
        "lb_config_generation 1",
        "lb_config_unconfirmed 0",
        "lb_config_differs_from_file 0",
        "lb_config_last_reload_successful 1",
        "lb_xdp_attached{interface=\"eth0\",mode=\"native\"} 1",
        "lb_packets_total{verdict=\"forwarded\"} 5",
        "lb_dropped_packets_total{reason=\"no_backend\"} 0",
        "lb_vip_up{vip=\"web\"} 1",
        "lb_vip_panic{vip=\"web\"} 0",
        "lb_vip_packets_total{vip=\"web\"} 5",
        "lb_backend_packets_total{vip=\"web\",backend=\"web-1\"} 5",
        "lb_backend_up{vip=\"web\",backend=\"web-3\"} 0",
        "lb_backend_state{vip=\"web\",backend=\"web-3\",state=\"down\"} 1",
        "lb_backend_state{vip=\"web\",backend=\"web-3\",state=\"serving\"} 0",
        "lb_flow_table_capacity 64",
        "lb_flow_lookups_total{result=\"hit\"} 0",
        "lb_ring_changed_slots_total{vip=\"dns\"} 0",
        "lb_health_checks_total{result=\"success\"} 0",
        "lb_on_change_deliveries_total{result=\"failure\",to=\"webhook\"} 0",
        "lb_on_change_lost_events_total{to=\"exec\"} 0",
    ] {
        has(&text, line);
    }
    for family in families::ALL {
        assert!(text.contains(&format!("# HELP {} ", family.name)), "{} has no samples", family.name);
        assert!(family.help.ends_with('.'), "{} is described by a sentence", family.name);
    }
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let names: BTreeSet<&str> = series.iter().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
    assert_eq!(names.len(), series.len(), "a series appears twice");
    let of_one = series.iter().filter(|line| line.contains("vip=\"dns\",backend=\"dns-1\"")).count();
    assert_eq!(of_one, 13, "the module's text says how many series a pair has");
}

#[tokio::test]
async fn backends_of_one_name_in_two_pools_of_a_vip_are_told_apart() {
    let text = TEXT.replace("dns-1", "web-1");
    let routes = "pool = \"web\"\nsource_routes = [{ source = \"203.0.113.0/24\", pool = \"dns\" }]";
    let rig = Rig::serving(&text.replacen("pool = \"web\"", routes, 1)).await;
    let (_, text) = ask(endpoint(&rig).await, "/metrics").await;
    for line in [
        "lb_backend_weight{vip=\"web\",backend=\"web-1\"} 100",
        "lb_backend_weight{vip=\"web\",backend=\"dns/web-1\"} 100",
        "lb_backend_weight{vip=\"dns\",backend=\"web-1\"} 100",
        "lb_xdp_feature{feature=\"source_routes\"} 1",
        "lb_xdp_feature{feature=\"multi_buffer\"} 1",
        "lb_xdp_feature{feature=\"gue\"} 0",
    ] {
        has(&text, line);
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let series: Vec<&str> = series.map(|(name, _)| name).collect();
    assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "a series appears twice");
}

#[tokio::test]
async fn every_verdict_and_every_event_is_told_and_every_way_to_drop_is_a_reason() {
    let rig = Rig::serving(TEXT).await;
    // Each count is told by its number, so that none can stand in another's place.
    let of = |number: u32| u64::from(number) + 100;
    rig.tables().told = Some(Counted {
        verdicts: Verdict::ALL
            .iter()
            .map(|verdict| VerdictCounters { packets: of(*verdict as u32), bytes: 7 })
            .collect(),
        path: PathEvent::ALL.iter().map(|event| of(*event as u32)).collect(),
    });
    let (_, text) = ask(endpoint(&rig).await, "/metrics").await;
    for verdict in Verdict::ALL.iter().filter(|verdict| **verdict != Verdict::Forwarded) {
        let (label, count) = (verdict.label(), of(*verdict as u32));
        has(&text, &format!("lb_packets_total{{verdict=\"{label}\"}} {count}"));
        has(&text, &format!("lb_bytes_total{{verdict=\"{label}\"}} 7"));
        let reason = format!("lb_dropped_packets_total{{reason=\"{label}\"}} {count}");
        let dropped = matches!(verdict.action(), Action::Drop | Action::Aborted);
        assert_eq!(text.lines().any(|line| line == reason), dropped, "{label}");
    }
    for event in PathEvent::ALL {
        let (name, count) = (event.name(), of(event as u32));
        let lines = [
            format!("lb_path_events_total{{event=\"{name}\"}} {count}"),
            format!("lb_flow_lookups_total{{result=\"{name}\"}} {count}"),
            format!("lb_flow_evictions_total {count}"),
            format!("lb_flows_not_remembered_total {count}"),
        ];
        let told = text.lines().filter(|line| lines.iter().any(|expected| expected == line)).count();
        assert_eq!(told, 1, "{name} is told once");
    }
    let fixed = text.lines().filter(|line| !line.starts_with('#') && !line.contains("vip=\"")).count();
    assert!(fixed < 180, "the module's text says how many series there are: {fixed}");
}

#[tokio::test]
async fn scrapes_that_come_together_read_the_tables_once() {
    let rig = Rig::serving(TEXT).await;
    rig.tables().slow = Duration::from_millis(200);
    let port = endpoint(&rig).await;
    let read = rig.tables().counted;
    let answers = tokio::join!(ask(port, "/metrics"), ask(port, "/metrics"), ask(port, "/metrics"));
    assert_eq!(rig.tables().counted, read + 1);
    assert_eq!((&answers.0, &answers.1), (&answers.1, &answers.2));
    rig.tables().slow = Duration::ZERO;
    tokio::time::sleep(super::FRESH).await;
    let (_, first) = ask(port, "/metrics").await;
    rig.count(rig.target("web", "web-1"), 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_, second) = ask(port, "/metrics").await;
    has(&first, "lb_vip_packets_total{vip=\"web\"} 0");
    has(&second, "lb_vip_packets_total{vip=\"web\"} 1");
}

/// A body that came in pieces, put together.
fn joined(body: &str) -> String {
    let (mut rest, mut text) = (body, String::new());
    while let Some((length, more)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        text.push_str(&more[..length]);
        rest = &more[length + 2..];
    }
    text
}

#[tokio::test]
async fn large_figures_are_sent_in_pieces_and_say_the_same() {
    // In alphabetical order the second pool's backend comes between VIPs, and the VIPs come in another order.
    let text = TEXT.replace("web-v6", "a-web").replace("web-2", "zweb");
    let rig = Rig::serving(&text).await;
    let exporter = Exporter::new(rig.handle.clone(), counters());
    let large = serving(Exporter { small: 0, ..exporter }).await;
    let (head, small) = ask(endpoint(&rig).await, "/metrics").await;
    assert!(head.contains("content-length"), "{head}");
    for _ in 0..3 {
        let (head, body) = ask(large, "/metrics").await;
        assert!(head.contains("200 OK") && head.contains("text/plain; version=0.0.4"), "{head}");
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert_eq!(joined(&body), small);
    }
    let heads: Vec<&str> = small.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(heads.is_sorted(), "{heads:?}");
    let of = |family: &str| -> Vec<String> {
        small.lines().filter_map(|line| Some(line.strip_prefix(family)?.to_owned())).collect()
    };
    let states = of("lb_backend_state");
    assert!(states.is_sorted() && states.len() == 7 * 3, "{states:?}");
    assert!(of("lb_vip_packets_total{").is_sorted());
}

#[tokio::test]
async fn large_figures_are_read_once_for_who_comes_meanwhile_and_kept_for_nobody() {
    let rig = Rig::serving(TEXT).await;
    let exporter = Exporter::new(rig.handle.clone(), counters());
    let exporter = Exporter { small: 0, ..exporter };
    // So that they are fresh for long enough.
    rig.tables().slow = Duration::from_millis(200);
    let read = rig.tables().counted;
    let (first, second) = (exporter.text().await.unwrap(), exporter.text().await.unwrap());
    assert_eq!(rig.tables().counted, read + 1);
    drop((first, second));
    let _third = exporter.text().await.unwrap();
    assert_eq!(rig.tables().counted, read + 2, "what nobody is sent is not kept");
}

#[tokio::test]
async fn healthz_tells_whether_the_controller_lives() {
    let rig = Rig::serving(TEXT).await;
    let port = endpoint(&rig).await;
    assert!(ask(port, "/healthz").await.0.contains("200 OK"));
    rig.handle.stop().await;
    rig.settle().await;
    assert!(ask(port, "/healthz").await.0.contains("503"));
    assert!(ask(port, "/metrics").await.0.contains("503"));
}

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let rig = Rig::serving(TEXT).await;
    let (_, text) = ask(endpoint(&rig).await, "/metrics").await;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("skipped: promtool is not installed");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
