//! `lb decap`: the backend's side.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use anyhow::Context;
use clap::ValueEnum;
use ipnet::IpNet;
use serde::Serialize;

use super::{Exit, Global, output, output::table};
use crate::{
    dataplane::kernel::decap::{self, Settings},
    model::AttachMode,
    telemetry,
};

/// Unwrap tunnelled packets that reach an interface, and pass what is inside to the host
///
/// IP-in-IP in all four family pairs, and GUE variant 1. The program stays in place when this command ends. Running it again
/// replaces it and all its settings at once. Whatever is not a tunnel packet to one of the addresses is passed untouched.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Interface by which tunnelled packets arrive
    #[arg(short, long, value_name = "IF")]
    interface: String,
    /// Tunnel address of this host, as the balancer's config names this backend; the interface's own by default
    #[arg(short, long, value_name = "ADDRESS", value_parser = tunnel_address)]
    address: Vec<IpAddr>,
    /// UDP port at which GUE arrives, as the balancer's `gue_port`
    #[arg(long, value_name = "PORT", default_value_t = decap::GUE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    gue_port: u16,
    /// Drop tunnel packets from elsewhere; the balancer's come from its `tunnel_source_v4` and `tunnel_source_v6`. May be
    /// given several times; anywhere by default
    #[arg(long, value_name = "PREFIX", value_parser = source)]
    allow_source: Vec<IpNet>,
    /// Where in the kernel the program runs
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Take the program off
    #[arg(long, conflicts_with_all = ["address", "gue_port", "allow_source", "mode", "show"])]
    remove: bool,
    /// Show with what settings the program runs, and what it did so far, by verdict
    #[arg(long, conflicts_with_all = ["address", "gue_port", "allow_source", "mode"])]
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

/// With what settings it runs.
#[derive(Debug, Serialize)]
struct Shown {
    addresses: BTreeSet<IpAddr>,
    gue_port: u16,
    /// Empty is anywhere.
    allowed_sources: BTreeSet<IpNet>,
}

/// What was put in place.
#[derive(Debug, Serialize)]
struct Installed {
    interface: String,
    mode: &'static str,
    #[serde(flatten)]
    settings: Shown,
    removed: bool,
}

/// What was taken off.
#[derive(Debug, Serialize)]
struct Removed {
    interface: String,
    /// Whether it was there.
    removed: bool,
}

/// How it goes.
#[derive(Debug, Serialize)]
struct Status {
    interface: String,
    #[serde(flatten)]
    settings: Shown,
    /// Frames by verdict.
    counters: BTreeMap<&'static str, u64>,
}

/// Puts the program in place, takes it off, or shows how it goes.
///
/// # Errors
/// When the interface does not exist, is taken by another program or has no address, or the kernel refuses.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    telemetry::start(global.verbose)?;
    let interface = args.interface.clone();
    if args.show {
        let status = status(&global.pin_path, interface)?;
        output::print(global.output, &status, status_text)?;
    } else if args.remove {
        let removed = decap::remove(&global.pin_path, &interface).context("cannot take the program off")?;
        output::print(global.output, &Removed { interface, removed }, |Removed { interface, removed }| {
            if *removed { format!("taken off {interface}\n") } else { format!("it was not on {interface}\n") }
        })?;
    } else {
        let mode = match args.mode {
            Mode::Auto => AttachMode::Auto,
            Mode::Native => AttachMode::Native,
            Mode::Generic => AttachMode::Generic,
        };
        let settings = Settings {
            sources: args.allow_source.iter().copied().collect(),
            gue_port: args.gue_port,
            ..Settings::new(args.address.iter().copied())
        };
        let done = decap::install(&global.pin_path, &interface, mode, settings)?;
        let mode = done.attached.hook.name();
        let done = Installed { interface, mode, settings: done.settings.into(), removed: false };
        output::print(global.output, &done, |Installed { interface, mode, settings, .. }| {
            format!("unwrapping on {interface} ({mode}):\n{}", settings_text(settings))
        })?;
    }
    Ok(Exit::Done)
}

impl From<Settings> for Shown {
    fn from(settings: Settings) -> Self {
        let Settings { addresses, sources, gue_port } = settings;
        Self { addresses, gue_port, allowed_sources: sources }
    }
}

fn status(pin_path: &Path, interface: String) -> Result<Status, anyhow::Error> {
    let nothing = || format!("lb decap has nothing to show on {interface}");
    let settings = decap::settings(pin_path, &interface).with_context(nothing)?.into();
    let counters = decap::counters(pin_path, &interface).with_context(nothing)?;
    let counters = counters.into_iter().map(|(verdict, frames)| (verdict.name(), frames)).collect();
    Ok(Status { interface, settings, counters })
}

fn status_text(status: &Status) -> String {
    let frames = status.counters.iter().map(|(name, frames)| [(*name).to_owned(), frames.to_string()]);
    format!("{}\n{}", settings_text(&status.settings), table(["VERDICT", ">FRAMES"], frames))
}

fn settings_text(Shown { addresses, gue_port, allowed_sources }: &Shown) -> String {
    let sources = if allowed_sources.is_empty() { "anywhere".to_owned() } else { list(allowed_sources) };
    format!("  packets to  {}\n  from        {sources}\n  GUE port    {gue_port}\n", list(addresses))
}

fn list<T: ToString>(items: &BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Reads an address that packets can be tunnelled to.
fn tunnel_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "not an IPv4 or IPv6 address".to_owned())?;
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_multicast() {
        return Err("no host has this address; name one that the balancer's config gives this backend".to_owned());
    }
    Ok(address)
}

/// Reads a prefix, or an address in the place of the longest one.
fn source(text: &str) -> Result<IpNet, String> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    let net: IpNet = single
        .or_else(|_| text.parse())
        .map_err(|_| "neither a prefix, such as 172.16.0.0/16 or 100::/64, nor an address".to_owned())?;
    if net != net.trunc() {
        return Err(format!(
            "the address has bits beyond the prefix; is {} meant, or only {}?",
            net.trunc(),
            net.addr()
        ));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_prefixes_or_addresses() {
        for (text, net) in [("172.16.0.0/16", "172.16.0.0/16"), ("10.0.0.1", "10.0.0.1/32"), ("fd00::1", "fd00::1/128")]
        {
            assert_eq!(source(text).unwrap().to_string(), net);
        }
        assert!(source("10.0.0.1/8").unwrap_err().contains("is 10.0.0.0/8 meant, or only 10.0.0.1?"));
        for text in ["10.0.0.0/33", "web-1", "", "10.0.0.0/255.0.0.0"] {
            assert!(source(text).unwrap_err().contains("neither a prefix"), "{text}");
        }
    }

    #[test]
    fn tunnel_addresses_are_addresses_of_hosts() {
        assert_eq!(tunnel_address("::ffff:10.0.0.11").unwrap().to_string(), "10.0.0.11");
        for text in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "web-1"] {
            assert!(tunnel_address(text).is_err(), "{text}");
        }
    }
}
