//! Prints what a packet costs the program that `lb` loads. See the crate's README for the method.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::ensure;
use bench::{
    balancer::{BACKENDS, Balancer, FLOW_TABLE_ENTRIES, LB, Wish},
    machine::{self, Watch},
    measure::{Contender, Figures, Task, measure, verify},
    options::{Options, each, ensure_distinct},
    outcome::{Outcome, heading},
    output::exit_code,
    replay::{Replay, Subject},
    stats::hundredths,
    workload::{Action, Case, OUTER4, OUTER6, Verdict, Workload},
};
use bench_xdp::{BARE_TX, CHUNK_PACKETS, CONSTANT_IPV4, CONSTANT_IPV6};
use clap::Parser;
use serde_json::json;

fn main() -> Result<ExitCode, anyhow::Error> {
    let options = Options::parse();
    let workloads = chosen(&options)?;
    let balancer = Balancer::find()?;
    ensure_distinct([LB, BARE_TX, CONSTANT_IPV4, CONSTANT_IPV6], &options.pins)?;
    let pins = options.pins.iter().map(|pin| Subject::pinned(&pin.name, &pin.path));
    let pins = pins.collect::<Result<Vec<Subject>, _>>()?;
    let method = json!({
        "rounds": options.rounds,
        "chunks": options.chunks,
        "chunk_packets": CHUNK_PACKETS,
        "backends": BACKENDS,
        "flow_table_entries": FLOW_TABLE_ENTRIES,
        "baselines": [BARE_TX, CONSTANT_IPV4, CONSTANT_IPV6],
        "null": BARE_TX,
        "reference": "arithmetic",
    });
    let mut run = options.output.begin("prog-run", method)?;
    // From here on it may use one CPU only, and would be taken for a machine of one.
    run.record.about.method.insert("cpu".into(), machine::pin(options.cpu)?.into());
    let mut bench = Bench { balancer, pins, replay: Replay::load()?, watch: Watch::start() };
    let flows: Vec<u32> = each(&options.flows).into_iter().collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{}", heading(&run.record))?;
    for workload in &workloads {
        for flows in workload.flows(&flows) {
            let patience = Duration::from_secs(options.patience);
            let task = Task { workload, flows, rounds: options.rounds, chunks: options.chunks, patience };
            let (outcomes, left_out) = bench.outcomes(&task)?;
            for reason in left_out {
                writeln!(out, "# left out: {reason}")?;
            }
            for outcome in outcomes {
                writeln!(out, "{}", outcome.line())?;
                run.add([outcome.row()])?;
            }
            out.flush()?;
        }
    }
    run.finish().map(exit_code)
}

/// The packets of the cases that are asked for.
fn chosen(options: &Options) -> Result<Vec<Workload>, anyhow::Error> {
    let mut workloads: Vec<Workload> = each(&options.cases).into_iter().flat_map(Case::workloads).collect();
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
    /// Measures a task with a dataplane that has seen nothing before, beside the baselines. Also says which pinned program
    /// does something else with the packet, and so takes no part.
    fn outcomes(&mut self, task: &Task) -> Result<(Vec<Outcome>, Vec<String>), anyhow::Error> {
        let workload = task.workload;
        let wish = workload.wish(task.flows);
        let (floor, grown) = if workload.floor_is_v6() { (CONSTANT_IPV6, OUTER6) } else { (CONSTANT_IPV4, OUTER4) };
        let bare = self.replay.baseline(BARE_TX)?;
        let floor = self.replay.baseline(floor)?;
        let lb = self.balancer.load(&wish)?;
        let baseline = |subject, grown| Contender { subject, expected: Verdict { action: Action::Tx, grown } };
        let mut contenders = vec![baseline(&bare, 0), baseline(&floor, grown)];
        let forwards = |subject| Contender { subject, expected: workload.expected };
        contenders.push(forwards(&lb));
        // What others were filled with is the plain config: with another one they would do something else, or the same for less.
        let pins = if wish == Wish::default() { &self.pins[..] } else { &[] };
        let mut left_out = Vec::new();
        for pin in pins {
            match verify(&mut self.replay, task, &forwards(pin)) {
                Ok(()) => contenders.push(forwards(pin)),
                Err(reason) => left_out.push(format!("{reason:#}")),
            }
        }
        let figures = measure(&mut self.replay, &mut self.watch, task, &contenders)?;
        let floor = figures[1].net.p10;
        let outcome = |(contender, figures): (&Contender, Figures)| Outcome {
            case: workload.case,
            packet: workload.packet.to_owned(),
            frame_bytes: workload.frame.bytes().len(),
            flows: task.flows,
            scale: wish.scale,
            flow_table: contender.subject.flow_table,
            program: contender.subject.name.clone(),
            verdict: contender.expected,
            times_floor: (contender.expected.grown > 0).then(|| hundredths(figures.net.p10 / floor)),
            figures,
        };
        Ok((contenders.iter().zip(figures).map(outcome).collect(), left_out))
    }
}
