//! Prints how many packets a second the balancer sends on. See the crate's README for the method.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Result;
use bench::{
    balancer::binary,
    lab::{Stop, ensure_root},
    options::{each, ensure_distinct},
    output::exit_code,
    wire::{
        BACKENDS, Contender, Generator, OWN_NAMES, Plan, QueueWatch, Site, Traffic, XDP_TX, measure,
        options::{Options, Source},
        outcome::{OF_XDP_TX, Outcome, Place, heading},
    },
};
use clap::Parser;
use serde_json::json;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    ensure_root()?;
    let lb = binary()?;
    ensure_distinct(OWN_NAMES, &options.pins)?;
    let stop = Stop::on_signals()?;
    let method = json!({
        "rounds": options.rounds,
        "seconds": options.seconds.as_secs_f64(),
        "flows": options.flows,
        "backends": BACKENDS,
        "baselines": [XDP_TX],
        "derived": [OF_XDP_TX],
    });
    let mut run = options.output.begin("wire", method)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", heading(&run.record))?;
    for queues in each(&options.queues) {
        let site = Site::build(queues)?;
        let mut watch = QueueWatch::start(&site.cpus)?;
        let mut generator = generator(options.generator, &site)?;
        let (mut contenders, absent) = contenders(&options, &site, &lb)?;
        if let Some(reason) = absent {
            writeln!(out, "# ipvs takes no part: {reason}")?;
            run.record.about.method.insert("ipvs".into(), reason.into());
        }
        for frame_bytes in each(&options.sizes) {
            let traffic = Traffic::new(frame_bytes, options.flows);
            let plan = Plan { rounds: options.rounds, time: options.seconds };
            let samples = measure(&site, &mut generator, &mut contenders, (&traffic, plan), (&mut watch, &stop))?;
            let place = Place { queues, frame_bytes, flows: options.flows, generator: generator.name() };
            for outcome in Outcome::all(place, &contenders, &samples) {
                writeln!(out, "{}", outcome.line())?;
                run.add(outcome.rows())?;
            }
            out.flush()?;
        }
    }
    Ok(exit_code(run.finish()?))
}

fn generator(source: Source, site: &Site) -> Result<Generator> {
    match source {
        Source::Pktgen => Generator::pktgen(site),
        Source::Live => Generator::live(site),
        Source::Auto => Generator::pktgen(site).or_else(|_| Generator::live(site)),
    }
}

/// All that take part, and why IPVS does not.
fn contenders(options: &Options, site: &Site, lb: &Path) -> Result<(Vec<Contender>, Option<String>)> {
    let mut contenders = Vec::new();
    for mode in each(&options.modes) {
        contenders.push(Contender::xdp_tx(mode)?);
        contenders.push(Contender::lb(site, lb, mode)?);
        for pin in &options.pins {
            contenders.push(Contender::pinned(&pin.name, &pin.path, mode)?);
        }
    }
    contenders.push(Contender::forwarding());
    let absent = match Contender::ipvs(site) {
        Ok(ipvs) => {
            contenders.push(ipvs);
            None
        }
        Err(reason) => Some(reason),
    };
    Ok((contenders, absent))
}
