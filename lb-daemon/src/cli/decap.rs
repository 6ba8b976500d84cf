//! `lb decap`: the backend's side.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use super::{Exit, Global, output, output::table};
use crate::{dataplane::kernel::decap, model::AttachMode, telemetry};

/// Unwrap tunnelled packets that reach an interface, and pass what is inside to the host
///
/// The program stays in place when this command ends. Running it again replaces it in place. Whatever is not a tunnel
/// packet to one of the addresses is passed untouched.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Interface by which tunnelled packets arrive
    #[arg(short, long, value_name = "IF")]
    interface: String,
    /// Tunnel address of this host, as the balancer's config names this backend; the interface's own by default
    #[arg(short, long, value_name = "ADDRESS")]
    address: Vec<IpAddr>,
    /// Where in the kernel the program runs
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Take the program off
    #[arg(long, conflicts_with_all = ["address", "show"])]
    remove: bool,
    /// Show what the program did so far, by verdict
    #[arg(long, conflicts_with = "address")]
    show: bool,
}

/// Where the program runs.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Mode {
    /// Native, else generic with a warning
    #[default]
    Auto,
    /// In the driver
    Native,
    /// In the kernel's generic hook, slow
    Generic,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    interface: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    addresses: Vec<IpAddr>,
    removed: bool,
}

/// Puts the program in place, takes it off, or shows its counters.
///
/// # Errors
/// When the interface does not exist, is taken by another program or has no address, or the kernel refuses.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    telemetry::start(global.verbose)?;
    let interface = &args.interface;
    if args.show {
        let counters = decap::counters(&global.pin_path, interface);
        let counters = counters.with_context(|| format!("lb decap has nothing to show on {interface}"))?;
        let named: BTreeMap<_, _> = counters.into_iter().map(|(verdict, frames)| (verdict.name(), frames)).collect();
        output::print(global.output, &named, |named| {
            table(["VERDICT", ">FRAMES"], named.iter().map(|(name, frames)| [(*name).to_owned(), frames.to_string()]))
        })?;
        return Ok(Exit::Done);
    }
    let report = if args.remove {
        let removed = decap::remove(&global.pin_path, interface).context("cannot take the program off")?;
        Report { interface: interface.clone(), mode: None, addresses: Vec::new(), removed }
    } else {
        let mode = match args.mode {
            Mode::Auto => AttachMode::Auto,
            Mode::Native => AttachMode::Native,
            Mode::Generic => AttachMode::Generic,
        };
        let done = decap::install(&global.pin_path, interface, mode, &args.address)?;
        let mode = Some(done.attached.hook.name());
        Report { interface: interface.clone(), mode, addresses: done.addresses.into_iter().collect(), removed: false }
    };
    output::print(global.output, &report, text)?;
    Ok(Exit::Done)
}

fn text(report: &Report) -> String {
    let Report { interface, mode, addresses, removed } = report;
    match (mode, removed) {
        (Some(mode), _) => {
            let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("unwrapping packets to {addresses} on {interface} ({mode})\n")
        }
        (None, true) => format!("taken off {interface}\n"),
        (None, false) => format!("it was not on {interface}\n"),
    }
}
