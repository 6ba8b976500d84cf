//! The kernel's own balancer, with the same VIP and backends: IP-in-IP, Maglev hashing.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Site, backends};
use crate::workload::VIP4;

/// Where a kernel with IPVS tells of it, seen from the asking thread's namespace.
const TOLD_AT: &str = "/proc/thread-self/net/ip_vs";

/// A service; taken away when dropped.
pub(super) struct Ipvs<'s> {
    site: &'s Site,
}

/// Loads the module if there is one. Says what is missing.
pub(super) fn is_there(site: &Site) -> Result<(), String> {
    let told = || site.far.enter(|| Path::new(TOLD_AT).exists());
    if !told() {
        // Built in, or not there at all: both mean that nothing is to be loaded.
        let _ = Command::new("modprobe").args(["-q", "ip_vs"]).stderr(Stdio::null()).status();
    }
    if !told() {
        return Err("this kernel has no ip_vs".into());
    }
    let version = Command::new("ipvsadm").arg("--version").output();
    version.map(drop).map_err(|error| format!("ipvsadm cannot be run, install it: {error}"))
}

impl<'s> Ipvs<'s> {
    /// Has the far end's namespace serve.
    pub(super) fn serve(site: &'s Site) -> Result<Self> {
        let service = Self { site };
        site.far.ip(&format!("addr add {VIP4}/32 dev lo\n"))?;
        let mut command = site.far.command("ipvsadm");
        let mut child = command
            .arg("--restore")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ipvsadm")?;
        if let Some(mut stdin) = child.stdin.take() {
            // What it says itself tells more than a broken pipe.
            let _ = stdin.write_all(rules().as_bytes());
        }
        let ended = child.wait_with_output()?;
        ensure!(ended.status.success(), "ipvsadm failed: {}", String::from_utf8_lossy(&ended.stderr).trim());
        Ok(service)
    }
}

impl Drop for Ipvs<'_> {
    fn drop(&mut self) {
        // What was not there need not be taken away.
        let _ = self.site.far.run("ipvsadm", &["--clear"]);
        let _ = self.site.far.ip(&format!("addr del {VIP4}/32 dev lo\n"));
    }
}

/// What `ipvsadm --restore` reads.
fn rules() -> String {
    let mut rules = format!("-A -u {VIP4}:80 -s mh\n");
    for backend in backends() {
        let _ = writeln!(rules, "-a -u {VIP4}:80 -r {backend}:80 -i -w 1");
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_the_vip_by_all_backends_through_tunnels() {
        let rules = rules();
        assert!(
            rules.starts_with("-A -u 10.200.0.1:80 -s mh\n-a -u 10.200.0.1:80 -r 10.100.0.1:80 -i -w 1\n"),
            "{rules}"
        );
        assert_eq!(rules.lines().count(), 101);
    }
}
