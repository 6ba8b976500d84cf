use proptest::prelude::*;

use super::{fold, updated, word, words};

/// The definition, word by word, carry by carry.
fn naive(words: &[[u8; 2]]) -> u16 {
    let mut sum = 0u64;
    for &word in words {
        sum += u64::from(u16::from_be_bytes(word));
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !(sum as u16)
}

proptest! {
    #[test]
    fn sums_in_memory_order_equal_the_definition(data: Vec<[u8; 2]>) {
        let sum: u32 = data.iter().map(|&bytes| word(bytes)).sum();
        prop_assert_eq!((!fold(sum)).to_ne_bytes(), naive(&data).to_be_bytes());
    }

    #[test]
    fn an_updated_sum_equals_a_fresh_one(
        mut data in prop::collection::vec(any::<[u8; 2]>(), 2..40),
        at: prop::sample::Index,
        new: [u8; 2],
    ) {
        // A packet of zeros alone has no sum but 0xffff; headers are never that.
        data.push([0x45, 0]);
        let before = naive(&data).to_be_bytes();
        let place = at.index(data.len() - 1);
        let old = std::mem::replace(&mut data[place], new);
        prop_assert_eq!(updated(before, old, new), naive(&data).to_be_bytes());
    }
}

#[test]
fn two_words_sum_like_one_and_one() {
    let both = words([0x12, 0x34, 0xff, 0xfe]);
    assert_eq!(both, word([0x12, 0x34]) + word([0xff, 0xfe]));
}
