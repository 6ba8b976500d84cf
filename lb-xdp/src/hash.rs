//! 5-tuple to 64 bits, keyed.
//!
//! Two words at a time are added to key words and multiplied, and the products are summed: the NH hash (RFC 4418 section
//! 5.2), whose multiplications do not wait for each other. One finalizer then spreads the sum over all bits. It is no
//! cryptographic hash; whoever does not know the seed cannot aim flows at one bucket. The result is the same on every
//! machine: words are little-endian loads of the network-order bytes.

/// Key words are the seed's halves plus these: the fractional digits of the square roots of the first primes.
const KEYS: [u32; 10] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
    0xcbbb_9d5d,
    0x629a_292a,
];
const FINAL: u64 = 0xd6e8_feb8_6659_fd93;

/// Key words of one seed.
#[derive(Clone, Copy)]
struct Key {
    low: u32,
    high: u32,
}

impl Key {
    #[inline(always)]
    const fn new(seed: u64) -> Self {
        Self { low: seed as u32, high: (seed >> 32) as u32 }
    }

    /// One NH term.
    #[inline(always)]
    const fn term(self, a: u32, b: u32, key_a: u32, key_b: u32) -> u64 {
        let a = a.wrapping_add(self.low.wrapping_add(key_a));
        let b = b.wrapping_add(self.high.wrapping_add(key_b));
        (a as u64).wrapping_mul(b as u64)
    }
}

#[inline(always)]
const fn finish(sum: u64, seed: u64) -> u64 {
    let mut hash = sum ^ seed;
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(FINAL);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(FINAL);
    hash ^ hash >> 32
}

/// Hash of an IPv4 flow. All words are little-endian loads: the addresses, and the ports as they lie in the header.
#[inline(always)]
pub const fn v4(source: u32, destination: u32, ports: u32, protocol: u8, seed: u64) -> u64 {
    let key = Key::new(seed);
    let [k0, k1, k2, k3, ..] = KEYS;
    let sum = key.term(source, destination, k0, k1).wrapping_add(key.term(ports, protocol as u32, k2, k3));
    finish(sum, seed)
}

/// Hash of an IPv6 flow. Words as for [`v4`], addresses as their halves.
#[inline(always)]
pub const fn v6(source: [u64; 2], destination: [u64; 2], ports: u32, protocol: u8, seed: u64) -> u64 {
    let key = Key::new(seed);
    let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9] = KEYS;
    let ([s0, s1], [d0, d1]) = (source, destination);
    let sum = key
        .term(s0 as u32, (s0 >> 32) as u32, k0, k1)
        .wrapping_add(key.term(s1 as u32, (s1 >> 32) as u32, k2, k3))
        .wrapping_add(key.term(d0 as u32, (d0 >> 32) as u32, k4, k5))
        .wrapping_add(key.term(d1 as u32, (d1 >> 32) as u32, k6, k7))
        .wrapping_add(key.term(ports, protocol as u32, k8, k9));
    finish(sum, seed)
}

#[cfg(test)]
mod tests;
