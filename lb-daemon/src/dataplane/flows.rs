//! Which entries of the flow table are flows that go on.
//!
//! The program never takes an entry out: it gives the place to another flow when it needs one. So most entries of a table
//! are of flows that have ended, and who counts flows has to tell by state and age.

use lb_common::layout::flow::{AHEAD, FlowEntry, FlowState, TIME_MASK, TIME_SHIFT};
use rustix::time::{ClockId, clock_gettime};

use super::FlowCount;

/// Parts that the table is swept in.
pub const PARTS: u32 = 256;

/// A TCP flow of which one packet was seen ended without a second one when it was silent for more units than this (64 s):
/// the longest pause between SYNs that are sent again is 32 s. A flow that was taken up in mid-flow is one like any other
/// after its second packet.
const ONE_PACKET: u32 = 15;
/// A closing flow has ended when it was silent for more units than this (12.9 s). A side that sent its FIN may go on
/// receiving for hours, but its acknowledgements come through here and count as use; what is not acknowledged is sent
/// again after 1, 3 and 7 s.
const CLOSING: u32 = 3;
/// An established flow counts as ended when it was silent for more units than this (4 h). The clock's turn is 4.9 h, after
/// which its age would be told wrong, and TCP's keep-alives come every two hours unless set otherwise.
const ESTABLISHED: u32 = ((4 * 3600 * 1_000_000_000_u64) >> TIME_SHIFT) as u32;
/// An entry is emptied at this age at the earliest, in units. Forgetting is for good while a count is a count: a half-closed flow
/// that pauses is still steered to where it was.
const FORGOTTEN: u32 = ONE_PACKET;
const _: () = assert!(ESTABLISHED + AHEAD < TIME_MASK);

/// What tells flows that go on from those that ended, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// The program's clock, in units.
    pub now: u32,
    /// Units after which an idle UDP flow has ended: [`lb_common::maps::Tuning::udp_idle`].
    pub udp_idle: u32,
}

impl Liveness {
    /// At this moment, by the clock that the program reads.
    pub fn now(udp_idle: u32) -> Self {
        Self { now: (now_ns() >> TIME_SHIFT) as u32, udp_idle }
    }

    /// Whether the entry's flow goes on.
    pub fn is_live(self, entry: FlowEntry) -> bool {
        let Ok(state) = FlowState::try_from(entry.state()) else { return false };
        let silent_for = entry.silence(self.now);
        match state {
            FlowState::Empty => false,
            // In mid-flow, and where its slot led before: it was there all the time.
            FlowState::PickedUp if entry.is_stray() => silent_for <= ESTABLISHED,
            FlowState::HalfOpen | FlowState::PickedUp => silent_for <= ONE_PACKET,
            FlowState::Established => silent_for <= ESTABLISHED,
            FlowState::Closing => silent_for <= CLOSING,
            FlowState::FirstDatagram | FlowState::Datagram => silent_for <= self.udp_idle,
        }
    }

    /// Whether the entry is of no use any more.
    pub(super) fn is_to_be_forgotten(self, entry: FlowEntry) -> bool {
        !entry.is_empty() && entry.silence(self.now) > FORGOTTEN && !self.is_live(entry)
    }
}

/// The clock that the program reads, in nanoseconds.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

impl FlowCount {
    /// Counts the entries of a table.
    pub(super) fn of(entries: impl ExactSizeIterator<Item = FlowEntry>, rule: Liveness) -> Self {
        let mut count = Self { capacity: entries.len() as u64, ..Self::default() };
        // Not maps, as a million entries are walked.
        let mut by_target: Vec<[u64; 2]> = Vec::new();
        for entry in entries.filter(|entry| !entry.is_empty()) {
            if let Some(counted) = count.by_state.get_mut(entry.state() as usize) {
                *counted += 1;
            }
            let target = entry.target() as usize;
            if target >= by_target.len() {
                by_target.resize(target + 1, [0; 2]);
            }
            let [all, live] = &mut by_target[target];
            *all += 1;
            *live += u64::from(rule.is_live(entry));
        }
        for (id, [all, live]) in (0..).zip(by_target).filter(|(_, [all, _])| *all > 0) {
            count.by_target.insert(id, all);
            if live > 0 {
                count.live_by_target.insert(id, live);
                count.live += live;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests;
