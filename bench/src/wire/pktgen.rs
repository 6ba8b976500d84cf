//! Packets of the kernel's pktgen, by the script that operators use too.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{Amount, CLIENT, Sent, Site, Traffic, site};
use crate::workload::VIP4;

const SCRIPT: &str = include_str!("../../pktgen/pktgen.sh");
/// Where a kernel with pktgen is told what to send, seen from the asking thread's namespace.
const TOLD_AT: &str = "/proc/thread-self/net/pktgen/pgctrl";

/// The kernel's packet generator.
#[derive(Debug)]
pub struct Pktgen(());

impl Pktgen {
    /// Loads the module if there is one.
    pub(super) fn find(site: &Site) -> Result<Self> {
        let told = || site.near.enter(|| Path::new(TOLD_AT).exists());
        if !told() {
            // Built in, or not there at all: both mean that nothing is to be loaded.
            let _ = Command::new("modprobe").args(["-q", "pktgen"]).stderr(Stdio::null()).status();
        }
        ensure!(told(), "this kernel has no pktgen (CONFIG_NET_PKTGEN): use --generator live");
        Ok(Self(()))
    }

    /// Sends from all queues at once.
    pub(super) fn send(&self, site: &Site, traffic: &Traffic, amount: Amount) -> Result<Sent> {
        let Self(()) = self;
        let mut command = site.near.command("sh");
        command.args(["-s", "--"]).args(arguments(&site.cpus, traffic, amount));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run a shell")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(SCRIPT.as_bytes()).context("cannot hand the script to the shell")?;
        }
        let ended = child.wait_with_output()?;
        let told = String::from_utf8_lossy(&ended.stdout);
        ensure!(ended.status.success(), "pktgen failed: {}", String::from_utf8_lossy(&ended.stderr).trim());
        total(&told).with_context(|| format!("the script told nothing of its packets: {told}"))
    }
}

fn arguments(cpus: &[usize], traffic: &Traffic, amount: Amount) -> Vec<String> {
    let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    let amount = match amount {
        Amount::Packets(count) => ["--count".to_owned(), count.to_string()],
        Amount::Time(time) => ["--seconds".to_owned(), format!("{:.3}", time.as_secs_f64())],
    };
    let pairs = [
        ("--interface", site::NEAR.to_owned()),
        ("--mac", site::FAR_MAC.to_owned()),
        ("--to", VIP4.to_string()),
        ("--from", CLIENT.to_string()),
        ("--port", "80".to_owned()),
        ("--size", traffic.frame_bytes().to_string()),
        ("--flows", traffic.flows.to_string()),
        ("--cpus", cpus.join(",")),
    ];
    let pairs = pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
    pairs.chain(amount).collect()
}

/// The script's last line: `total: sent N packets, E errors, in T us`.
fn total(told: &str) -> Option<Sent> {
    let line = told.lines().find_map(|line| line.strip_prefix("total: sent "))?;
    let (packets, rest) = line.split_once(" packets, ")?;
    let (_, time) = rest.split_once(" in ")?;
    let micros = time.strip_suffix(" us")?.parse().ok()?;
    Some(Sent { packets: packets.parse().ok()?, time: Duration::from_micros(micros) })
}

#[cfg(test)]
mod tests;
