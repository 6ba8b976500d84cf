//! `lb vip`: what is served.

use anyhow::anyhow;
use serde::Serialize;

use super::{Exit, Global, ask, backend, output, output::table, pins};
use crate::api::types::{Backend, Vip};

/// Look at VIPs
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List all VIPs
    List,
    /// Show one VIP with its backends
    Show {
        /// Its name in the configuration; without a daemon, its address as `lb vip list` shows it
        name: String,
    },
}

/// A VIP and its backends.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    vip: Vip,
    members: Vec<Backend>,
}

/// Prints VIPs.
///
/// # Errors
/// When no daemon answers and nothing is pinned, there is no such VIP, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let ask_vips = || ask::get::<Vec<Vip>>(global, "/v1/vips");
    match &args.verb {
        Verb::List => {
            let vips = pins::ask_or_read(global, ask_vips, |tables| {
                pins::say_unmanaged(global);
                tables.vips()
            })?;
            output::print(global.output, &vips, |vips| list(vips))?;
        }
        Verb::Show { name } => {
            // Both from the same place: the tables have other names than a daemon.
            let ask_all = || Ok((ask_vips()?, ask::get::<Vec<Backend>>(global, "/v1/backends")?));
            let (vips, mut members) = pins::ask_or_read(global, ask_all, |tables| {
                pins::say_unmanaged(global);
                Ok((tables.vips()?, tables.backends()?))
            })?;
            let known = || vips.iter().map(|vip| quoted(&vip.name)).collect::<Vec<_>>().join(", ");
            let vip = vips
                .iter()
                .find(|vip| vip.name == *name)
                .ok_or_else(|| anyhow!("no vip {name}; there are: {}", known()))?;
            members.retain(|backend| backend.vip == *name);
            output::print(global.output, &Shown { vip: vip.clone(), members }, show)?;
        }
    }
    Ok(Exit::Done)
}

/// A name as a shell takes it for one word.
fn quoted(name: &str) -> String {
    if name.contains(' ') { format!("\"{name}\"") } else { name.to_owned() }
}

fn list(vips: &[Vip]) -> String {
    let row = |vip: &Vip| {
        [
            vip.name.clone(),
            service(vip),
            if vip.pool.is_empty() { "-".into() } else { vip.pool.clone() },
            format!("{} of {}", vip.backends_serving, vip.backends),
            vip.traffic.packets.to_string(),
            vip.traffic.bytes.to_string(),
            vip.traffic.flows_created.to_string(),
        ]
    };
    table(["VIP", "SERVICE", "POOL", "SERVING", ">PACKETS", ">BYTES", ">NEW FLOWS"], vips.iter().map(row))
}

fn show(shown: &Shown) -> String {
    let Shown { vip, members } = shown;
    let pool = if vip.pool.is_empty() { "pool unknown".into() } else { format!("pool {}", vip.pool) };
    let digest = vip.ring_digest.as_deref().unwrap_or("none");
    format!(
        "{}: {}, {pool}, ring of {} slots, digest {digest}\n{} packets, {} bytes, {} flows created, {} moved\n\n{}",
        vip.name,
        service(vip),
        vip.ring_slots,
        vip.traffic.packets,
        vip.traffic.bytes,
        vip.traffic.flows_created,
        vip.traffic.flows_moved,
        backend::list(members),
    )
}

fn service(vip: &Vip) -> String {
    let address = match vip.port {
        0 => vip.address.to_string(),
        port => std::net::SocketAddr::new(vip.address, port).to_string(),
    };
    format!("{address} {}", vip.protocol)
}
