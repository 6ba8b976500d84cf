//! Prints what a packet costs the program that `lb` loads. See the crate's README for the method.

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use bench::{
    balancer::{BACKENDS, Balancer, FLOW_TABLE_ENTRIES},
    machine::{self, Machine, Watch},
    measure::{Contender, Figures, Task, measure},
    options::Options,
    replay::{Replay, Subject},
    report::{About, Method, Report, Row},
    stats::hundredths,
    workload::{Action, OUTER4, OUTER6, Verdict, Workload},
};
use bench_xdp::{BARE_TX, CHUNK_PACKETS, CONSTANT_IPV4, CONSTANT_IPV6};
use clap::Parser;

fn main() -> Result<(), anyhow::Error> {
    let options = Options::parse();
    let workloads = chosen(&options)?;
    let balancer = Balancer::find()?;
    let pins = options.pins.iter().map(|pin| Subject::pinned(&pin.name, &pin.path));
    let pins = pins.collect::<Result<Vec<Subject>, _>>()?;
    let machine = Machine::read();
    let cpu = machine::pin(options.cpu)?;
    let mut bench = Bench { balancer, pins, replay: Replay::load()?, watch: Watch::start() };
    let about = About {
        benchmark: "prog-run",
        started: SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs(),
        machine,
        commit: machine::commit(),
        method: Method {
            cpu,
            rounds: options.rounds,
            chunks: options.chunks,
            chunk_packets: CHUNK_PACKETS,
            backends: BACKENDS,
            flow_table_entries: FLOW_TABLE_ENTRIES,
        },
    };
    let mut report = Report { about, rows: Vec::new() };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", report.heading())?;
    for workload in &workloads {
        for flows in workload.case.flows(&options.flows) {
            let task = Task { workload, flows, rounds: options.rounds, chunks: options.chunks };
            for row in bench.rows(&task)? {
                writeln!(out, "{}", row.line())?;
                report.rows.push(row);
            }
            out.flush()?;
        }
    }
    options.json.as_deref().map_or(Ok(()), |path| report.write(path))
}

/// The packets of the cases that are asked for.
fn chosen(options: &Options) -> Result<Vec<Workload>, anyhow::Error> {
    let mut workloads: Vec<Workload> = options.cases.iter().flat_map(|case| case.workloads()).collect();
    let names: Vec<&str> = workloads.iter().map(|workload| workload.packet).collect();
    for name in &options.packets {
        ensure!(names.contains(&name.as_str()), "no packet {name} in these cases; there are {}", names.join(", "));
    }
    if !options.packets.is_empty() {
        workloads.retain(|workload| options.packets.iter().any(|name| name == workload.packet));
    }
    Ok(workloads)
}

/// All that measuring needs.
struct Bench {
    balancer: Balancer,
    pins: Vec<Subject>,
    replay: Replay,
    watch: Watch,
}

impl Bench {
    /// Measures a task with a dataplane that has seen nothing before, beside the baselines.
    fn rows(&mut self, task: &Task) -> Result<Vec<Row>, anyhow::Error> {
        let workload = task.workload;
        let (floor, grown) = if workload.floor_is_v6() { (CONSTANT_IPV6, OUTER6) } else { (CONSTANT_IPV4, OUTER4) };
        let bare = self.replay.baseline(BARE_TX)?;
        let floor = self.replay.baseline(floor)?;
        let lb = self.balancer.load(&workload.wish)?;
        let baseline = |subject, grown| Contender { subject, expected: Verdict { action: Action::Tx, grown } };
        let mut contenders = vec![baseline(&bare, 0), baseline(&floor, grown)];
        let baselines = contenders.len();
        let measured = [&lb].into_iter().chain(&self.pins);
        contenders.extend(measured.map(|subject| Contender { subject, expected: workload.expected }));
        let figures = measure(&mut self.replay, &mut self.watch, task, &contenders)?;
        let floor = figures[1].net.p10;
        let row = |(index, (contender, figures)): (usize, (&Contender, Figures))| Row {
            case: workload.case,
            packet: workload.packet.to_owned(),
            frame_bytes: workload.frame.bytes().len(),
            flows: task.flows,
            program: contender.subject.name.clone(),
            baseline: index < baselines,
            verdict: contender.expected,
            times_floor: (contender.expected.grown > 0).then(|| hundredths(figures.net.p10 / floor)),
            figures,
        };
        Ok(contenders.iter().zip(figures).enumerate().map(row).collect())
    }
}
