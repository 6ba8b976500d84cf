//! What the flow table remembers, seen through whole packets.

mod adaptive;
mod eviction;
mod floods;
mod moving;
mod states;
mod time;

use std::sync::atomic::Ordering::Relaxed;

use lb_common::layout::{
    flow::{FlowEntry, FlowState},
    vip::{TCP, UDP, VipKey},
};

use crate::fixture::{
    World,
    frames::{Ends, ends},
};

/// A clock that has room before it.
const NOW: u32 = 1000;

/// One bucket; a TCP and a UDP VIP with four backends each, targets 1 to 4 and 5 to 8.
struct Scene {
    world: World,
    tcp: VipKey,
    udp: VipKey,
}

impl Scene {
    fn new() -> Self {
        Self::with_buckets(1)
    }

    fn with_buckets(buckets: u32) -> Self {
        let mut world = World::new(buckets);
        let backends =
            ["10.0.0.11", "10.0.0.12", "10.0.0.13", "fd00::14"].map(|text| text.parse().expect("an address"));
        let address = "192.0.2.10".parse().expect("an address");
        let tcp = world.serve(address, 443, TCP, &backends);
        let udp = world.serve(address, 53, UDP, &backends);
        world.tables.set_now(NOW);
        Self { world, tcp, udp }
    }

    /// A flow to the TCP VIP.
    fn web() -> Ends {
        ends("198.51.100.7:51000", "192.0.2.10:443")
    }

    /// A flow to the UDP VIP.
    fn dns() -> Ends {
        ends("198.51.100.7:51000", "192.0.2.10:53")
    }

    /// Gives the rings to other targets than these flows have, so that a flow that is steered anew is seen to move.
    fn change_rings(&mut self) -> (u32, u32) {
        let [web, dns] = [self.ring_target(Self::web().tcp(0).as_slice()), self.ring_target(&Self::dns().udp())];
        let (web, dns) = (if web == 1 { 2 } else { 1 }, if dns == 5 { 6 } else { 5 });
        self.world.give_ring_to(self.tcp, web);
        self.world.give_ring_to(self.udp, dns);
        (web, dns)
    }

    /// What the ring says about a frame, by the definition in the layout's documentation.
    fn ring_target(&self, frame: &[u8]) -> u32 {
        let packet = self.world.parse(frame);
        let vip = self.world.vip(packet.service());
        let position = (u64::from((packet.hash >> 20) as u32) * u64::from(vip.ring_slots)) >> 32;
        let block = self.world.tables.rings[vip.ring_base as usize + position as usize / 32];
        vip.target_base + u32::from(block.slots[position as usize % 32])
    }

    /// The tag of a frame's flow: upper 28 bits of its hash.
    fn tag(&self, frame: &[u8]) -> u32 {
        (self.world.parse(frame).hash >> 36) as u32
    }

    /// Puts an entry into a way of the first bucket.
    fn put(&self, way: usize, entry: FlowEntry) {
        self.world.tables.flows[0].entries[way].store(entry.0, Relaxed);
    }

    /// The ways of the first bucket.
    fn ways(&self) -> [FlowEntry; 8] {
        std::array::from_fn(|way| FlowEntry(self.world.tables.flows[0].entries[way].load(Relaxed)))
    }

    /// Remembers a frame's flow at a target.
    fn remember(&self, frame: &[u8], target: u32, time: u32, state: FlowState) {
        self.put(0, FlowEntry::new(self.tag(frame), target, time, state));
    }
}
