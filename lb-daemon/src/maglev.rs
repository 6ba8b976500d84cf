//! Backends and weights to a ring: Maglev hashing.
//!
//! Every backend has a permutation of the slots, made from its address alone. The backends take turns, each taking the
//! first slot of its permutation that is still free, until all slots are taken. When a backend leaves, the others keep
//! nearly all their slots, because each of them would have taken those first anyway (Eisenbud and others, «Maglev: A
//! Fast and Reliable Software Network Load Balancer», NSDI 2016, section 3.4).
//!
//! Weights: a backend's number of slots is fixed first (its quota), then its turns are spread evenly over the whole
//! filling, so that heavy and light backends meet the same share of slots already taken.
//!
//! **All of this is a contract between the lbs of a fleet**: given the same addresses and weights, every one of them must
//! send a flow to the same backend, also while two versions of lb run side by side. A test pins a ring.

use std::{cmp::Reverse, net::IpAddr};

/// The ring of `backends`, (address, weight) each: every slot holds an index into `backends`.
///
/// A backend of weight w gets its w/W of the slots, rounded up or down, but at least one if there are slots enough for
/// all; weight 0 gets none. The order of `backends` makes no difference to who gets which slot. `size` should be prime:
/// others work, but spread the slots less evenly when a backend leaves.
///
/// Empty if no backend has weight. Slots are `u16`, so backends beyond the first 65,536 get none; the planner refuses as
/// many.
pub fn ring(backends: &[(IpAddr, u32)], size: u32) -> Vec<u16> {
    let members = members(backends);
    if members.is_empty() || size == 0 {
        return Vec::new();
    }
    let quotas = quotas(&members, size);
    let mut walks: Vec<Walk> = members.iter().map(|member| Walk::new(member.address, size)).collect();
    // One bit a slot: 8 KiB for a default ring, where the tries at taken slots hit the first-level cache.
    let mut taken = vec![0_u64; size as usize / 64 + 1];
    let mut ring = vec![0; size as usize];
    for turn in turns(&quotas, size) {
        let member = usize::from(turn);
        let slot = walks[member].next_free(&mut taken, size);
        ring[slot as usize] = members[member].index;
    }
    ring
}

/// A backend with weight.
struct Member {
    /// Its address, IPv4 as its mapped form.
    address: [u8; 16],
    weight: u64,
    /// Its index in the caller's list.
    index: u16,
}

/// The backends with weight, by address.
fn members(backends: &[(IpAddr, u32)]) -> Vec<Member> {
    let with_weight = (0..=u16::MAX).zip(backends).filter(|(_, (_, weight))| *weight > 0);
    let mut members: Vec<Member> = with_weight
        .map(|(index, (address, weight))| Member { address: mapped(*address), weight: u64::from(*weight), index })
        .collect();
    members.sort_by_key(|member| member.address);
    members
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// How many of `size` slots each member gets: its share rounded down, and the slots that remain to those who lost most by
/// that (largest remainder). Whoever would have none comes before all others, and takes one of the richest at need: a
/// backend that the operator gave a weight must see traffic, however small its share.
#[expect(clippy::cast_possible_truncation, reason = "a share of `size` is at most `size`")]
fn quotas(members: &[Member], size: u32) -> Vec<u32> {
    let total: u64 = members.iter().map(|member| member.weight).sum();
    let entitled = |member: &Member| u64::from(size) * member.weight;
    let mut quotas: Vec<u32> = members.iter().map(|member| (entitled(member) / total) as u32).collect();
    let spare = size - quotas.iter().sum::<u32>();
    let mut by_loss: Vec<usize> = (0..members.len()).collect();
    by_loss.sort_by_key(|&at| (quotas[at] > 0, Reverse(entitled(&members[at]) % total)));
    for &at in by_loss.iter().take(spare as usize) {
        quotas[at] += 1;
    }
    feed_empty(&mut quotas);
    quotas
}

/// Gives one slot to each quota of 0, taken from the largest in turn, while there are quotas above 1.
fn feed_empty(quotas: &mut [u32]) {
    let empty: Vec<usize> = (0..quotas.len()).filter(|&at| quotas[at] == 0).collect();
    if empty.is_empty() {
        return;
    }
    let mut richest: Vec<usize> = (0..quotas.len()).filter(|&at| quotas[at] > 1).collect();
    richest.sort_by_key(|&at| Reverse(quotas[at]));
    let mut hungry = empty.into_iter().peekable();
    while hungry.peek().is_some() && !richest.is_empty() {
        for (giver, taker) in richest.iter().zip(hungry.by_ref().take(richest.len())) {
            quotas[*giver] -= 1;
            quotas[taker] = 1;
        }
        richest.retain(|&at| quotas[at] > 1);
    }
}

/// Who takes a slot, turn by turn. The k-th of q turns of a member falls at (k + 1/2)/q of the way; turns of the same
/// `size`-th part of it go by address.
///
/// A counting sort: sorting the turns by exact time took 2.9 ms instead of 1.5 ms for the whole of a default ring of 100
/// backends, and moved just as many slots when a backend left.
fn turns(quotas: &[u32], size: u32) -> Vec<u16> {
    let times_of = |quota: u32| {
        // Fixed point, 32 bits after the point. The last time is below `size`: (quota - 1/2) * size / quota.
        let step = (u64::from(size) << 32) / u64::from(quota.max(1));
        (0..u64::from(quota)).map(move |turn| ((step / 2 + turn * step) >> 32) as usize)
    };
    let mut next = vec![0_u32; size as usize + 1];
    for time in quotas.iter().flat_map(|&quota| times_of(quota)) {
        next[time + 1] += 1;
    }
    for time in 1..next.len() {
        next[time] += next[time - 1];
    }
    let mut turns = vec![0; size as usize];
    for (member, &quota) in (0..=u16::MAX).zip(quotas) {
        for time in times_of(quota) {
            turns[next[time] as usize] = member;
            next[time] += 1;
        }
    }
    turns
}

/// A member's way through its permutation of the slots: `offset`, `offset + skip`, `offset + 2 * skip`, … modulo the size.
struct Walk {
    at: u32,
    skip: u32,
}

impl Walk {
    #[expect(clippy::cast_possible_truncation, reason = "remainders of a u32")]
    fn new(address: [u8; 16], size: u32) -> Self {
        let hash = hash(address);
        let at = (hash % u64::from(size)) as u32;
        let mut skip = (mix(hash ^ SKIP_KEY) % u64::from(size.saturating_sub(1).max(1))) as u32 + 1;
        // A skip with a divisor in common would never meet some slots; with a prime size there is none.
        while gcd(skip, size) != 1 {
            skip += 1;
        }
        Self { at, skip }
    }

    /// Takes the next slot that is free. There must be one.
    fn next_free(&mut self, taken: &mut [u64], size: u32) -> u32 {
        loop {
            let slot = self.at;
            let to_wrap = size - self.at;
            self.at = if self.skip < to_wrap { self.at + self.skip } else { self.skip - to_wrap };
            let (word, bit) = (&mut taken[slot as usize / 64], 1 << (slot % 64));
            if *word & bit == 0 {
                *word |= bit;
                return slot;
            }
        }
    }
}

/// Tells the hash for the skip from that for the offset: the digits of pi after the point.
const SKIP_KEY: u64 = 0x243f_6a88_85a3_08d3;
/// Whitens the first half of an address, which for IPv4 is zero: the next digits of pi.
const ADDRESS_KEY: u64 = 0x1319_8a2e_0370_7344;

/// Hash of an address: its halves in network order, mixed one after the other.
fn hash(address: [u8; 16]) -> u64 {
    let [high, low]: [u64; 2] = zerocopy::transmute!(address);
    mix(mix(u64::from_be(high) ^ ADDRESS_KEY) ^ u64::from_be(low))
}

/// `MurmurHash3`'s finalizer for 64 bits: a bijection in which every input bit flips every output bit in half of the cases.
fn mix(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ word >> 33
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
