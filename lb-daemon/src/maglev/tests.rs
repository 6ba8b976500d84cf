use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::ring;

const DEFAULT_SIZE: u32 = 65_537;

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

fn equal(count: u32) -> Vec<(IpAddr, u32)> {
    (1..=count).map(|number| (address(number), 100)).collect()
}

/// The ring with addresses instead of indices.
fn owners(backends: &[(IpAddr, u32)], size: u32) -> Vec<IpAddr> {
    ring(backends, size).iter().map(|&index| backends[usize::from(index)].0).collect()
}

fn slots_of(backends: &[(IpAddr, u32)], size: u32) -> Vec<u32> {
    let mut slots = vec![0; backends.len()];
    for index in ring(backends, size) {
        slots[usize::from(index)] += 1;
    }
    slots
}

/// Share of slots that another backend has in the second ring, although neither its old nor its new owner had to give or
/// get any: what consistent hashing should keep small.
fn needless_moves(before: &[(IpAddr, u32)], after: &[(IpAddr, u32)], size: u32) -> f64 {
    let (old, new) = (owners(before, size), owners(after, size));
    let count = |ring: &[IpAddr], who: IpAddr| ring.iter().filter(|&&owner| owner == who).count();
    let needed: usize = before.iter().map(|&(who, _)| count(&old, who).saturating_sub(count(&new, who))).sum();
    let moved = old.iter().zip(&new).filter(|(old, new)| old != new).count();
    f64::from(u32::try_from(moved - needed).unwrap()) / f64::from(size)
}

/// Whether two backends go through the slots in the same order, or one in the other's reversed. They want the same slots one
/// after the other, so a change of one moves more of the other's: 4.8 % of the slots of a pool of two, at most 0.6 % of
/// others' (1500 random pairs). One pair in `size / 2` is so.
fn two_walk_alike(backends: &[(IpAddr, u32)], size: u32) -> bool {
    let skip = |address: IpAddr| super::Walk::new(super::mapped(address), size).skip;
    let mut skips: Vec<u32> = backends.iter().map(|(address, _)| skip(*address).min(size - skip(*address))).collect();
    skips.sort_unstable();
    skips.windows(2).any(|pair| pair[0] == pair[1])
}

/// Distinct addresses of both families with weights, in any order.
fn backends(most: usize, weights: impl Strategy<Value = u32>) -> impl Strategy<Value = Vec<(IpAddr, u32)>> {
    let one_address = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    prop::collection::btree_map(one_address, weights, 1..=most)
        .prop_map(|backends| backends.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

/// FNV-1a: independent of the planner's digest, which may change with the layout.
fn fingerprint(owners: &[IpAddr]) -> u64 {
    let bytes = owners.iter().flat_map(|owner| owner.to_string().into_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn rings_are_the_same_in_every_version() {
    let mixed: Vec<(IpAddr, u32)> = vec![
        ("10.0.0.11".parse().unwrap(), 100),
        ("10.0.0.12".parse().unwrap(), 50),
        ("2001:db8::13".parse().unwrap(), 1),
        ("192.0.2.7".parse().unwrap(), 0),
    ];
    let addresses: Vec<String> = owners(&mixed, 13).iter().map(ToString::to_string).collect();
    assert_eq!(
        addresses.join(" "),
        "10.0.0.11 10.0.0.11 10.0.0.12 10.0.0.11 2001:db8::13 10.0.0.11 10.0.0.11 10.0.0.11 10.0.0.11 10.0.0.11 \
         10.0.0.12 10.0.0.12 10.0.0.12"
    );
    assert_eq!(fingerprint(&owners(&mixed, DEFAULT_SIZE)), 0x2b62_92eb_01c4_761d);
    assert_eq!(fingerprint(&owners(&equal(100), DEFAULT_SIZE)), 0x6c07_3fb6_989f_f034);
}

#[test]
fn weights_are_kept_to_one_percent() {
    let backends: Vec<(IpAddr, u32)> = (0..100).map(|number| (address(number), 50 + number)).collect();
    let total: u32 = backends.iter().map(|backend| backend.1).sum();
    for (slots, (_, weight)) in slots_of(&backends, DEFAULT_SIZE).into_iter().zip(&backends) {
        let share = f64::from(*weight) / f64::from(total) * f64::from(DEFAULT_SIZE);
        assert!((f64::from(slots) - share).abs() <= 0.01 * share, "{slots} slots instead of {share}");
    }
}

#[test]
fn a_tiny_weight_among_huge_ones_has_one_slot() {
    let mut backends: Vec<(IpAddr, u32)> = (0..500).map(|number| (address(number), 65_535)).collect();
    backends.extend((500..600).map(|number| (address(number), 1)));
    let slots = slots_of(&backends, DEFAULT_SIZE);
    assert!(slots[500..].iter().all(|&slots| slots == 1), "{slots:?}");
    assert!(slots[..500].iter().all(|&slots| (130..=132).contains(&slots)), "{slots:?}");
    assert_eq!(slots.iter().sum::<u32>(), DEFAULT_SIZE);
}

#[test]
fn more_backends_than_slots_fill_the_ring() {
    let slots = slots_of(&equal(300), 251);
    assert!(slots.iter().all(|&slots| slots <= 1));
    assert_eq!(slots.iter().sum::<u32>(), 251);
}

#[test]
fn without_weight_there_is_no_ring() {
    assert!(ring(&[], DEFAULT_SIZE).is_empty());
    assert!(ring(&[(address(1), 0), (address(2), 0)], DEFAULT_SIZE).is_empty());
    assert!(ring(&equal(3), 0).is_empty());
}

#[test]
fn every_size_is_filled() {
    for size in 1..200 {
        assert_eq!(slots_of(&equal(3), size).iter().sum::<u32>(), size);
    }
}

#[test]
fn a_backend_that_leaves_moves_hardly_more_than_its_own_slots() {
    let before = equal(100);
    for gone in [0, 31, 99] {
        let mut after = before.clone();
        after.remove(gone);
        let moves = needless_moves(&before, &after, DEFAULT_SIZE);
        assert!(moves < 0.008, "{moves}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn shares_are_proportional(backends in backends(60, 0_u32..=500)) {
        let total: u32 = backends.iter().map(|backend| backend.1).sum();
        let slots = slots_of(&backends, 4_099);
        for (slots, (_, weight)) in slots.into_iter().zip(&backends) {
            let share = f64::from(*weight) / f64::from(total.max(1)) * 4_099.0;
            // 60 backends with a share below one slot can take at most one slot each from the others.
            prop_assert!((f64::from(slots) - share).abs() < 2.0, "{slots} slots instead of {share}");
            prop_assert_eq!(slots == 0, *weight == 0);
        }
    }

    #[test]
    fn order_makes_no_difference(backends in backends(40, 0_u32..=500).prop_flat_map(|backends| {
        (Just(backends.clone()), Just(backends).prop_shuffle())
    })) {
        prop_assert_eq!(owners(&backends.0, 1_009), owners(&backends.1, 1_009));
    }

    #[test]
    fn leaving_and_joining_disturb_little(backends in backends(40, 1_u32..=100), which: prop::sample::Index) {
        prop_assume!(backends.len() > 1 && !two_walk_alike(&backends, 16_381));
        let mut fewer = backends.clone();
        fewer.remove(which.index(backends.len()));
        prop_assert!(needless_moves(&backends, &fewer, 16_381) < 0.03);
        prop_assert!(needless_moves(&fewer, &backends, 16_381) < 0.03);
    }

    #[test]
    fn a_new_weight_disturbs_little(backends in backends(40, 1_u32..=100), which: prop::sample::Index, weight in 0_u32..=100) {
        let mut changed = backends.clone();
        changed[which.index(backends.len())].1 = weight;
        prop_assume!(changed.iter().any(|backend| backend.1 > 0) && !two_walk_alike(&backends, 16_381));
        prop_assert!(needless_moves(&backends, &changed, 16_381) < 0.03);
    }
}
