//! `lb stats`: what became of the frames.

use super::{Exit, Global, output, output::table, pins};
use crate::api::types::Stats;

/// Show counters: why frames left, what the flow table met and holds
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read the pinned tables, as happens without a daemon; sums of freed targets are then missing
    #[arg(long)]
    pins: bool,
}

/// Prints counters.
///
/// # Errors
/// When no daemon answers and nothing is pinned, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let stats: Stats = if args.pins {
        pins::Tables::open(global)?.stats()?
    } else {
        pins::get_or_read(global, "/v1/stats", pins::Tables::stats)?
    };
    output::print(global.output, &stats, text)?;
    Ok(Exit::Done)
}

fn text(stats: &Stats) -> String {
    let verdicts = stats
        .verdicts
        .iter()
        .map(|one| [one.verdict.clone(), one.action.clone(), one.packets.to_string(), one.bytes.to_string()]);
    let counts = |(name, count): (&String, &u64)| [name.clone(), count.to_string()];
    let entries = stats.flows.states.iter().map(counts);
    let live = stats.flows.live.map(|live| ["live".into(), live.to_string()]);
    let sums = [["all".into(), stats.flows.entries.to_string()], ["capacity".into(), stats.flows.capacity.to_string()]];
    [
        table(["VERDICT", "ACTION", ">PACKETS", ">BYTES"], verdicts),
        table(["FLOW EVENT", ">PACKETS"], stats.path.iter().map(counts)),
        table(["FLOW TABLE", ">ENTRIES"], entries.chain(live).chain(sums)),
    ]
    .join("\n")
}
