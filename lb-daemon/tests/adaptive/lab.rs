//! The tables, a daemon over them, and a model of who is where.

use std::{collections::BTreeMap, net::IpAddr, sync::atomic::Ordering::Relaxed};

use lb_common::{
    layout::vip::{Vip, VipKey},
    maps::{Tuning, feature},
};
use lb_daemon::{
    dataplane::{
        Dataplane,
        flows::{Liveness, PARTS},
        memory::Memory,
        settle::Trackers,
    },
    model::Encap,
    plan::{
        Capacity, Op, RingCache, diff,
        history::tracker::Hold,
        wanted::{Disposition, Wanted, WantedTarget, WantedVip},
    },
};
use lb_xdp::host::HostTables;

use self::{
    clients::{Flow, Opening},
    wire::{KEYS, backend, vip_of, vip_with},
};

mod clients;
mod tables;
mod wire;

/// As in production.
pub(crate) const HOLD: Hold = Hold { silence: 2096, handshake: 70 };
/// Flows that clients have, or may have.
pub(crate) const FLOWS: u16 = 40;
const CAPACITY: Capacity = Capacity {
    vips: 16,
    targets: 400,
    ring_blocks: 128,
    groups: 4,
    servers: 4,
    prefixes: 4,
    tunnel_sources: 4,
    own: 4,
};
/// Prime, so that slots of 16 bits of the tag are not the ring's.
const SLOTS: u32 = 251;
/// Units (4 h) after which no entry is left.
const ALL_FORGOTTEN: u32 = 3400;

/// What a VIP does with flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    Adaptive,
    Always,
    Off,
}

/// Two VIPs that share the tables.
pub(crate) struct Lab {
    memory: Memory,
    host: HostTables,
    rings: RingCache,
    trackers: Trackers,
    tracking: [Tracking; 2],
    /// Backends that are configured.
    backends: BTreeMap<IpAddr, Disposition>,
    /// Those that take packets now, as far as a plan under way leaves that certain.
    living: BTreeMap<IpAddr, Disposition>,
    flows: BTreeMap<u16, Flow>,
    /// Those that are being opened while the daemon is at work.
    openings: BTreeMap<u16, Opening>,
    now: u32,
    /// The flow that does something next while the daemon is at work.
    next: u16,
    /// Whether anybody does anything while the daemon is at work.
    is_busy: bool,
    /// Whether the look for such slots has found some.
    is_untracking: bool,
}

impl Lab {
    /// Two adaptive VIPs with three backends each.
    pub(crate) fn new(buckets: u32) -> Self {
        let tuning = Tuning { features: feature::ALL & !feature::MULTI_BUFFER, ..Tuning::default() };
        let host = HostTables::new(tuning, buckets, CAPACITY.ring_blocks, CAPACITY.targets);
        let all = (0..2).flat_map(|vip| (0..3).map(move |one| (backend(vip, one), Disposition::Serving)));
        let backends: BTreeMap<IpAddr, _> = all.collect();
        let mut lab = Self {
            memory: Memory::new(CAPACITY, buckets as usize),
            host,
            rings: RingCache::default(),
            trackers: Trackers::default(),
            tracking: [Tracking::Adaptive; 2],
            living: backends.clone(),
            backends,
            flows: BTreeMap::new(),
            openings: BTreeMap::new(),
            now: 10_000,
            next: 0,
            is_busy: true,
            is_untracking: false,
        };
        lab.host.set_now(lab.now);
        lab.reach(None);
        lab
    }

    /// A VIP tracks flows in another way, if it can without losing any.
    pub(crate) fn track(&mut self, vip: u8, tracking: Tracking) {
        let before = self.tracking[usize::from(vip)];
        let serves = |one: &&IpAddr| vip_with(**one) == vip && self.backends[*one] == Disposition::Serving;
        // What fits into no table can be promised by none; nor can anything by an empty ring.
        if before == tracking || self.is_tight() || self.backends.keys().filter(serves).count() == 0 {
            return;
        }
        match tracking {
            Tracking::Adaptive => {}
            Tracking::Always => {
                // Known by the history alone, and not to be remembered any more.
                self.flows.retain(|flow, one| vip_of(*flow) != vip || !one.ended);
                self.all_send(vip);
            }
            Tracking::Off => self.flows.retain(|flow, _| vip_of(*flow) != vip),
        }
        self.tracking[usize::from(vip)] = tracking;
        self.reach(None);
        match tracking {
            Tracking::Adaptive => {}
            // A flow that was taken up is one like any other after its second packet.
            Tracking::Always => (0..2).for_each(|_| self.all_send(vip)),
            Tracking::Off => self.wait(ALL_FORGOTTEN),
        }
    }

    fn is_tight(&self) -> bool {
        self.host.flows.len() == 1
    }

    /// Whether anybody does anything while the daemon is at work.
    pub(crate) fn busy(&mut self, is_busy: bool) {
        self.is_busy = is_busy;
    }

    /// Flows that clients have.
    pub(crate) fn established(&self) -> usize {
        self.flows.len()
    }

    /// Whether no way of the flow table is free.
    pub(crate) fn is_full(&self) -> bool {
        self.flow_table().iter().all(|entry| *entry != 0)
    }

    /// Backends change, if something is configured afterwards; the daemon dies at an op, and another one takes over.
    pub(crate) fn change(&mut self, changes: &BTreeMap<(u8, u8), Option<Disposition>>, crash: Option<usize>) {
        for ((vip, one), to) in changes {
            match to {
                Some(to) => drop(self.backends.insert(backend(*vip, *one), *to)),
                None => drop(self.backends.remove(&backend(*vip, *one))),
            }
        }
        // What is down before or after is not certain in between.
        let (before, after) = (&self.living, &self.backends);
        let both = before.iter().filter(|(address, one)| {
            **one != Disposition::Down && after.get(*address).is_some_and(|one| *one != Disposition::Down)
        });
        self.living = both.map(|(address, one)| (*address, *one)).collect();
        self.forget_lost();
        self.reach(crash);
        self.forget_lost();
        self.living = self.backends.clone();
    }

    /// A flow of a backend that is not configured any more is lost for good; so may be all that go by the ring alone.
    fn forget_lost(&mut self) {
        let (backends, tracking) = (&self.backends, self.tracking);
        self.flows.retain(|flow, one| {
            backends.contains_key(&one.backend) && tracking[usize::from(vip_of(*flow))] != Tracking::Off
        });
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, units: u32) {
        for _ in 0..units.div_ceil(50) {
            self.alone(units.min(50));
            self.sweep();
        }
    }

    /// Time passes, and no daemon is there.
    pub(crate) fn alone(&mut self, units: u32) {
        self.now += units;
        self.host.set_now(self.now);
        // Nobody may say how old an entry is after a turn of the clock.
        let silent = |flow: &Flow| self.now - flow.sent > HOLD.silence;
        self.flows.retain(|_, flow| !silent(flow));
    }

    pub(crate) fn restart(&mut self) {
        (self.rings, self.trackers) = Default::default();
        self.reach(None);
    }

    /// More backends than the range of targets has places, none of which takes anything.
    pub(crate) fn grow(&mut self, vip: u8) {
        let many: BTreeMap<_, _> = (100..120).map(|one| ((vip, one), Some(Disposition::Down))).collect();
        self.change(&many, None);
        let none = many.into_keys().map(|one| (one, None)).collect();
        self.change(&none, None);
    }

    /// Slots that are tracked.
    pub(crate) fn tracked(&mut self) -> u32 {
        self.memory.observe().expect("tables").histories.values().sum()
    }

    /// The entries that are in use.
    pub(crate) fn flow_table(&self) -> Vec<u64> {
        self.host.flows.iter().flat_map(|bucket| &bucket.entries).map(|entry| entry.load(Relaxed)).collect()
    }

    /// What the daemon does each second, or each minute.
    fn sweep(&mut self) {
        self.lend();
        let rule = Liveness { now: self.now, udp_idle: 7 };
        for part in 0..PARTS {
            self.memory.forget_ended(rule, part);
        }
        self.take_back();
        let vips = self.host.vips.clone();
        self.is_untracking = false;
        let (now, mut trackers) = (self.now, std::mem::take(&mut self.trackers));
        trackers.settle(self, &vips, now, HOLD).expect("tables");
        self.trackers = trackers;
        self.take_back();
        self.establish();
    }

    /// Plans and applies, with packets between ops.
    fn reach(&mut self, mut crash: Option<usize>) {
        loop {
            let state = self.memory.observe().expect("tables");
            let ops = diff::plan(&state, &self.wanted(), &mut self.rings).expect("room");
            let mut ops = ops.into_iter().enumerate();
            loop {
                let Some((number, op)) = ops.next() else { return };
                if crash == Some(number) {
                    break;
                }
                if let Op::SetVip { key, vip } = &op {
                    self.trackers.set_vip(&self.memory, key, state.vips.get(key), vip, self.now);
                }
                let before = self.host.vips.clone();
                self.lend();
                self.memory.apply(&op).expect("tables");
                self.take_back();
                if matches!(op, Op::SetVip { .. }) {
                    self.late(before);
                }
                self.next = (self.next + 7) % FLOWS;
                self.send(self.next);
            }
            crash = None;
            (self.rings, self.trackers) = Default::default();
        }
    }

    /// Packets that read the VIPs as they were, a moment later.
    fn late(&mut self, before: BTreeMap<VipKey, Vip>) {
        self.alone(1);
        let after = std::mem::replace(&mut self.host.vips, before);
        self.traffic(false);
        self.host.vips = after;
        self.establish();
    }

    fn wanted(&self) -> Wanted {
        let target = |disposition: &Disposition| WantedTarget {
            weight: 1,
            disposition: *disposition,
            next_hop: None,
            encap: Encap::Ipip,
            local: true,
        };
        let vip = |(number, key)| {
            let own = self.backends.iter().filter(|(address, _)| vip_with(**address) == number);
            let backends = own.map(|(address, one)| (*address, target(one))).collect();
            let flags = match self.tracking[usize::from(number)] {
                Tracking::Adaptive => Vip::ADAPTIVE,
                Tracking::Always => 0,
                Tracking::Off => Vip::UNTRACKED,
            };
            (key, WantedVip { ring_size: SLOTS, flags, backends, ..WantedVip::default() })
        };
        Wanted { vips: (0..).zip(KEYS).map(vip).collect(), ..Wanted::default() }
    }
}
