//! Histories of rings.

use std::{
    collections::BTreeSet,
    sync::atomic::{Ordering, fence},
};

use lb_common::layout::{ring::SLOTS_PER_BLOCK, vip::Vip};
use zerocopy::{FromBytes, IntoBytes};

use super::{BLOCK_WORDS, Tables, WORD_SLOTS, outside};
use crate::{
    dataplane::Error,
    plan::history::{Before, next, without},
};

impl Tables {
    /// The history of a VIP's ring; none when no slot is tracked.
    pub(in crate::dataplane::kernel) fn history(&self, vip: &Vip) -> Vec<u16> {
        self.slots(vip.history_base, vip.history_slots())
    }

    pub(in crate::dataplane::kernel) fn write_history(
        &self,
        before: &Vip,
        after: &Vip,
        remembers_all: bool,
        gone: &BTreeSet<u16>,
    ) -> Result<(), Error> {
        let (ring, history) = (self.ring(before), self.history(before));
        let slots = next(&Before { ring: &ring, history: &history, remembers_all }, &self.ring(after), gone);
        self.write_ring(after.history_base, &slots)
    }

    /// Leads what the history of a VIP in force says of backends that left to the slots' current ones.
    pub(in crate::dataplane::kernel) fn disown(&self, vip: &Vip, gone: &BTreeSet<u16>) -> Result<(), Error> {
        self.write_slots(vip.history_base, &without(&self.history(vip), &self.ring(vip), gone))
    }

    /// Writes single slots of a ring or history in force. There is no other writer.
    pub(in crate::dataplane::kernel) fn write_slots(&self, base: u32, slots: &[(u32, u16)]) -> Result<(), Error> {
        for (slot, to) in slots {
            let slot = *slot as usize;
            let at = base as usize * BLOCK_WORDS
                + slot / SLOTS_PER_BLOCK * BLOCK_WORDS
                + slot % SLOTS_PER_BLOCK / WORD_SLOTS;
            let word = self.rings.words().get(at).ok_or_else(|| outside("write a slot of the ring at block", base))?;
            let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            let mut packed = <[u16; WORD_SLOTS]>::read_from_bytes(&bytes).unwrap_or_default();
            if let Some(place) = packed.get_mut(slot % WORD_SLOTS) {
                *place = *to;
            }
            let mut words = [0_u64];
            words.as_mut_bytes().copy_from_slice(packed.as_bytes());
            let [new] = words;
            word.store(new, Ordering::Relaxed);
        }
        fence(Ordering::Release);
        Ok(())
    }
}
