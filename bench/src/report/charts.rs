//! Which figures are drawn.

use std::collections::BTreeSet;

use super::plot::{Axis, Bars, Line, Lines, Scale};
use crate::record::{Record, Row};

/// Name, title and picture.
type Chart = (&'static str, &'static str, String);

/// The pictures of a part of the report.
pub(super) fn of(part: &str, record: &Record) -> Result<Vec<Chart>, anyhow::Error> {
    let lines = match part {
        "prog-run" => vec![("flows", flows(record))],
        "scale" => vec![("vips", by_vips(record)), ("backends", by_backends(record))],
        "control" => vec![
            ("control-vips", growth(record, "vips", "Times by VIPs, 10 backends each", "VIPs")),
            ("control-backends", growth(record, "backends", "Times by backends, 10 VIPs", "backends of each VIP")),
            ("memory", memory(record)),
        ],
        "maglev" => {
            vec![("rings-moved", moved(record)), ("rings-time", built(record)), ("rings-balance", balance(record))]
        }
        "wire" => vec![("wire", wire(record))],
        _ => Vec::new(),
    };
    let mut charts = Vec::new();
    for (name, plot) in lines {
        charts.extend(plot.svg()?.map(|svg| (name, plot.title, svg)));
    }
    if part == "health" {
        let bars = cpu(record);
        charts.extend(bars.svg()?.map(|svg| ("health", bars.title, svg)));
    }
    Ok(charts)
}

/// A line of the rows that `of` accepts, from left to right by `x`.
fn line(record: &Record, name: impl Into<String>, x: &str, of: impl Fn(&Row) -> bool) -> Line {
    let rows = record.rows.iter().filter(|row| of(row) && row.value().is_finite());
    #[expect(clippy::cast_precision_loss, reason = "counts and sizes")]
    let mut points: Vec<(f64, f64)> = rows.filter_map(|row| Some((row.number(x)? as f64, row.value()))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Line { name: name.into(), points }
}

fn is(row: &Row, name: &str, text: &str) -> bool {
    row.text(name) == Some(text)
}

const fn axis(label: &'static str, scale: Scale) -> Axis {
    Axis { label, scale }
}

fn flows(record: &Record) -> Lines {
    let of = |packet: &'static str, program: &'static str| {
        move |row: &Row| {
            (is(row, "case", "hit") || is(row, "case", "rotate"))
                && is(row, "packet", packet)
                && is(row, "program", program)
        }
    };
    let new = |row: &Row| is(row, "case", "syn") && is(row, "packet", "tcp4-syn") && is(row, "program", "lb");
    let lines = vec![
        line(record, "TCP, always tracked", "flows", of("tcp4-ack", "lb")),
        line(record, "TCP, adaptive", "flows", of("tcp4-adaptive", "lb")),
        line(record, "UDP", "flows", of("udp4", "lb")),
        line(record, "UDP over IPv6", "flows", of("udp6", "lb")),
        line(record, "SYN that comes again", "flows", new),
        line(record, "GUE", "flows", of("gue4", "lb")),
        line(record, "constant header", "flows", of("udp4", "constant_ipv4")),
    ];
    let lines = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
    let (x, y) = (axis("flows", Scale::Powers), axis("ns per packet, p10", Scale::Even));
    Lines { title: "Cost of a packet by flows", x, y, lines }
}

fn scale(record: &Record, title: &'static str, (x, label): (&str, &'static str), of: fn(&Row) -> bool) -> Lines {
    let row = |program: &'static str, flows: u64| {
        move |row: &Row| is(row, "program", program) && row.number("flows") == Some(flows) && of(row)
    };
    let lines = vec![
        line(record, "131,072 flows", x, row("lb", 1 << 17)),
        line(record, "1 flow", x, row("lb", 1)),
        line(record, "constant header", x, row("constant_ipv4", 1)),
    ];
    Lines { title, x: axis(label, Scale::Powers), y: axis("ns per packet, p10", Scale::Even), lines }
}

fn by_vips(record: &Record) -> Lines {
    let of = |row: &Row| row.text("packet").is_some_and(|packet| packet.starts_with("vips-"));
    scale(record, "Cost of a packet by VIPs, 16 backends each", ("vips", "VIPs"), of)
}

fn by_backends(record: &Record) -> Lines {
    let of = |row: &Row| row.text("packet").is_some_and(|packet| packet.starts_with("backends-"));
    scale(record, "Cost of a packet by backends of one VIP", ("targets", "backends"), of)
}

/// Rows of sites in which only one of both numbers grows.
fn grows(row: &Row, figure: &str, by: &str) -> bool {
    let fixed = if by == "vips" { "backends" } else { "vips" };
    is(row, "figure", figure) && row.number(fixed) == Some(10)
}

fn growth(record: &Record, by: &'static str, title: &'static str, label: &'static str) -> Lines {
    let figures = [
        ("restart", "killed, until ready again"),
        ("apply", "lb apply, from nothing"),
        ("change-file", "lb apply of one weight"),
        ("change", "lb backend weight"),
    ];
    let lines = figures.map(|(figure, name)| line(record, name, by, |row| grows(row, figure, by)));
    Lines { title, x: axis(label, Scale::Powers), y: axis("ms", Scale::Powers), lines: lines.into() }
}

fn memory(record: &Record) -> Lines {
    let lines = [
        ("tables", "vips", "tables, by VIPs"),
        ("memory", "vips", "daemon, by VIPs"),
        ("tables", "backends", "tables, by backends"),
        ("memory", "backends", "daemon, by backends"),
    ];
    let lines = lines.map(|(figure, by, name)| line(record, name, by, |row| grows(row, figure, by)));
    let x = axis("VIPs of 10 backends each, or backends of each of 10 VIPs", Scale::Powers);
    Lines { title: "Memory, without the flow table", x, y: axis("MiB", Scale::Powers), lines: lines.into() }
}

/// What a ring's line is called.
fn ring_name(fill: &str, slots: u64) -> String {
    let who = if fill == "lb" { "lb" } else { "paper's method" };
    format!("{who}, {} slots", super::tables::grouped(slots))
}

/// Kinds of rings with equal weights, as the rows have them.
fn rings(record: &Record) -> BTreeSet<(String, u64)> {
    let of = |row: &Row| Some((row.text("fill")?.to_owned(), row.number("slots")?));
    record.rows.iter().filter(|row| is(row, "weights", "equal")).filter_map(of).collect()
}

fn of_ring(row: &Row, (fill, slots): &(String, u64), figure: &str) -> bool {
    let fits = is(row, "fill", fill) && row.number("slots") == Some(*slots);
    fits && is(row, "weights", "equal") && is(row, "figure", figure)
}

fn moved(record: &Record) -> Lines {
    let lines = rings(record).into_iter().map(|ring| {
        let points = record.rows.iter().filter_map(|row| {
            let failed = row.text("figure")?.strip_prefix("fail-")?.strip_suffix(": moved")?.parse::<u32>().ok()?;
            let fits = row.number("backends") == Some(1000) && of_ring(row, &ring, row.text("figure")?);
            fits.then(|| (f64::from(failed) / 10.0, row.value()))
        });
        Line { points: points.collect(), name: ring_name(&ring.0, ring.1) }
    });
    let lines = lines.filter(|line| !line.points.is_empty()).collect();
    let (x, y) = (
        axis("% of 1,000 backends that fail at once", Scale::Powers),
        axis("% of slots that move needlessly", Scale::Powers),
    );
    Lines { title: "Disruption", x, y, lines }
}

fn built(record: &Record) -> Lines {
    let lines = rings(record).into_iter();
    let lines =
        lines.map(|ring| line(record, ring_name(&ring.0, ring.1), "backends", |row| of_ring(row, &ring, "build")));
    let (x, y) = (axis("backends", Scale::Powers), axis("ms", Scale::Powers));
    Lines { title: "Time to make a ring", x, y, lines: lines.collect() }
}

fn balance(record: &Record) -> Lines {
    let rings = rings(record).into_iter().filter(|(fill, _)| fill == "lb");
    let lines = rings.flat_map(|ring| {
        [("most", "most"), ("least", "least")].map(|(figure, name)| {
            let name = format!("{name}, {} slots", super::tables::grouped(ring.1));
            line(record, name, "backends", |row| of_ring(row, &ring, figure))
        })
    });
    let (x, y) = (axis("backends", Scale::Powers), axis("slots, as a multiple of the fair share", Scale::Near));
    Lines { title: "Balance of a ring, equal weights", x, y, lines: lines.collect() }
}

fn wire(record: &Record) -> Lines {
    let rates = || record.rows.iter().filter(|row| is(row, "figure", "rate") && row.number("queues") == Some(1));
    let kinds = rates().filter_map(|row| Some((row.text("mode")?.to_owned(), row.text("program")?.to_owned())));
    let kinds: BTreeSet<(String, String)> = kinds.collect();
    let lines = kinds.into_iter().map(|(mode, program)| {
        let of = |row: &Row| {
            let one = is(row, "figure", "rate") && row.number("queues") == Some(1);
            one && is(row, "mode", &mode) && is(row, "program", &program)
        };
        line(record, format!("{program}, {mode}"), "frame_bytes", of)
    });
    let (x, y) = (axis("bytes of a frame", Scale::Even), axis("million packets a second", Scale::Even));
    Lines { title: "Packets a second over a veth pair, one queue", x, y, lines: lines.collect() }
}

fn cpu(record: &Record) -> Bars {
    let of = |kind: &str, figure: &str| {
        record.rows.iter().find(|row| is(row, "kind", kind) && is(row, "figure", figure)).map_or(0.0, Row::value)
    };
    let kinds = record.rows.iter().filter(|row| is(row, "figure", "cpu")).filter_map(|row| row.text("kind"));
    let names: Vec<String> = kinds.map(str::to_owned).collect();
    let kernel: Vec<f64> = names.iter().map(|kind| of(kind, "kernel")).collect();
    let program = names.iter().zip(&kernel).map(|(kind, kernel)| of(kind, "cpu") - kernel).collect();
    Bars {
        title: "CPU of health checks",
        y: "% of a core",
        names,
        parts: vec![("in the kernel", kernel), ("in the program", program)],
    }
}
