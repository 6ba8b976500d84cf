use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{v4, v6};

const SEED: u64 = 0x5eed;

/// Hash of a flow given as people write it.
fn hash(source: &str, destination: &str, ports: (u16, u16), protocol: u8, seed: u64) -> u64 {
    let [[a, b], [c, d]] = [ports.0.to_be_bytes(), ports.1.to_be_bytes()];
    let ports = u32::from_le_bytes([a, b, c, d]);
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    match (parse(source), parse(destination)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => v4(word(source), word(destination), ports, protocol, seed),
        (IpAddr::V6(source), IpAddr::V6(destination)) => v6(words(source), words(destination), ports, protocol, seed),
        _ => panic!("addresses of two families"),
    }
}

fn word(address: Ipv4Addr) -> u32 {
    u32::from_le_bytes(address.octets())
}

fn words(address: Ipv6Addr) -> [u64; 2] {
    let number = u128::from_le_bytes(address.octets());
    [number as u64, (number >> 64) as u64]
}

/// Every lb of a fleet must agree, of whatever version: these came from an implementation of its own in another language.
#[test]
fn hashes_are_what_they_always_were() {
    const MANY: u64 = 0x0123_4567_89ab_cdef;
    let client = ("198.51.100.7", "192.0.2.10", (51000, 443));
    let client6 = ("2001:db8:c::7", "2001:db8::10", (51000, 443));
    let edge = ("255.255.255.255", "0.0.0.0", (0, 65535));
    let edge6 = ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::", (65535, 0));
    let golden = [
        (client, 6, SEED, 0xe163_3467_803a_6f9b),
        (client, 17, SEED, 0x5b9b_0b10_f346_7c9f),
        (edge, 1, SEED, 0x06ea_4a7c_be50_603e),
        (client6, 6, SEED, 0xd391_fc78_d6b9_bd41),
        (edge6, 58, SEED, 0x81ee_6811_49a9_ed63),
        (client, 6, MANY, 0x2432_faa7_30aa_f1ea),
        (client, 17, MANY, 0x4e2c_206c_8886_1aa4),
        (edge, 1, MANY, 0x85d8_3c00_c2f8_e916),
        (client6, 6, MANY, 0xa3f2_c7a1_da68_6564),
        (edge6, 58, MANY, 0xb67c_02af_aca0_60aa),
        (client, 6, 0, 0x269e_5fd5_5467_68be),
        (client6, 6, 0, 0xf8dd_148c_0286_0059),
    ];
    for ((source, destination, ports), protocol, seed, expected) in golden {
        let found = hash(source, destination, ports, protocol, seed);
        assert_eq!(found, expected, "{source} {destination} {ports:?} {protocol} with {seed:#x}: {found:#018x}");
    }
}

type Part = fn(u64) -> u64;

/// The parts of a hash that choose: bucket of a table of 2^17, low and high bits of the tag, slot of a ring, outer source.
const PARTS: [(&str, Part); 7] = [
    ("bucket, low", |hash| hash & 0xff),
    ("bucket, high", |hash| (hash >> 9) & 0xff),
    ("outer source", |hash| (hash >> 16) & 0xff),
    ("outer source, high", |hash| (hash >> 24) & 0xff),
    ("ring", |hash| (u64::from((hash >> 20) as u32) * 256) >> 32),
    ("tag, low", |hash| (hash >> 36) & 0xff),
    ("tag, high", |hash| hash >> 56),
];

/// Pearson's statistic over 256 cells. With 255 degrees of freedom it is 255 on average with a deviation of 22.6; below
/// 120 it would be more even than chance is, which a hash must not be either.
fn statistic(cells: &[u32; 256]) -> f64 {
    let expected = f64::from(cells.iter().sum::<u32>()) / 256.0;
    cells.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
}

fn demand_evenness(name: &str, hashes: &[u64]) {
    for (part, of) in PARTS {
        let mut cells = [0_u32; 256];
        for hash in hashes {
            cells[of(*hash) as usize] += 1;
        }
        let statistic = statistic(&cells);
        assert!((120.0..420.0).contains(&statistic), "{name}, {part}: {statistic}");
    }
}

const COUNT: u32 = 65_536;
const SEEDS: [u64; 4] = [SEED, 0, u64::MAX, 0x1234_5678_9abc_def0];

#[test]
fn neighbouring_ports_spread_evenly() {
    for seed in SEEDS {
        let from_v4 = |port: u32| v4(0x0764_33c6, 0x0a02_00c0, port.swap_bytes() >> 16 | 0xbb01_0000, 6, seed);
        demand_evenness("source ports, IPv4", &(0..COUNT).map(from_v4).collect::<Vec<_>>());
        let to_v4 = |port: u32| v4(0x0764_33c6, 0x0a02_00c0, port.swap_bytes() | 0x38c7, 17, seed);
        demand_evenness("destination ports, IPv4", &(0..COUNT).map(to_v4).collect::<Vec<_>>());
        let ends = ([0xb80d_0120, 7 << 56], [0xb80d_0120, 0x10 << 56]);
        let from_v6 = |port: u32| v6(ends.0, ends.1, port.swap_bytes() >> 16 | 0xbb01_0000, 6, seed);
        demand_evenness("source ports, IPv6", &(0..COUNT).map(from_v6).collect::<Vec<_>>());
    }
}

#[test]
fn neighbouring_addresses_spread_evenly() {
    for seed in SEEDS {
        let source = |n: u32| v4((0x0a00_0000 + n).swap_bytes(), 0x0a02_00c0, 0xbb01_38c7, 6, seed);
        demand_evenness("sources, IPv4", &(0..COUNT).map(source).collect::<Vec<_>>());
        let destination = |n: u32| v4(0x0764_33c6, (0xc000_0000 + n).swap_bytes(), 0xbb01_38c7, 6, seed);
        demand_evenness("destinations, IPv4", &(0..COUNT).map(destination).collect::<Vec<_>>());
        // The last bytes of an IPv6 address, and those that tell customers' prefixes apart.
        let ends = ([0xb80d_0120, 0], [0xb80d_0120, 0x10 << 56]);
        let host = |n: u32| v6([ends.0[0], u64::from(n).swap_bytes()], ends.1, 0xbb01_38c7, 6, seed);
        demand_evenness("hosts, IPv6", &(0..COUNT).map(host).collect::<Vec<_>>());
        let prefix = |n: u32| v6([ends.0[0] | u64::from(n.swap_bytes()) << 32, 1 << 56], ends.1, 0xbb01_38c7, 6, seed);
        demand_evenness("prefixes, IPv6", &(0..COUNT).map(prefix).collect::<Vec<_>>());
    }
}

#[test]
fn addresses_and_ports_together_spread_evenly_and_never_collide() {
    let mut hashes = Vec::new();
    for client in 0..1024_u32 {
        for port in 0..256_u32 {
            let source = (0xc633_6400 + client).swap_bytes();
            hashes.push(v4(source, 0x0a02_00c0, (0x8000 + port).swap_bytes() >> 16 | 0xbb01_0000, 6, SEED));
        }
    }
    demand_evenness("clients and ports", &hashes);
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 1024 * 256);
}

#[test]
fn each_bit_of_a_flow_and_of_the_seed_changes_half_of_the_hash() {
    // 4096 flips of 64 bits: 131,072 expected of 262,144, with a deviation of 256; the bits of one flip are not quite
    // independent, hence five times that and more.
    let mut changed = [0_u32; 5];
    for n in 0..4096_u32 {
        let flow = |a: u32, b: u32, ports: u32, protocol: u32| v4(a, b, ports, protocol as u8, SEED);
        let (a, b, ports) = (n.wrapping_mul(0x9e37_79b9), !n, n.rotate_left(13));
        let bit = 1 << (n % 32);
        let base = flow(a, b, ports, 6);
        let flipped = [
            flow(a ^ bit, b, ports, 6),
            flow(a, b ^ bit, ports, 6),
            flow(a, b, ports ^ bit, 6),
            flow(a, b, ports, 6 ^ (1 << (n % 8))),
            v4(a, b, ports, 6, SEED ^ 1 << (n % 64)),
        ];
        for (sum, hash) in changed.iter_mut().zip(flipped) {
            *sum += (hash ^ base).count_ones();
        }
    }
    for (part, sum) in ["source", "destination", "ports", "protocol", "seed"].into_iter().zip(changed) {
        assert!((128_000..134_200).contains(&sum), "{part}: {sum}");
    }
}

#[test]
fn another_seed_places_flows_independently() {
    let mut cells = [0; 256];
    for n in 0..COUNT {
        let of = |seed| v4(0x0764_33c6, 0x0a02_00c0, n.swap_bytes() >> 16 | 0xbb01_0000, 6, seed);
        // Equal low nibbles would pile up in the cells of the diagonal.
        cells[((of(SEED) & 0xf) << 4 | (of(SEED + 1) & 0xf)) as usize] += 1;
    }
    let statistic = statistic(&cells);
    assert!((120.0..420.0).contains(&statistic), "{statistic}");
}
