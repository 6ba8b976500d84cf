use serde_json::json;

use super::*;
use crate::record::{Better, Row};

/// One row of `prog-run` for each program.
fn results() -> Results {
    let mut record = Record::begin("prog-run", json!({})).unwrap();
    let row = |case: &str, packet: &str, flows: u32, program: &str, value: f64| {
        let what = [
            ("case", case.into()),
            ("packet", packet.into()),
            ("frame_bytes", 64_u32.into()),
            ("flows", flows.into()),
            ("program", program.into()),
        ];
        Row::new(what, "ns", Better::Less, vec![value]).told("median", value + 1.0)
    };
    for (program, cost) in [("lb", 60.0), ("constant_ipv4", 10.0), ("old", 75.0)] {
        record.rows.push(row("hit", "tcp4-ack", 1, program, cost));
        record.rows.push(row("rotate", "tcp4-ack", 1 << 20, program, 3.0 * cost).told("known", 0.99));
        record.rows.push(row("vips", "udp4", 1, program, cost));
        record.rows.push(row("vips", "gue4", 1, program, cost + 20.0));
    }
    Results(BTreeMap::from([("prog-run".to_owned(), record)]))
}

#[test]
fn tables_have_the_figures_of_all_programs() {
    let report = Report::of(&results()).unwrap();
    let part = &report.parts["prog-run"];
    assert!(
        part.contains("| rotate | tcp4-ack | 64 | 1,048,576 | 180.0 | 181.0 | 180 – 180 | 225.0 | 30.0 | – | 99.0 |"),
        "{part}"
    );
    assert!(
        part.contains("![Cost of a packet by flows](results/flows.svg)") && report.plots.contains_key("flows.svg"),
        "{part}"
    );
    assert!(part.contains("results/prog-run.json"), "{part}");
    let features = &report.parts["features"];
    assert!(features.contains("| vips | gue4 | GUE over IPv4 | 64 | 80.0 | +20.0 | 81.0 |"), "{features}");
    assert!(report.parts["wire"].contains("Not measured yet"), "{}", report.parts["wire"]);
}

#[test]
fn the_readme_keeps_what_is_not_generated() {
    let report = Report {
        plots: BTreeMap::new(),
        parts: BTreeMap::from([("a".to_owned(), "new\n".to_owned()), ("b".to_owned(), "more\n".to_owned())]),
    };
    let place = |name: &str, text: &str| format!("{BEGIN}{name}{BEGUN}{text}{END}");
    let readme = format!("# Title\n{}\nwords\n{}\nend\n", place("a", "old"), place("b", ""));
    let written = report.written_into(&readme).unwrap();
    assert_eq!(written, format!("# Title\n{}\nwords\n{}\nend\n", place("a", "\nnew\n\n"), place("b", "\nmore\n\n")));
    assert_eq!(report.written_into(&written).unwrap(), written);
    for (bad, named) in [
        (place("a", ""), "\"b\""),
        (place("a", "") + &place("b", "") + &place("c", ""), "part c"),
        (place("a", "") + BEGIN + "b" + BEGUN, "part b has no end"),
    ] {
        let error = report.written_into(&bad).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_file_bears_its_benchmarks_name() {
    let folder = tempfile::tempdir().unwrap();
    results().0["prog-run"].write(&folder.path().join("other.json")).unwrap();
    let error = Results::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("call it prog-run.json"), "{error}");
}

#[test]
fn the_committed_report_is_that_of_the_committed_results() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let report = Report::of(&Results::read(&home.join(FOLDER)).unwrap()).unwrap();
    let readme = fs::read_to_string(home.join("README.md")).unwrap();
    assert!(
        report.written_into(&readme).unwrap() == readme,
        "bench/README.md is not that of the results: ./dev bench report"
    );
    for (name, svg) in &report.plots {
        let committed = fs::read_to_string(home.join(FOLDER).join(name)).unwrap_or_default();
        assert!(committed == *svg, "bench/results/{name} is not that of the results: ./dev bench report");
    }
}
