//! `lb flow`: the flow table.

use super::{Exit, Global, Misuse, ask, output, output::table, pins};
use crate::{
    api::types::{Flow, Flows},
    explain::tuple::Tuple,
};

/// Look at the flow table
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Count flows by VIP and backend, and by state
    Count,
    /// Show what is remembered of a flow
    #[command(after_help = "A TUPLE is protocol, client and VIP: `tcp 198.51.100.7:51000 192.0.2.10:443`.")]
    Show {
        /// Protocol, client and VIP
        #[arg(value_name = "TUPLE", required = true, num_args = 1..=3)]
        tuple: Vec<String>,
    },
}

/// Prints flows.
///
/// # Errors
/// When no daemon answers and nothing is pinned, the tuple makes no sense, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    match &args.verb {
        Verb::Count => count(global),
        Verb::Show { tuple } => show(&tuple.join(" ").parse().map_err(Misuse::Tuple)?, global),
    }
}

fn count(global: &Global) -> Result<Exit, anyhow::Error> {
    let flows: Flows = pins::get_or_read(global, "/v1/flows/count", |tables| Ok(tables.stats()?.flows))?;
    output::print(global.output, &flows, |flows| {
        let backends = flows
            .backends
            .iter()
            .map(|one| [one.vip.clone(), one.pool.clone(), one.backend.clone(), one.flows.to_string()]);
        let states = flows.states.iter().map(|(state, entries)| [state.clone(), entries.to_string()]);
        let sums = [["all".into(), flows.entries.to_string()], ["capacity".into(), flows.capacity.to_string()]];
        [table(["VIP", "POOL", "BACKEND", ">FLOWS"], backends), table(["STATE", ">ENTRIES"], states.chain(sums))]
            .join("\n")
    })?;
    Ok(Exit::Done)
}

fn show(tuple: &Tuple, global: &Global) -> Result<Exit, anyhow::Error> {
    let parts: Vec<String> = tuple.to_string().split(' ').map(ask::escape).collect();
    let [protocol, source, destination] = &parts[..] else { anyhow::bail!("{tuple} has not three parts") };
    let path = format!("/v1/flows/show?protocol={protocol}&source={source}&destination={destination}");
    let flow: Flow = pins::get_or_read(global, &path, |tables| tables.answer(global, |ground| ground.flow(tuple)))?;
    output::print(global.output, &flow, text)?;
    Ok(if flow.found { Exit::Done } else { Exit::Failed })
}

fn text(flow: &Flow) -> String {
    let mut rows = vec![["flow".to_owned(), flow.tuple.clone()]];
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row("vip", flow.vip.clone().unwrap_or_else(|| "none".to_owned()));
    if flow.tracked == Some(false) {
        row("remembered", "no: the ring alone leads it".to_owned());
    } else if !flow.found {
        row("remembered", "no".to_owned());
    }
    if let (Some(state), Some(age)) = (&flow.state, flow.age_seconds) {
        row("state", if flow.live { state.clone() } else { format!("{state}, ended by now") });
        row("last packet", if age == 0 { "less than 5 s ago".to_owned() } else { format!("about {}", ago(age)) });
    }
    if let (Some(target), Some(address)) = (flow.target, flow.address) {
        let name = flow.backend.as_ref().map_or_else(|| address.to_string(), |name| format!("{name} ({address})"));
        let pool = flow.pool.as_ref().map_or_else(String::new, |pool| format!("{pool}/"));
        row(
            "backend",
            format!("{pool}{name}, {}, target {target}", flow.backend_state.as_deref().unwrap_or("unknown")),
        );
        let next = if flow.usable { "goes there" } else { "goes where the ring says" };
        row("next packet", next.to_owned());
    }
    table(["", ""], rows).trim_start().to_owned()
}

fn ago(seconds: u64) -> String {
    format!("{} ago", ask::duration(seconds))
}
