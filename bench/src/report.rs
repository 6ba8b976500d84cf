//! The figures for people and for programs.

use std::{fs, path::Path};

use anyhow::Context;
use serde::Serialize;

use crate::{
    machine::Machine,
    measure::Figures,
    workload::{Case, Verdict},
};

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the figures depend on.
    pub about: About,
    /// The figures.
    pub rows: Vec<Row>,
}

/// What the figures depend on.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// `prog-run`.
    pub benchmark: &'static str,
    /// Seconds since 1970 when it began.
    pub started: u64,
    /// What it ran on.
    pub machine: Machine,
    /// What was measured.
    pub commit: String,
    /// How.
    pub method: Method,
}

/// How the figures were taken.
#[derive(Clone, Debug, Serialize)]
pub struct Method {
    /// The CPU it ran on.
    pub cpu: usize,
    /// How often each program was measured.
    pub rounds: u32,
    /// Chunks of each.
    pub chunks: u32,
    /// Packets of each.
    pub chunk_packets: u32,
    /// Backends of each VIP.
    pub backends: u8,
    /// Room for flows.
    pub flow_table_entries: u32,
}

/// One program, one packet, one number of flows.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What the traffic is like.
    pub case: Case,
    /// What packet it is.
    pub packet: String,
    /// Length of its frame.
    pub frame_bytes: usize,
    /// Of how many flows.
    pub flows: u32,
    /// The program's name.
    pub program: String,
    /// Whether it is a baseline.
    pub baseline: bool,
    /// What it does with the packet.
    pub verdict: Verdict,
    /// `net.p10` as a multiple of that of the constant encapsulator; of packets that are encapsulated.
    pub times_floor: Option<f64>,
    /// What it takes.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Report {
    /// `{"about": …, "rows": […]}`, a row a line.
    ///
    /// # Errors
    /// If a figure is no number.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let about = serde_json::to_string(&self.about)?;
        let rows = self.rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        Ok(format!("{{\"about\":{about},\n\"rows\":[\n{}\n]}}\n", rows.join(",\n")))
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), anyhow::Error> {
        let text = self.json().context("the figures cannot be put in JSON")?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// What the table stands under.
    pub fn heading(&self) -> String {
        format!(
            "# {} ({} CPUs, load {}), Linux {}, commit {}\n\
             # CPU {}, {} rounds of {} x {} packets; ns per packet; net = raw - null, spread of the rounds' net median\n\
             {:<9} {:<12} {:>8} {:<14} | {:>7} {:>7} {:>15} {:>6} | {:>7} {:>7} | {:>6} {:>6} | {:>7} verdict",
            self.about.machine.cpu_model,
            self.about.machine.cpus,
            self.about.machine.load,
            self.about.machine.kernel,
            self.about.commit,
            self.about.method.cpu,
            self.about.method.rounds,
            self.about.method.chunks,
            self.about.method.chunk_packets,
            "# case",
            "packet",
            "flows",
            "program",
            "net p10",
            "median",
            "spread",
            "xfloor",
            "raw p10",
            "median",
            "null",
            "median",
            "quiet",
        )
    }
}

impl Row {
    /// A line of the table.
    pub fn line(&self) -> String {
        let Figures { raw, null, net, spread, quiet, rounds } = &self.figures;
        format!(
            "{:<9} {:<12} {:>8} {:<14} | {:>7.1} {:>7.1} {:>15} {:>6} | {:>7.1} {:>7.1} | {:>6.1} {:>6.1} | {:>7} {}",
            self.case.name(),
            self.packet,
            self.flows,
            self.program,
            net.p10,
            net.median,
            format!("{:.1}..{:.1}", spread[0], spread[1]),
            self.times_floor.map_or_else(|| "-".to_owned(), |times| format!("{times:.2}")),
            raw.p10,
            raw.median,
            null.p10,
            null.median,
            format!("{quiet}/{}", rounds.len()),
            self.verdict,
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{measure::Round, stats::Summary, workload::Action};

    fn report() -> Report {
        let raw = Summary { min: 60.0, p10: 61.5, median: 62.0 };
        let null = Summary { min: 40.0, p10: 41.0, median: 42.0 };
        let round = Round { raw, null, quiet: true };
        let figures =
            Figures { raw, null, net: raw.less(null), spread: [19.5, 20.5], quiet: 1, rounds: vec![round; 2] };
        let row = Row {
            case: Case::NotAVip,
            packet: "nonvip-udp4".into(),
            frame_bytes: 64,
            flows: 1,
            program: "lb".into(),
            baseline: false,
            verdict: Verdict { action: Action::Pass, grown: 0 },
            times_floor: None,
            figures,
        };
        let machine = Machine { cpu_model: "M \"1\"".into(), cpus: 2, kernel: "6.18".into(), load: "0.5".into() };
        let method =
            Method { cpu: 1, rounds: 2, chunks: 4, chunk_packets: 8192, backends: 100, flow_table_entries: 64 };
        let about = About { benchmark: "prog-run", started: 7, machine, commit: "abc".into(), method };
        Report { about, rows: vec![row.clone(), row] }
    }

    #[test]
    fn writes_json_that_others_can_read() {
        let text = report().json().unwrap();
        assert_eq!(text.lines().count(), 5, "a row a line:\n{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["about"]["machine"]["cpu_model"], "M \"1\"");
        assert_eq!(read["about"]["method"]["rounds"], 2);
        let row = &read["rows"][1];
        assert_eq!(row["case"], "not-a-vip");
        assert_eq!(row["verdict"], json!({ "action": "pass", "grown": 0 }));
        assert_eq!(row["net"], json!({ "min": 20.0, "p10": 20.5, "median": 20.0 }));
        assert_eq!((&row["quiet"], &row["rounds"][0]["quiet"]), (&json!(1), &json!(true)));
        assert_eq!(row["times_floor"], Value::Null);
    }

    #[test]
    fn prints_columns_below_their_heads() {
        let report = report();
        let heading = report.heading();
        let (head, line) = (heading.lines().last().unwrap(), report.rows[0].line());
        let bars = |text: &str| text.match_indices('|').map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(bars(head), bars(&line), "{head}\n{line}");
        assert!(line.contains("19.5..20.5") && line.ends_with("1/2 pass+0"), "{line}");
    }
}
