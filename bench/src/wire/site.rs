//! Two namespaces and a veth pair: packets are sent and counted at one end, and the other end gives them back.

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf,
    maps::PerCpuArray,
    programs::{Xdp, XdpMode, xdp::XdpLink},
};
use bench_xdp::{ARRIVED, Arrived, SINK};
use netns_tests::{bpf::interface_number, leftovers, netns::Namespace, topology::quiet_offloads};
use zerocopy::{FromZeros, IntoBytes};

use crate::{OBJECT, lab, machine};

/// The end that sends and counts.
pub(super) const NEAR: &str = "near0";
/// The end of the balancer.
pub(super) const FAR: &str = "eth0";
/// Of the near end: where frames are counted, and so the next hop of all.
const NEAR_MAC: &str = "02:00:00:00:00:01";
/// Of the far end, as the frames have it that `workload::frame` builds.
pub(super) const FAR_MAC: &str = "02:00:00:00:00:02";
/// A full packet fits with its outer header.
const MTU: u32 = 1600;

/// The namespaces. Taken down when dropped.
pub struct Site {
    /// The CPU of each queue: both ends have as many.
    pub cpus: Vec<usize>,
    // Before the namespaces, so that it lets go of the interface first.
    sink: Ebpf,
    /// Where packets are sent, and counted when they come back.
    pub(super) near: Namespace,
    /// Where the balancer is.
    pub(super) far: Namespace,
    near_ifindex: u32,
}

impl Site {
    /// Lays the wire.
    ///
    /// # Errors
    /// If the kernel refuses something, or `ip` or `ethtool` is missing.
    pub fn build(queues: usize) -> Result<Self> {
        let cpus = cpus(queues)?;
        leftovers::sweep();
        let [near, far] = ["wire-near", "wire-far"].map(|word| Namespace::create(&lab::name(word)));
        let (near, far) = (near?, far?);
        for namespace in [&near, &far] {
            // Nobody but us shall send anything.
            namespace.sysctl(&[("net.ipv6.conf.default.disable_ipv6", "1")])?;
        }
        far.sysctl(&[
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
            // Packets go back to where they came from, and their sender shall not be told of it.
            ("net.ipv4.conf.all.send_redirects", "0"),
            ("net.ipv4.conf.default.send_redirects", "0"),
        ])?;
        let ends = format!("mtu {MTU} numtxqueues {queues} numrxqueues {queues}");
        near.ip(&format!("link add {NEAR} {ends} type veth peer name {FAR} {ends} netns {}\n", far.name()))?;
        for (namespace, end, mac) in [(&near, NEAR, NEAR_MAC), (&far, FAR, FAR_MAC)] {
            quiet_offloads(namespace, end)?;
            namespace.ip(&format!("link set {end} address {mac} up\n"))?;
        }
        // Without a native program a veth takes frames from its peer's programs only if it polls, which this makes it do.
        far.run("ethtool", &["-K", FAR, "gro", "on"])?;
        far.ip(&format!(
            "addr add 10.0.0.2/24 dev {FAR}\nneigh add 10.0.0.1 lladdr {NEAR_MAC} dev {FAR} nud permanent\n\
             route add default via 10.0.0.1\n"
        ))?;
        let mut sink = Ebpf::load(OBJECT).context("the benchmark's own programs cannot be loaded; are you root?")?;
        let program: &mut Xdp = sink.program_mut(SINK).context("no program to count with")?.try_into()?;
        program.load().context("the kernel refuses the program that counts")?;
        let near_ifindex = near.enter(|| -> Result<u32> {
            program.attach(NEAR, XdpMode::Driver).context("no native XDP on veth here (Linux 4.19)")?;
            interface_number(NEAR)
        })?;
        Ok(Self { cpus, sink, near, far, near_ifindex })
    }

    /// Number of the near end.
    pub(super) fn near_ifindex(&self) -> u32 {
        self.near_ifindex
    }

    /// Attaches a program to the far end, until the link is dropped.
    pub(super) fn attach(&self, program: &mut Xdp, mode: XdpMode) -> Result<XdpLink> {
        let id = self.far.enter(|| program.attach(FAR, mode));
        let id = id.with_context(|| format!("cannot attach to {FAR}"))?;
        Ok(program.take_link(id)?)
    }

    /// What has arrived so far, all CPUs together.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn arrived(&self) -> Result<Arrived> {
        let map = self.sink.map(ARRIVED).context("no table of what arrives")?;
        let map: PerCpuArray<_, [u8; size_of::<Arrived>()]> = map.try_into()?;
        let mut sum = Arrived::default();
        for bytes in map.get(&0, 0)?.iter() {
            let mut one = Arrived::new_zeroed();
            one.as_mut_bytes().copy_from_slice(bytes);
            sum = add(sum, one);
        }
        ensure!(sum.others == 0, "{} frames arrived that nobody sent", sum.others);
        Ok(sum)
    }
}

/// CPUs for so many queues, the last ones: the first one has the most else to do.
fn cpus(queues: usize) -> Result<Vec<usize>> {
    let mut cpus = machine::cpus()?;
    let count = cpus.len();
    ensure!(queues <= count, "{queues} queues need as many CPUs, and there are {count}: ask for fewer with --queues");
    Ok(cpus.split_off(count - queues))
}

fn add(sum: Arrived, one: Arrived) -> Arrived {
    Arrived {
        plain: sum.plain + one.plain,
        wrapped: sum.wrapped + one.wrapped,
        others: sum.others + one.others,
        bytes: sum.bytes + one.bytes,
    }
}
