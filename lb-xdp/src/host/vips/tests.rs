use std::{
    cell::Cell,
    sync::{
        atomic::{AtomicBool, AtomicU64},
        mpsc,
    },
    thread,
};

use lb_common::layout::{
    flow::{Bucket, Word},
    vip::{TCP, UDP, mapped},
    vips::{self, cells, entries},
};
use proptest::prelude::*;

use super::*;

const CELLS: u32 = cells(64);

fn memory(cells: u32) -> Vec<AtomicU64> {
    (0..cells as usize * WORDS).map(|_| AtomicU64::new(0)).collect()
}

fn key(number: u8) -> VipKey {
    VipKey::service(mapped([192, 0, 2, number >> 2]), [0, number & 1], if number & 2 == 0 { TCP } else { UDP })
}

fn vip(id: u32) -> Vip {
    Vip { id, flags: id, target_base: id, ring_base: id, wildcard_bits: id, ..Vip::default() }
}

/// What the program finds: its own functions, over copies of the cells.
fn look_up(words: &[AtomicU64], key: &VipKey) -> Option<Vip> {
    let half = u32::try_from(words.len() / WORDS / 2).unwrap();
    let place = Place::of(key.words(), half - 1);
    let cell =
        |number: u32| -> [u64; WORDS] { std::array::from_fn(|at| words[number as usize * WORDS + at].load(Acquire)) };
    let index = Bucket { entries: cell(place.cell).map(Word::new) };
    let record = match vips::look(&index, place.tag) {
        0 => return None,
        number => cell(number),
    };
    let record: Record = zerocopy::transmute!(record);
    record.of(key.words()).copied()
}

#[derive(Clone, Debug)]
enum Act {
    Set(u8, u32),
    Remove(u8),
    Grace,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (any::<u8>(), 1..1000_u32).prop_map(|(key, id)| Act::Set(key, id)),
        2 => any::<u8>().prop_map(Act::Remove),
        1 => Just(Act::Grace),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #[test]
    fn it_holds_what_was_put_into_it(acts in proptest::collection::vec(act(), 0..300)) {
        let words = memory(CELLS);
        let table = Cells::new(&words);
        let mut writer = Writer::of(table);
        let mut model = BTreeMap::new();
        for act in acts {
            match act {
                Act::Set(..) if model.len() as u32 == entries(CELLS) => {}
                Act::Set(number, id) => {
                    writer.set(table, &key(number), &vip(id), || {}).unwrap();
                    model.insert(key(number), vip(id));
                }
                Act::Remove(number) => {
                    writer.remove(table, &key(number));
                    model.remove(&key(number));
                }
                Act::Grace => writer.graced(),
                Act::Reopen => writer = Writer::of(table),
            }
            prop_assert_eq!(table.entries(), model.clone());
        }
        for number in 0..=u8::MAX {
            let expected = model.get(&key(number)).copied();
            prop_assert_eq!(look_up(&words, &key(number)), expected);
            prop_assert_eq!(table.get(&key(number)), expected);
        }
        let copy = image(&model, CELLS * 2).unwrap();
        let copy: Vec<AtomicU64> = copy.into_iter().map(AtomicU64::new).collect();
        prop_assert_eq!(Cells::new(&copy).entries(), model);
    }
}

#[test]
fn a_record_that_packets_may_be_reading_is_not_written() {
    let words = memory(cells(1));
    let table = Cells::new(&words);
    let mut writer = Writer::of(table);
    let waits = Cell::new(0);
    for id in 1..=9 {
        let before: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
        let named: BTreeSet<u32> = table.named().map(|(number, _)| number).collect();
        writer.set(table, &key(1), &vip(id), || waits.set(waits.get() + 1)).unwrap();
        for number in named {
            let record = number as usize * WORDS..(number as usize + 1) * WORDS;
            let now: Vec<u64> = words[record.clone()].iter().map(|word| word.load(Relaxed)).collect();
            assert_eq!(now, before[record], "what packets read a moment ago");
        }
        assert_eq!(table.get(&key(1)), Some(vip(id)));
    }
    // Of 2 records each second change finds none that nobody reads; the first waits for those of a writer before this one.
    assert_eq!(waits.get(), 8);
    writer.graced();
    writer.set(table, &key(1), &vip(10), || panic!("has just been waited for")).unwrap();
}

#[test]
fn readers_never_miss_an_entry_that_is_there_nor_see_half_of_one() {
    let words = memory(cells(4));
    let table = Cells::new(&words);
    let mut writer = Writer::of(table);
    writer.set(table, &key(0), &vip(1), || {}).unwrap();
    let done = AtomicBool::new(false);
    let (asked, answers) = (AtomicU64::new(0), AtomicU64::new(0));
    let shares = |other: &VipKey| table.place(other).cell == table.place(&key(0)).cell;
    let others: Vec<VipKey> = (1..=u8::MAX).map(key).filter(shares).take(5).collect();
    assert_eq!(others.len(), 5);
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        scope.spawn(|| {
            let tell = tell;
            while !done.load(Relaxed) {
                // As packets do, without a second look.
                let found = look_up(&words, &key(0));
                if found.is_none_or(|found| found != vip(found.id)) {
                    tell.send(found).unwrap();
                }
                answers.store(asked.load(Acquire), Release);
            }
        });
        for id in 2..20_000 {
            // A grace as the kernel's: every look-up that had begun has ended.
            let grace = || {
                let turn = asked.fetch_add(1, Release) + 1;
                while answers.load(Acquire) < turn {
                    std::hint::spin_loop();
                }
            };
            writer.set(table, &key(0), &vip(id), grace).unwrap();
            // Others come and go in the same place.
            let other = &others[id as usize % 5];
            if id % 2 == 0 {
                writer.set(table, other, &vip(id), grace).unwrap();
            } else {
                writer.remove(table, other);
            }
            if id % 3 == 0 {
                grace();
                writer.graced();
            }
        }
        done.store(true, Relaxed);
        assert_eq!(told.try_recv().ok(), None);
    });
}

#[test]
fn thousands_of_vips_find_their_places() {
    for size in [100_u32, 4_000, 8_192] {
        let all = (0..size).flat_map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            let address = mapped([10, 0, high, low]);
            [VipKey::service(address, 443_u16.to_be_bytes(), TCP), VipKey::address(address, 1)]
        });
        let all: BTreeMap<VipKey, Vip> = (1..).zip(all).map(|(id, key)| (key, vip(id))).collect();
        let words: Vec<AtomicU64> = image(&all, cells(size * 2)).unwrap().into_iter().map(AtomicU64::new).collect();
        assert_eq!(Cells::new(&words).entries(), all);
        let index = &words[..words.len() / 2];
        let most = index.chunks(WORDS).map(|cell| cell.iter().filter(|word| word.load(Relaxed) != 0).count()).max();
        assert!(most < Some(WORDS), "{most:?} share a place of a table for {size}");
    }
}

#[test]
fn a_full_table_says_so_and_stays_as_it_is() {
    let words = memory(cells(1));
    let table = Cells::new(&words);
    let mut writer = Writer::of(table);
    let mut model = BTreeMap::new();
    let full = (0..20).find(|number| match writer.set(table, &key(*number), &vip(1), || {}) {
        Ok(()) => model.insert(key(*number), vip(1)).is_some(),
        Err(Full) => true,
    });
    assert_eq!(full, Some(2), "as many as there are records");
    assert_eq!(table.entries(), model);
    assert!(writer.remove(table, &key(0)));
    writer.set(table, &key(19), &vip(3), || {}).unwrap();
    assert_eq!(table.entries(), BTreeMap::from([(key(1), vip(1)), (key(19), vip(3))]));
}
