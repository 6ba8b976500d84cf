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
mod tests {
    use super::*;

    fn dry_run(arguments: &[String]) -> std::process::Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/pktgen/pktgen.sh");
        Command::new("sh").arg(script).args(arguments).arg("--dry-run").output().expect("a shell")
    }

    #[test]
    fn has_the_script_send_the_flows_by_all_queues() {
        let arguments = arguments(&[0, 3], &Traffic::new(128, 4096), Amount::Time(Duration::from_millis(50)));
        let told = dry_run(&arguments);
        assert!(told.status.success(), "{told:?}");
        let told = String::from_utf8(told.stdout).expect("text");
        let lines: Vec<&str> = told.lines().collect();
        let position =
            |line: &str| lines.iter().position(|one| *one == line).unwrap_or_else(|| panic!("{line} in\n{told}"));
        for line in [
            "add_device near0@3 > /proc/net/pktgen/kpktgend_3",
            "pkt_size 128 > /proc/net/pktgen/near0@0",
            "dst 10.200.0.1 > /proc/net/pktgen/near0@0",
            "dst_mac 02:00:00:00:00:02 > /proc/net/pktgen/near0@0",
            // 2,048 flows each, of 1,024 ports and 2 sources, of which the last is never drawn.
            "src_min 10.1.0.1 > /proc/net/pktgen/near0@0",
            "src_max 10.1.0.3 > /proc/net/pktgen/near0@0",
            "src_min 10.2.0.1 > /proc/net/pktgen/near0@3",
            "udp_src_max 2048 > /proc/net/pktgen/near0@3",
            "queue_map_min 1 > /proc/net/pktgen/near0@3",
            "flag IPSRC_RND > /proc/net/pktgen/near0@3",
        ] {
            position(line);
        }
        let order = ["start > /proc/net/pktgen/pgctrl", "sleep 0.050", "stop > /proc/net/pktgen/pgctrl"].map(position);
        assert!(order.is_sorted(), "{told}");
        assert_eq!(lines.last(), Some(&"rem_device_all > /proc/net/pktgen/kpktgend_3"));
    }

    #[test]
    fn the_script_refuses_what_pktgen_would_misunderstand() {
        let good = ["--interface", "eth0", "--to", "192.0.2.1", "--mac", "02:00:00:00:00:01"];
        let with = |more: &[&str]| dry_run(&[&good, more].concat().iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(with(&[]).status.success());
        for bad in [
            ["--to", "192.0.2"],
            ["--to", "192.0.2.256"],
            ["--to", "192.0.2.1.1"],
            ["--from", "::1"],
            ["--mac", "02:00:00:00:00"],
            ["--flows", "1000"],
            ["--flows", "0"],
            ["--size", "59"],
            ["--port", "65536"],
            ["--cpus", "0,x"],
            ["--cpus", ""],
            ["--seconds", "1s"],
            ["--count", "0"],
            ["--rate", "99999999999999999999"],
            ["--colour", "red"],
        ] {
            let told = with(&bad);
            assert_eq!(told.status.code(), Some(64), "{bad:?}: {told:?}");
        }
    }

    #[test]
    fn reads_what_the_script_tells() {
        let sent =
            total("near0@0: sent 10 packets, 0 errors, in 5 us\ntotal: sent 12345 packets, 6 errors, in 500123 us\n");
        let sent = sent.expect("a total");
        assert_eq!((sent.packets, sent.time), (12_345, Duration::from_micros(500_123)));
        assert!(total("near0@0: sent 10 packets, 0 errors, in 5 us\n").is_none());
        assert!(total("total: sent x packets, 6 errors, in 500123 us\n").is_none());
    }
}
