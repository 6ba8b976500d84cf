//! A balancer in memory for the tests of this crate: tables filled by hand, frames built by etherparse.

pub(crate) mod frames;

use std::{net::IpAddr, sync::atomic::Ordering::Relaxed};

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters},
        flow::{FlowEntry, FlowState},
        target::{Encap, Target},
        vip::{ICMP, ICMPV6, Vip, VipKey, mapped},
    },
    maps::{Tuning, feature},
    verdict::Verdict,
};

use crate::{
    checksum,
    host::{HostFrame, HostTables},
    parse::{self, Family, Packet},
    path::Exit,
    wire::ipv4,
};

/// Interface that frames come in by.
pub(crate) const INGRESS: u32 = 3;
/// MAC address of every backend's next hop.
pub(crate) const NEXT_HOP: [u8; 6] = [0x02, 0, 0, 0, 0xbb, 0x01];
/// Slots of each ring.
const SLOTS: u16 = 251;

/// Tables, and what of them is taken.
pub(crate) struct World {
    pub(crate) tables: HostTables,
    vips: u32,
    targets: u32,
    blocks: u32,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) exit: Exit,
    pub(crate) frame: Vec<u8>,
}

impl World {
    /// Empty tables, with `buckets` (a power of two) buckets of flows.
    pub(crate) fn new(buckets: u32) -> Self {
        Self { tables: HostTables::new(Tuning::default(), buckets, 64, 64), vips: 0, targets: 0, blocks: 0 }
    }

    /// Adds a VIP whose backends share its ring evenly.
    pub(crate) fn serve(&mut self, address: IpAddr, port: u16, protocol: u8, backends: &[IpAddr]) -> VipKey {
        self.vips += 1;
        let base = self.targets + 1;
        for backend in backends {
            self.targets += 1;
            self.tables.targets[self.targets as usize] = target(self.vips, *backend);
        }
        let shares = backends.len() as u16;
        let ring: Vec<u16> = (0..SLOTS).filter(|_| shares > 0).map(|slot| slot % shares).collect();
        let vip = Vip {
            id: self.vips,
            target_base: base,
            target_count: u32::from(shares),
            ring_base: self.blocks,
            ring_slots: ring.len() as u32,
            ..Vip::default()
        };
        self.blocks += self.tables.write_ring(self.blocks, &ring);
        let (bytes, icmp) = octets(address);
        let key = VipKey::service(bytes, port.to_be_bytes(), protocol);
        if port == 0 {
            self.tables.tuning.features |= feature::ANY_PORT;
        }
        self.tables.vips.insert(key, vip);
        self.tables.vips.insert(VipKey::address(bytes, icmp), Vip::default());
        key
    }

    pub(crate) fn vip(&self, key: VipKey) -> Vip {
        self.tables.vips[&key]
    }

    /// Gives the whole ring of a VIP to one of its targets.
    pub(crate) fn give_ring_to(&mut self, key: VipKey, target: u32) {
        let vip = self.vip(key);
        let slot = (target - vip.target_base) as u16;
        self.tables.write_ring(vip.ring_base, &vec![slot; vip.ring_slots as usize]);
    }

    /// Takes a target down: no packet may be sent there.
    pub(crate) fn take_down(&mut self, target: u32) {
        self.tables.targets[target as usize].serves = 0;
    }

    /// Sends a frame through.
    pub(crate) fn send(&self, bytes: &[u8]) -> Sent {
        let mut frame = HostFrame::new(bytes, INGRESS);
        let exit = self.tables.run(&mut frame);
        Sent { exit, frame: frame.bytes().to_vec() }
    }

    /// Sends a frame that must be forwarded, and tells to which target.
    pub(crate) fn forward(&self, bytes: &[u8]) -> u32 {
        let before: Vec<u64> = self.tables.target_counters.borrow().iter().map(|counters| counters.packets).collect();
        let sent = self.send(bytes);
        assert_eq!(sent.exit.verdict, Verdict::Forwarded);
        let after = self.tables.target_counters.borrow();
        let counted: Vec<usize> = (0..before.len()).filter(|&id| after[id].packets > before[id]).collect();
        let [target] = counted[..] else { panic!("counted at {counted:?}, not at one target") };
        target as u32
    }

    /// What the parser makes of a good frame.
    pub(crate) fn parse(&self, bytes: &[u8]) -> Packet {
        let frame = HostFrame::new(bytes, INGRESS);
        let start = crate::link::network(&frame).expect("an IP packet");
        let seed = self.tables.tuning.hash_seed;
        let packet = match start.family {
            Family::V4 => parse::parse_v4::<_, false>(&frame, &start, seed),
            Family::V6 => parse::parse_v6::<_, false>(&frame, &start, seed),
        };
        packet.expect("a frame that can be parsed")
    }

    /// All flows that are remembered.
    pub(crate) fn flows(&self) -> Vec<FlowEntry> {
        let words = self.tables.flows.iter().flat_map(|bucket| &bucket.entries);
        words.map(|word| FlowEntry(word.load(Relaxed))).filter(|entry| !entry.is_empty()).collect()
    }

    /// The only flow that is remembered: its target, state and time.
    pub(crate) fn flow(&self) -> (u32, FlowState, u32) {
        let flows = self.flows();
        let [entry] = flows[..] else { panic!("not one flow: {flows:?}") };
        (entry.target(), state(entry), entry.time())
    }

    pub(crate) fn counters(&self, target: u32) -> TargetCounters {
        self.tables.target_counters.borrow()[target as usize]
    }

    pub(crate) fn event(&self, event: PathEvent) -> u64 {
        self.tables.path_counters.borrow()[event as usize]
    }

    /// Events that were counted, by name.
    pub(crate) fn events(&self) -> Vec<(PathEvent, u64)> {
        PathEvent::ALL.into_iter().map(|event| (event, self.event(event))).filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn verdict_counter(&self, verdict: Verdict) -> (u64, u64) {
        let counters = self.tables.verdict_counters.borrow()[verdict as usize];
        (counters.packets, counters.bytes)
    }
}

pub(crate) fn state(entry: FlowEntry) -> FlowState {
    FlowState::try_from(entry.state()).expect("a known state")
}

/// An address as the tables keep it, and the ICMP of its IP version.
pub(crate) fn octets(address: IpAddr) -> ([u8; 16], u8) {
    match address {
        IpAddr::V4(v4) => (mapped(v4.octets()), ICMP),
        IpAddr::V6(v6) => (v6.octets(), ICMPV6),
    }
}

/// A target of a VIP that is up.
fn target(vip: u32, backend: IpAddr) -> Target {
    let (outer_destination, _) = octets(backend);
    let (encap, checksum) = match backend {
        IpAddr::V4(v4) => (Encap::IpipV4, constant_sum(v4.octets())),
        IpAddr::V6(_) => (Encap::IpipV6, 0),
    };
    Target {
        serves: vip,
        vip,
        encap: encap as u32,
        outer_destination,
        next_hop: NEXT_HOP,
        source_mac: [0x02, 0, 0, 0, 0xaa, 0x02],
        checksum,
        mtu: Target::NO_LIMIT,
        ..Target::default()
    }
}

/// [`Target::checksum`]: version and header length, DF, destination.
fn constant_sum([a, b, c, d]: [u8; 4]) -> u32 {
    let words = [[ipv4::VERSION_IHL, 0], ipv4::DONT_FRAGMENT, [a, b], [c, d]];
    u32::from(checksum::fold(words.into_iter().map(checksum::word).sum()))
}
