//! The tables, a daemon over them, and a model of who is where.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::Ordering::Relaxed,
};

use lb_common::{
    layout::{
        counter::PathEvent,
        flow::{FlowEntry, WAYS},
        target::Target,
        vip::{TCP, Vip, VipKey, mapped},
    },
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
        target::address_of,
        wanted::{Disposition, Wanted, WantedTarget, WantedVip},
    },
};
use lb_xdp::host::{HostFrame, HostTables};

/// As in production.
pub(crate) const HOLD: Hold = Hold { silence: 2096, handshake: 70 };
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
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;

/// A flow, as its client sees it.
#[derive(Clone, Copy, Debug)]
struct Flow {
    backend: IpAddr,
    /// When it sent last, in units.
    sent: u32,
}

pub(crate) struct Lab {
    memory: Memory,
    host: HostTables,
    rings: RingCache,
    trackers: Trackers,
    flags: u32,
    /// Backends that are configured.
    backends: BTreeMap<IpAddr, Disposition>,
    /// Those that take packets now, as far as a plan under way leaves that certain.
    living: BTreeMap<IpAddr, Disposition>,
    flows: BTreeMap<u16, Flow>,
    now: u32,
    /// Sends on some flow, between ops.
    next: u16,
}

impl Lab {
    /// An adaptive VIP with three backends.
    pub(crate) fn new(buckets: u32) -> Self {
        let tuning = Tuning { features: feature::ALL & !feature::MULTI_BUFFER, ..Tuning::default() };
        let host = HostTables::new(tuning, buckets, CAPACITY.ring_blocks, CAPACITY.targets);
        let backends: BTreeMap<IpAddr, _> = (0..3).map(|one| (backend(one), Disposition::Serving)).collect();
        let mut lab = Self {
            memory: Memory::new(CAPACITY, buckets as usize),
            host,
            rings: RingCache::default(),
            trackers: Trackers::default(),
            flags: Vip::ADAPTIVE,
            living: backends.clone(),
            backends,
            flows: BTreeMap::new(),
            now: 10_000,
            next: 0,
        };
        lab.host.set_now(lab.now);
        lab.reach(None);
        lab
    }

    /// The VIP remembers all flows.
    pub(crate) fn always(&mut self) {
        self.flags = 0;
        self.reach(None);
    }

    /// It is adaptive again.
    pub(crate) fn adaptive(&mut self) {
        self.flags = Vip::ADAPTIVE;
        self.reach(None);
    }

    /// A client opens a flow, unless it has it.
    pub(crate) fn open(&mut self, flow: u16) {
        if self.flows.contains_key(&flow) {
            return;
        }
        let before = self.host.path_counters.borrow()[PathEvent::NotRemembered as usize];
        let Some(backend) = self.packet(flow, SYN) else { return };
        let remembered = before == self.host.path_counters.borrow()[PathEvent::NotRemembered as usize];
        let all_live = self.backends.values().all(|one| *one != Disposition::Down);
        // Without room, a flow that cannot go where it is found without an entry has no promise.
        if self.packet(flow, ACK) == Some(backend) && (remembered || all_live) {
            self.flows.insert(flow, Flow { backend, sent: self.now });
        }
    }

    /// A client sends on a flow that it has, to the backend that it has it with.
    pub(crate) fn send(&mut self, flow: u16) {
        let Some(Flow { backend, sent }) = self.flows.get(&flow).copied() else { return };
        let reached = self.packet(flow, ACK);
        let lives = self.living.get(&backend).is_some_and(|one| *one != Disposition::Down);
        let is_silent = self.now - sent > HOLD.silence - 2;
        if lives && !is_silent {
            assert_eq!(reached, Some(backend), "flow {flow}, which sent {} units ago", self.now - sent);
        }
        if reached == Some(backend) {
            self.flows.insert(flow, Flow { backend, sent: self.now });
        } else {
            // Whoever got the packet resets it.
            self.flows.remove(&flow);
        }
    }

    /// A client closes a flow.
    pub(crate) fn close(&mut self, flow: u16) {
        if self.flows.remove(&flow).is_some() {
            self.packet(flow, FIN | ACK);
        }
    }

    /// Backends change, if something is configured afterwards; the daemon dies at an op, and another one takes over.
    pub(crate) fn change(&mut self, changes: &BTreeMap<u8, Option<Disposition>>, crash: Option<usize>) {
        for (one, to) in changes {
            match to {
                Some(to) => drop(self.backends.insert(backend(*one), *to)),
                None => drop(self.backends.remove(&backend(*one))),
            }
        }
        // What is down before or after is not certain in between.
        let (before, after) = (&self.living, &self.backends);
        let both = before.iter().filter(|(address, one)| {
            **one != Disposition::Down && after.get(*address).is_some_and(|one| *one != Disposition::Down)
        });
        self.living = both.map(|(address, one)| (*address, *one)).collect();
        // A flow of a backend that is not configured any more is lost for good.
        let backends = &self.backends;
        self.flows.retain(|_, flow| backends.contains_key(&flow.backend));
        self.reach(crash);
        self.living = self.backends.clone();
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
    pub(crate) fn grow(&mut self) {
        let many: BTreeMap<u8, _> = (100..120).map(|one| (one, Some(Disposition::Down))).collect();
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
        let vips = self.memory.observe().expect("tables").vips;
        self.trackers.settle(&mut self.memory, &vips, self.now, HOLD).expect("tables");
        self.take_back();
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
                self.lend();
                self.memory.apply(&op).expect("tables");
                self.take_back();
                self.next = (self.next + 7) % 40;
                self.send(self.next);
            }
            crash = None;
            (self.rings, self.trackers) = Default::default();
        }
    }

    fn wanted(&self) -> Wanted {
        let target = |disposition: &Disposition| WantedTarget {
            weight: 1,
            disposition: *disposition,
            next_hop: None,
            encap: Encap::Ipip,
            local: true,
        };
        let backends = self.backends.iter().map(|(address, one)| (*address, target(one))).collect();
        let vip = WantedVip { ring_size: SLOTS, flags: self.flags, backends, ..WantedVip::default() };
        Wanted { vips: [(KEY, vip)].into(), ..Wanted::default() }
    }

    /// The backend that a packet of a flow reaches.
    fn packet(&mut self, flow: u16, flags: u8) -> Option<IpAddr> {
        let counted = |host: &HostTables| -> Vec<u64> {
            host.target_counters.borrow().iter().map(|counters| counters.packets).collect()
        };
        let before = counted(&self.host);
        self.host.run(&mut HostFrame::new(&frame(flow, flags), 3));
        let after = counted(&self.host);
        let target = (0..before.len()).find(|id| after[*id] > before[*id])?;
        Some(address_of(self.host.targets[target].outer_destination))
    }

    /// Shows the daemon the flow table and the counters.
    fn lend(&mut self) {
        for (bucket, words) in self.memory.buckets().iter_mut().zip(&self.host.flows) {
            *bucket = std::array::from_fn::<_, WAYS, _>(|way| FlowEntry(words.entries[way].load(Relaxed)));
        }
        let lost = self.host.path_counters.borrow()[PathEvent::StrayLost as usize];
        *self.memory.path_counter(PathEvent::StrayLost).expect("a counter") = lost;
    }

    /// Gives packets what the daemon made of the tables.
    fn take_back(&mut self) {
        let state = self.memory.observe().expect("tables");
        self.host.vips = state.vips;
        self.host.targets = vec![Target::default(); CAPACITY.targets as usize];
        for (id, target) in state.targets {
            self.host.targets[id as usize] = target;
        }
        let slots: Vec<u16> = self.memory.slots_at(0, CAPACITY.ring_blocks * 32).collect();
        self.host.write_ring(0, &slots);
        for (bucket, words) in self.memory.buckets().iter().zip(&self.host.flows) {
            bucket.iter().zip(&words.entries).for_each(|(entry, word)| word.store(entry.0, Relaxed));
        }
    }
}

const KEY: VipKey = VipKey::service(mapped([192, 0, 2, 10]), [1, 187], TCP);

fn backend(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// A segment of a flow: Ethernet, IPv4, TCP.
fn frame(flow: u16, flags: u8) -> Vec<u8> {
    let [high, low] = (flow * 977 + 1024).to_be_bytes();
    let mut frame = vec![0x02, 0, 0, 0, 0xaa, 1, 0x02, 0, 0, 0, 0xcc, 1, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0, 198, 51, 100, 7, 192, 0, 2, 10]);
    frame.extend([high, low, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 16, 0, 0, 0, 0, 0]);
    frame
}
