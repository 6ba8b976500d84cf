//! The whole way of a packet. Read this first.

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters},
        flow::{Bucket, Word},
        limit::SourceLine,
        prefix::{Group, SourceKey},
        ring::RingBlock,
        server::ServerKey,
        target::Target,
        vip::{PrefixKey, Vip, VipKey},
    },
    maps::feature,
    verdict::Verdict,
};

#[cfg(doc)]
use lb_common::maps::Tuning;

use crate::{
    encap, flow, fragment,
    frame::Frame,
    icmp::{self, Matter},
    link,
    parse::{self, Kind, Packet},
    select::{self, Request},
    tunnel, vip,
};

/// The look-ups that the way needs. A look-up of what is not there answers `None`.
pub trait Tables {
    /// Whether this instance of the way has a feature, a bit of [`lb_common::maps::feature`].
    fn has(&self, feature: u32) -> bool;
    /// Parameter [`Tuning::hash_seed`].
    fn hash_seed(&self) -> u64;
    /// Parameter [`Tuning::bucket_mask`].
    fn bucket_mask(&self) -> u32;
    /// Parameter [`Tuning::udp_idle`].
    fn udp_idle(&self) -> u32;
    /// Parameters [`Tuning::source_v4`] and [`Tuning::source_v4_mask`], as they lie in memory.
    fn source_v4(&self) -> (u32, u32);
    /// Parameter [`Tuning::source_v6`], its halves as they lie in memory.
    fn source_v6(&self) -> [u64; 2];
    /// Parameter [`Tuning::gue_port`].
    fn gue_port(&self) -> [u8; 2];
    /// What sources may send, and how they are told apart.
    fn source_limit(&self) -> SourceLimit;
    /// The coarse monotonic clock in units of 2^32 ns.
    fn now(&self) -> u32;
    /// The same in nanoseconds.
    fn now_ns(&self) -> u64;
    /// A service or an address.
    fn vip(&self, key: &VipKey) -> Option<&Vip>;
    /// A service or an address of the longest prefix that matches.
    fn prefix_vip(&self, key: &PrefixKey) -> Option<&Vip>;
    /// A bucket of the flow table.
    fn bucket(&self, index: u32) -> Option<&Bucket>;
    /// A bucket of the fragment table.
    fn fragments(&self, index: u32) -> Option<&Bucket>;
    /// A block of the rings.
    fn ring(&self, block: u32) -> Option<&RingBlock>;
    /// A target by number.
    fn target(&self, id: u32) -> Option<&Target>;
    /// The access list's rule of the longest prefix that matches: an [`lb_common::layout::prefix::AclRule`] by number.
    fn acl(&self, key: &SourceKey) -> Option<u32>;
    /// The group of the longest prefix that matches.
    fn source_route(&self, key: &SourceKey) -> Option<u32>;
    /// A group by number.
    fn group(&self, id: u32) -> Option<&Group>;
    /// The target that has this server ID.
    fn server(&self, key: &ServerKey) -> Option<u32>;
    /// The limit of a VIP's new flows.
    fn vip_limit(&self, vip: u32) -> Option<&Word>;
    /// A line of the limits by source.
    fn source_line(&self, index: u32) -> Option<&SourceLine>;
    /// A limit of packet-too-big messages.
    fn too_big_limit(&self, index: u32) -> Option<&Word>;
    /// The bond that an interface is a member of.
    fn bond(&self, ifindex: u32) -> Option<u32>;
    /// Whether this address (IPv4 mapped) takes tunnel packets of other lbs.
    fn is_tunnel(&self, address: &[u8; 16]) -> bool;
    /// Whether tunnel packets may come from an address.
    fn is_tunnel_source(&self, key: &SourceKey) -> bool;
    /// Counts something at a target, on this CPU.
    fn count(&self, target: u32, update: impl FnOnce(&mut TargetCounters));
    /// Counts something off the fast path, on this CPU.
    fn event(&self, event: PathEvent);
}

/// Parameters of the limits by source.
#[derive(Clone, Copy, Debug)]
pub struct SourceLimit {
    /// [`Tuning::source_packet_ns`]
    pub packet_ns: u64,
    /// [`Tuning::source_flow_ns`]
    pub flow_ns: u64,
    /// [`Tuning::source_line_mask`]
    pub line_mask: u32,
    /// [`Tuning::limited_v4_mask`], as it lies in memory.
    pub v4_mask: u32,
    /// [`Tuning::limited_v6_mask`], its halves as they lie in memory.
    pub v6_mask: [u64; 2],
}

/// How a frame leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub verdict: Verdict,
    /// Interface to leave by when the verdict transmits; 0 is the one it came in by.
    pub ifindex: u32,
}

impl From<Verdict> for Exit {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self { verdict, ifindex: 0 }
    }
}

/// Walks the way: the frame is changed in place, or untouched if the verdict passes it. A forwarded packet is counted at
/// its target; every other verdict is the caller's to count.
#[inline(always)]
pub fn run<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Exit {
    match walk(frame, tables) {
        Ok(exit) => exit,
        Err(verdict) => Exit::from(verdict),
    }
}

#[inline(always)]
fn walk<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<Exit, Verdict> {
    let mut start = link::network(frame)?;
    if tables.has(feature::TUNNELS) {
        start = tunnel::enter(frame, &start, tables)?;
    }
    let mut packet = match parse::parse(frame, &start, tables.hash_seed()) {
        Ok(packet) => packet,
        Err(verdict) => return Err(vip::blame(verdict, frame, &start, tables)),
    };
    let id = match packet.kind {
        Kind::Flow => {
            let vip = vip::find(packet.service(), packet.family, tables)?;
            steer(frame, &packet, vip, tables)?
        }
        Kind::Icmp => match icmp::read(frame, &packet, tables)? {
            Matter::Echo => return icmp::answer(frame, &packet).map(Exit::from),
            Matter::About { flow, target } => {
                packet.hash = flow;
                target
            }
        },
        Kind::LaterFragment => fragment::follow(&packet, tables)?,
    };
    if tables.has(feature::TUNNELS) && packet.is_tunnelled() {
        tunnel::settle(frame, &mut packet)?;
        tables.event(PathEvent::Resteered);
    }
    let target = tables.target(id).ok_or(Verdict::Inconsistent)?;
    let exit = match encap::send(frame, &packet, target, tables) {
        Err(Verdict::Local) => Exit::from(Verdict::Local),
        exit => exit?,
    };
    tables.count(id, |counters| {
        counters.packets = counters.packets.wrapping_add(1);
        counters.bytes = counters.bytes.wrapping_add(packet.len.into());
    });
    Ok(exit)
}

/// The target of a packet to a VIP.
#[inline(always)]
fn steer<F: Frame, T: Tables>(frame: &F, packet: &Packet, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    let named = if vip.flags == 0 { 0 } else { select::consider(frame, packet, vip, tables)? };
    let request = Request { frame, packet, vip, tables, named };
    let id = if select::is_tracked(vip, tables) { flow::steer(&request)? } else { request.named_or_picked()? };
    if packet.first_fragment != 0 {
        fragment::remember(frame, packet, id, tables)?;
    }
    Ok(id)
}

#[cfg(test)]
mod tests;
