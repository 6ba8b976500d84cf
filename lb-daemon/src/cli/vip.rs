//! `lb vip`: what is served.

use anyhow::anyhow;
use serde::Serialize;

use super::{Exit, Global, ask, backend, output, output::table};
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
        /// Its name in the configuration
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
/// When no daemon answers, it knows no such VIP, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let vips: Vec<Vip> = ask::get(global, "/v1/vips")?;
    match &args.verb {
        Verb::List => output::print(global.output, &vips, |vips| list(vips))?,
        Verb::Show { name } => {
            let known = || vips.iter().map(|vip| vip.name.as_str()).collect::<Vec<_>>().join(", ");
            let vip = vips
                .iter()
                .find(|vip| vip.name == *name)
                .ok_or_else(|| anyhow!("no vip {name}; there are: {}", known()))?;
            let mut members: Vec<Backend> = ask::get(global, "/v1/backends")?;
            members.retain(|backend| backend.vip == *name);
            output::print(global.output, &Shown { vip: vip.clone(), members }, show)?;
        }
    }
    Ok(Exit::Done)
}

fn list(vips: &[Vip]) -> String {
    let row = |vip: &Vip| {
        [
            vip.name.clone(),
            service(vip),
            vip.pool.clone(),
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
    let digest = vip.ring_digest.as_deref().unwrap_or("none");
    format!(
        "{}: {}, pool {}, ring of {} slots, digest {digest}\n{} packets, {} bytes, {} flows created, {} moved\n\n{}",
        vip.name,
        service(vip),
        vip.pool,
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
