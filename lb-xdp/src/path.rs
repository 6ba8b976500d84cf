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
    encap, flow,
    frame::Frame,
    parse::{self, Packet},
    ring,
    select::Request,
    vip,
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
    /// The daemon's last sign of life, by the clock of [`Tables::now_ns`]; 0 if there was none.
    fn heartbeat(&self) -> u64;
    /// Counts a packet of so many bytes that was sent to a target, on this CPU.
    #[inline(always)]
    fn forwarded(&self, target: u32, bytes: u64) {
        self.count(target, |counters| {
            counters.packets = counters.packets.wrapping_add(1);
            counters.bytes = counters.bytes.wrapping_add(bytes);
        });
    }
    /// Counts something else at a target, on this CPU.
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

impl Exit {
    /// Both in one word, as functions of the kernel's program return.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        (self.ifindex as u64) << 32 | self.verdict as u64
    }

    /// The exit of a word.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { verdict: Verdict::from_number(word as u32), ifindex: (word >> 32) as u32 }
    }
}

/// Walks the way: the frame is changed in place, or untouched if the verdict passes it. A forwarded packet is counted at
/// its target; every other verdict is the caller's to count.
///
/// Nearly all packets are `plain`, and the shortest way is theirs. The others walk the [`whole`] way, step by step the
/// same.
#[inline(always)]
pub fn run<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Exit {
    match plain(frame, tables) {
        Some(exit) => exit,
        None => frame.walk_whole(tables),
    }
}

/// The way of a plain packet to a plain VIP, or to none; `None` if this is anything else, of which nothing is done yet.
#[inline(always)]
fn plain<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Option<Exit> {
    let packet = parse::plain(frame, tables.hash_seed())?;
    let Some(vip) = vip::exact(packet.service(), tables) else {
        let elsewhere = tables.has(feature::PREFIX_VIPS | feature::UNKNOWN_PORT | feature::TUNNELS);
        return if elsewhere { None } else { Some(Verdict::NotVip.into()) };
    };
    if vip.flags & !Vip::PLAIN != 0 {
        return None;
    }
    let steered = if ring::is_adaptive(vip, tables) {
        match ring::tracked(packet.hash, vip, tables) {
            Ok(slot) if !slot.is_tracked() => ring::pick(packet.hash, vip, tables),
            _ => return None,
        }
    } else {
        flow::steer(&Request::plain(frame, &packet, vip, tables))
    };
    let exit = match steered {
        Ok(id) => forward(frame, &packet, id, tables),
        Err(verdict) => verdict.into(),
    };
    Some(exit)
}

/// Sends a plain packet to its target.
#[inline(always)]
fn forward<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, id: u32, tables: &T) -> Exit {
    let Some(target) = tables.target(id) else { return Verdict::Inconsistent.into() };
    if !encap::is_plain(packet, target) {
        return frame.send_whole(id, tables);
    }
    match encap::send_plain(frame, packet, target, tables) {
        Ok(exit) => {
            tables.forwarded(id, packet.len.into());
            exit
        }
        Err(verdict) => verdict.into(),
    }
}

pub mod whole;

#[cfg(test)]
mod tests;
