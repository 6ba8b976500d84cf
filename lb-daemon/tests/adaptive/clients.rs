//! Clients: what they send, and where that must go.

use std::{net::IpAddr, sync::atomic::Ordering::Relaxed};

use lb_common::{
    layout::{counter::PathEvent, flow::FlowEntry},
    verdict::Verdict,
};
use lb_daemon::plan::{target::address_of, wanted::Disposition};
use lb_xdp::{
    flow,
    host::HostFrame,
    parse,
    ring::{self, Tracked},
};

use super::{
    FLOWS, HOLD, Lab,
    wire::{ACK, FIN, KEYS, RST, SYN, frame, vip_of},
};

/// Beside these there are some that lb never heard of.
const UNHEARD_OF: u16 = 8;
/// Units after which an entry of a flow whose FIN or RST was seen may be emptied.
const FORGOTTEN: u32 = 15;

/// A flow, as its client sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) backend: IpAddr,
    /// When it sent last, in units.
    pub(super) sent: u32,
    /// Whether a FIN or an RST was seen of it.
    pub(super) ended: bool,
    /// Whether its slot was tracked then, or there was an entry of it.
    needed_entry: bool,
}

/// A flow whose SYN was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    pub(super) backend: IpAddr,
    /// Whether it is to be found there later.
    promised: bool,
    /// Whether its handshake must succeed: its slot does not change meanwhile.
    must_be: bool,
}

impl Lab {
    pub(super) fn all_send(&mut self, vip: u8) {
        (0..FLOWS).filter(|flow| vip_of(*flow) == vip).for_each(|flow| self.send(flow));
    }

    /// A client opens a flow, unless it has it.
    pub(crate) fn open(&mut self, flow: u16) {
        self.begin(flow, true);
        self.establish();
    }

    /// A client begins to open a flow, unless it has it.
    pub(super) fn begin(&mut self, flow: u16, must_be: bool) {
        if self.flows.contains_key(&flow) || self.openings.contains_key(&flow) {
            return;
        }
        let not_remembered = |lab: &Self| lab.host.path_counters.borrow()[PathEvent::NotRemembered as usize];
        let before = not_remembered(self);
        let Some(backend) = self.packet(flow, SYN) else { return };
        let all_live = self.backends.keys().all(|one| self.lives(*one));
        // Without room, a flow that cannot go where it is found without an entry has no promise.
        let promised = before == not_remembered(self) || all_live;
        self.openings.insert(flow, Opening { backend, promised, must_be });
    }

    /// The flows that are being opened are established, where that is possible.
    pub(super) fn establish(&mut self) {
        for (flow, Opening { backend, promised, must_be }) in std::mem::take(&mut self.openings) {
            let reached = self.packet(flow, ACK);
            if must_be && promised && self.lives(backend) {
                assert_eq!(reached, Some(backend), "flow {flow}, whose SYN went there");
            }
            if promised && reached == Some(backend) {
                let needed_entry = self.needs_entry(flow);
                self.flows.insert(flow, Flow { backend, sent: self.now, ended: false, needed_entry });
            }
        }
    }

    /// A client sends on a flow that it has, to the backend that it has it with.
    pub(crate) fn send(&mut self, flow: u16) {
        self.send_with(flow, ACK);
    }

    /// A client sends its FIN, and may go on for long.
    pub(crate) fn half_close(&mut self, flow: u16) {
        self.send_with(flow, FIN | ACK);
    }

    /// Somebody forges an RST that the backend ignores.
    pub(crate) fn forge_rst(&mut self, flow: u16) {
        self.send_with(flow, RST);
    }

    fn send_with(&mut self, flow: u16, flags: u8) {
        let Some(known @ Flow { backend, sent, .. }) = self.flows.get(&flow).copied() else { return };
        let silent_for = self.now - sent;
        let is_promised = silent_for <= HOLD.silence - 2 && !self.has_ended(flow, known);
        let reached = self.packet(flow, flags);
        if is_promised && self.lives(backend) {
            assert_eq!(reached, Some(backend), "flow {flow}, which sent {silent_for} units ago: {known:?}");
        }
        if reached == Some(backend) {
            let ended = known.ended || flags & (FIN | RST) != 0;
            let needed_entry = self.needs_entry(flow);
            self.flows.insert(flow, Flow { backend, sent: self.now, ended, needed_entry });
        } else {
            // Whoever got the packet resets it.
            self.flows.remove(&flow);
        }
    }

    /// Whether an entry may be gone of a flow that seemed to have ended; of one whose end came first there was none.
    fn has_ended(&self, flow: u16, known: Flow) -> bool {
        let is_kept = !self.is_tight() && self.now - known.sent <= FORGOTTEN;
        known.ended && !is_kept && known.needed_entry && self.entry(flow).is_none()
    }

    fn needs_entry(&self, flow: u16) -> bool {
        let vip = &self.host.vips[&KEYS[usize::from(vip_of(flow))]];
        let is_tracked = ring::tracked(self.hash(flow), vip, &self.host).is_ok_and(Tracked::is_tracked);
        is_tracked || self.entry(flow).is_some()
    }

    fn lives(&self, backend: IpAddr) -> bool {
        self.living.get(&backend).is_some_and(|one| *one != Disposition::Down)
    }

    /// A client closes a flow.
    pub(crate) fn close(&mut self, flow: u16) {
        if self.flows.remove(&flow).is_some() {
            self.packet(flow, FIN | ACK);
        }
    }

    /// What comes while the daemon is at work: packets on flows that are there, one that is opened, and one on a flow that
    /// nobody has heard of for too long.
    pub(super) fn traffic(&mut self, must_be: bool) {
        if !self.is_busy {
            return;
        }
        for _ in 0..3 {
            self.next = (self.next + 7) % FLOWS;
            self.send(self.next);
        }
        if let Some(flow) = (0..FLOWS).map(|one| (self.next + one) % FLOWS).find(|flow| !self.flows.contains_key(flow))
        {
            self.begin(flow, must_be);
        }
        self.packet(FLOWS + self.next % UNHEARD_OF, ACK);
    }

    /// The backend that a packet of a flow reaches.
    fn packet(&mut self, flow: u16, flags: u8) -> Option<IpAddr> {
        let exit = self.host.run(&mut HostFrame::new(&frame(flow, flags), 3));
        assert_ne!(exit.verdict, Verdict::Inconsistent, "flow {flow}");
        let mut counters = self.host.target_counters.borrow_mut();
        let target = counters.iter().position(|counters| counters.packets > 0)?;
        counters[target].packets = 0;
        Some(address_of(self.host.targets[target].outer_destination))
    }

    /// What is remembered of a flow.
    fn entry(&self, flow: u16) -> Option<FlowEntry> {
        let hash = self.hash(flow);
        let bucket = usize::try_from(hash & u64::from(self.host.tuning.bucket_mask)).expect("a bucket");
        let bucket = &self.host.flows[bucket];
        let mut entries = bucket.entries.iter().map(|entry| FlowEntry(entry.load(Relaxed)));
        entries.find(|entry| entry.tag() == flow::tag(hash))
    }

    fn hash(&self, flow: u16) -> u64 {
        parse::plain(&HostFrame::new(&frame(flow, ACK), 3), self.host.tuning.hash_seed).expect("a segment").hash
    }
}
