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
#[derive(Clone, Debug, Serialize)]
pub struct Report {
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
    /// The figures.
    pub rows: Vec<Row>,
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
    /// Writes it to a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), anyhow::Error> {
        let text = serde_json::to_string_pretty(self).context("the figures cannot be put in JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// What the table stands under.
    pub fn heading(&self) -> String {
        format!(
            "# {} ({} CPUs, load {}), Linux {}, commit {}\n\
             # CPU {}, {} rounds of {} x {} packets; ns per packet; net = raw - null, spread of the rounds' net median\n\
             {:<9} {:<12} {:>8} {:<14} | {:>7} {:>7} {:>15} {:>6} | {:>7} {:>7} | {:>6} {:>6} | {:>7} verdict",
            self.machine.cpu_model,
            self.machine.cpus,
            self.machine.load,
            self.machine.kernel,
            self.commit,
            self.method.cpu,
            self.method.rounds,
            self.method.chunks,
            self.method.chunk_packets,
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
