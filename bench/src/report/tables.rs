//! Which figures stand in tables.

use std::collections::BTreeSet;

use crate::{
    balancer::LB,
    record::{Record, Row},
    rings::Event,
};

/// A part of the report.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// Its name.
    pub(super) name: &'static str,
    /// Its tables.
    pub(super) tables: fn(&Record) -> String,
}

/// All parts with the benchmarks that they are of.
pub(super) const PARTS: [(&str, Part); 7] = [
    ("prog-run", Part { name: "prog-run", tables: plain }),
    ("prog-run", Part { name: "features", tables: features }),
    ("prog-run", Part { name: "scale", tables: scale }),
    ("control", Part { name: "control", tables: control }),
    ("health", Part { name: "health", tables: health }),
    ("maglev", Part { name: "maglev", tables: maglev }),
    ("wire", Part { name: "wire", tables: wire }),
];

/// What the packets of `packets` and `vips` are.
const DESCRIBED: [(&str, &str); 21] = [
    ("udp4", "a plain packet"),
    ("udp4-vlan", "one 802.1Q tag"),
    ("udp4-qinq", "two tags"),
    ("udp4-options", "4 bytes of IPv4 options"),
    ("udp6-ext", "IPv6 destination options"),
    ("frag-first", "first fragment: is remembered"),
    ("frag-later", "later fragment of a known datagram"),
    ("icmp4-error", "port unreachable, steered by the packet quoted"),
    ("neighbours", "plain, beside VIPs with nearly every feature"),
    ("gue4", "GUE over IPv4"),
    ("gue6", "GUE over IPv6: sums the packet"),
    ("gue6-1400B", "the same, 1400 bytes"),
    ("l2", "not wrapped"),
    ("prefix-vip", "address of a prefix VIP"),
    ("hash-source", "`hash = \"source-ip\"`"),
    ("untracked", "`flow_tracking = \"off\"`"),
    ("quic-lb", "server ID in a connection ID"),
    ("tcp-id", "server ID in a TCP option"),
    ("acl-100k", "100,000 denied prefixes"),
    ("routes-1M", "1,000,000 source routes"),
    ("source-limit", "both limits by source"),
];

/// 1,048,576
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn one(value: f64) -> String {
    format!("{value:.1}")
}

fn told(row: &Row, name: &str) -> String {
    row.told_as(name).map_or_else(|| "–".to_owned(), one)
}

fn count(row: &Row, name: &str) -> String {
    row.number(name).map_or_else(|| "–".to_owned(), grouped)
}

fn text(row: &Row, name: &str) -> String {
    row.text(name).unwrap_or("–").to_owned()
}

/// A table; columns whose head begins with `#` are of numbers.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names: Vec<String> = head.iter().map(|name| name.trim_start_matches('#').to_owned()).collect();
    let marks: Vec<String> =
        head.iter().map(|name| if name.starts_with('#') { "--:" } else { "---" }.to_owned()).collect();
    let body: String = rows.iter().map(|row| line(row)).collect();
    line(&names) + &format!("|{}|\n", marks.join("|")) + &body + "\n"
}

/// The row of the same packet and flows, of another program.
fn beside<'r>(record: &'r Record, row: &Row, program: &str) -> Option<&'r Row> {
    let mut what = row.what.clone();
    what.insert("program".to_owned(), program.into());
    record.row(&what)
}

fn floor<'r>(record: &'r Record, row: &Row) -> Option<&'r Row> {
    beside(record, row, "constant_ipv4").or_else(|| beside(record, row, "constant_ipv6"))
}

/// Programs that were pinned for comparison.
fn others(record: &Record) -> BTreeSet<String> {
    let known = ["lb", "bare_tx", "constant_ipv4", "constant_ipv6"];
    let programs = record.rows.iter().filter_map(|row| row.text("program"));
    programs.filter(|program| !known.contains(program)).map(str::to_owned).collect()
}

fn of_cases<'r>(record: &'r Record, cases: &'r [&str]) -> impl Iterator<Item = &'r Row> {
    let fits =
        move |row: &&Row| row.text("program") == Some(LB) && row.text("case").is_some_and(|case| cases.contains(&case));
    record.rows.iter().filter(fits)
}

fn plain(record: &Record) -> String {
    let others = others(record);
    let mut head = vec!["case", "packet", "#bytes", "#flows", "#`lb`, ns", "#median", "#spread"];
    let names: Vec<String> = others.iter().map(|name| format!("#`{name}`, ns")).collect();
    head.extend(names.iter().map(String::as_str));
    head.extend(["#floor, ns", "#× floor", "#known, %"]);
    let cases = ["hit", "rotate", "syn", "syn-new", "not-a-vip", "echo", "full"];
    let row = |row: &Row| {
        let flows = if row.text("case") == Some("syn-new") { "new".to_owned() } else { count(row, "flows") };
        let spread =
            format!("{:.0} – {:.0}", row.told_as("least").unwrap_or(f64::NAN), row.told_as("most").unwrap_or(f64::NAN));
        let mut cells = vec![text(row, "case"), text(row, "packet"), count(row, "frame_bytes"), flows];
        cells.extend([one(row.value()), told(row, "median"), spread]);
        cells.extend(
            others.iter().map(|name| beside(record, row, name).map_or_else(|| "–".to_owned(), |row| one(row.value()))),
        );
        cells.push(floor(record, row).map_or_else(|| "–".to_owned(), |row| one(row.value())));
        cells.push(told(row, "times_floor"));
        cells.push(row.told_as("known").map_or_else(|| "–".to_owned(), |known| one(known * 100.0)));
        cells
    };
    let large =
        of_cases(record, &["full"]).find_map(|row| Some((row.number("flow_table")?, row.told_as("flow_table_mib")?)));
    let large = large.map_or_else(String::new, |(entries, memory)| {
        format!("The flow table of `full` has {} entries and takes {memory:.1} MiB.\n", grouped(entries))
    });
    table(&head, &of_cases(record, &cases).map(row).collect::<Vec<_>>()) + &large
}

fn features(record: &Record) -> String {
    let mut rows = Vec::new();
    for case in ["packets", "vips"] {
        let mut plain = None;
        for row in of_cases(record, &[case]) {
            let plain = *plain.get_or_insert(row.value());
            let more = row.value() - plain;
            let described = DESCRIBED.iter().find(|(packet, _)| row.text("packet") == Some(packet));
            rows.push(vec![
                case.to_owned(),
                text(row, "packet"),
                described.map_or("", |(_, what)| what).to_owned(),
                count(row, "frame_bytes"),
                one(row.value()),
                if more.abs() < f64::EPSILON { "–".to_owned() } else { format!("{more:+.1}") },
                told(row, "median"),
            ]);
        }
    }
    table(&["case", "packet", "what", "#bytes", "#`lb`, ns", "#more than plain", "#median"], &rows)
}

fn scale(record: &Record) -> String {
    let single = of_cases(record, &["scale"]).filter(|row| row.number("flows") == Some(1));
    let row = |row: &Row| {
        let of = |many: &&Row| many.text("packet") == row.text("packet") && many.number("flows") != Some(1);
        let many = of_cases(record, &["scale"]).find(of);
        vec![
            count(row, "vips"),
            count(row, "targets"),
            one(row.value()),
            many.map_or_else(|| "–".to_owned(), |row| one(row.value())),
            floor(record, row).map_or_else(|| "–".to_owned(), |row| one(row.value())),
        ]
    };
    table(
        &["#VIPs", "#targets", "#1 flow, ns", "#131,072 flows, ns", "#floor, ns"],
        &single.map(row).collect::<Vec<_>>(),
    )
}

fn site(row: &Row) -> Option<(u64, u64)> {
    Some((row.number("vips")?, row.number("backends")?))
}

fn control(record: &Record) -> String {
    const FIGURES: [&str; 9] =
        ["apply", "change", "change-file", "restart", "scrape", "ring", "memory", "tables", "flows"];
    let mut sites: Vec<(u64, u64)> = record.rows.iter().filter_map(site).collect();
    sites.dedup();
    let limits = record.rows.iter().filter(|row| row.limit.is_some());
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (vips, backends) in sites {
        let mut cells = vec![grouped(vips), grouped(backends)];
        cells.extend(FIGURES.map(|figure| {
            let of = |row: &&Row| site(row) == Some((vips, backends)) && row.text("figure") == Some(figure);
            record.rows.iter().find(of).map_or_else(|| "–".to_owned(), |row| one(row.value()))
        }));
        rows.push(cells);
    }
    let head = [
        "#VIPs",
        "#backends of each",
        "#`lb apply`, from nothing, ms",
        "#`lb backend weight`, to the first packet, ms",
        "#`lb apply` of one weight, to the first packet, ms",
        "#killed, until ready, ms",
        "#all metrics, ms",
        "#ring, ms",
        "#daemon, MiB",
        "#tables, MiB",
        "#flow table, MiB",
    ];
    let limits = limits.filter_map(|row| Some(format!("{} {} {}", row.text("figure")?, row.limit?, row.unit)));
    let limits: Vec<String> = limits.collect();
    table(&head, &rows) + &format!("Limits of the first row: {}.\n", limits.join(", "))
}

fn health(record: &Record) -> String {
    let kinds = record.rows.iter().filter(|row| row.text("figure") == Some("cpu")).filter_map(|row| row.text("kind"));
    let row = |kind: &str| {
        let mut cells = vec![format!("`{kind}`")];
        cells.extend(["cpu", "kernel", "resident", "late-p99", "probes", "failed"].map(|figure| {
            let of = |row: &&Row| row.text("kind") == Some(kind) && row.text("figure") == Some(figure);
            record.rows.iter().find(of).map_or_else(|| "–".to_owned(), |row| one(row.value()))
        }));
        cells
    };
    let head = [
        "kind",
        "#CPU, % of a core",
        "#of it in the kernel",
        "#resident, MiB",
        "#late, 99 of 100, ms",
        "#probes/s",
        "#failed",
    ];
    table(&head, &kinds.map(row).collect::<Vec<_>>())
}

fn maglev(record: &Record) -> String {
    let rings = record.rows.iter().filter(|row| row.text("figure") == Some("build"));
    let row = |build: &Row| {
        let of = |figure: &str| {
            let mut what = build.what.clone();
            what.insert("figure".to_owned(), figure.into());
            record.row(&what)
        };
        let mut cells =
            vec![text(build, "fill"), text(build, "weights"), count(build, "slots"), count(build, "backends")];
        cells.push(format!("{:.2}", build.value()));
        cells.extend(
            ["most", "least"].map(|figure| of(figure).map_or_else(String::new, |row| format!("{:.3}", row.value()))),
        );
        cells.push(of("deviation").map_or_else(String::new, |row| format!("{:.2}", row.value())));
        let hundredth = build.number("backends").map_or(1, |backends| (backends / 100).max(1));
        let events =
            [Event::Fail(1), Event::Add, Event::Halve, Event::Fail(usize::try_from(hundredth).unwrap_or(usize::MAX))]
                .map(Event::name);
        cells.extend(events.map(|event| {
            let both = of(&format!("{event}: moved")).zip(of(&format!("{event}: needed")));
            both.map_or_else(
                || "–".to_owned(),
                |(moved, needed)| format!("{:.2} ({:.2})", moved.value(), needed.value()),
            )
        }));
        cells
    };
    let head = [
        "ring by",
        "weights",
        "#slots",
        "#backends",
        "#build, ms",
        "#most, × its share",
        "#least",
        "#deviation, %",
        "#one leaves: moved (needed), % of slots",
        "#one comes",
        "#half the weight",
        "#1 % fail at once",
    ];
    table(&head, &rings.map(row).collect::<Vec<_>>())
}

/// The figure and the extremes of its rounds.
fn ratio(row: &Row) -> String {
    let end = |name| row.told_as(name).unwrap_or(f64::NAN);
    format!("{:.2} ({:.2} – {:.2})", row.value(), end("least"), end("most"))
}

fn wire(record: &Record) -> String {
    let rates = record.rows.iter().filter(|row| row.text("figure") == Some("rate"));
    let row = |rate: &Row| {
        let mut what = rate.what.clone();
        what.insert("figure".to_owned(), "of-xdp-tx".into());
        vec![
            count(rate, "queues"),
            count(rate, "frame_bytes"),
            text(rate, "program"),
            text(rate, "mode"),
            format!("{:.3}", rate.value()),
            record.row(&what).map_or_else(|| "–".to_owned(), ratio),
            rate.told_as("lost").map_or_else(|| "–".to_owned(), |lost| format!("{lost:.2}")),
            told(rate, "ns_per_packet"),
        ]
    };
    let head =
        ["#queues", "#bytes", "program", "mode", "#Mpps", "#× empty `XDP_TX`", "#lost, %", "#ns of a queue per packet"];
    table(&head, &rates.map(row).collect::<Vec<_>>())
}
