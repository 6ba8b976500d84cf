//! `VIPS` in memory that is shared with the program: what lies in it, and how it is changed while packets read it. Its form is
//! that of [`lb_common::layout::vips`].

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};

use lb_common::layout::{
    vip::{Vip, VipKey},
    vips::{FREED, Place, Record, WAYS},
};

/// Words of a cell.
const WORDS: usize = WAYS;
const _: () = assert!(size_of::<Record>() == WORDS * size_of::<u64>());

/// The table has no place for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table VIPS has no place left for this VIP: change its address or port, or remove another")
    }
}

impl Error for Full {}

/// All cells of the table: a power of two of them, at least 2.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'m> {
    words: &'m [AtomicU64],
}

impl<'m> Cells<'m> {
    /// The table in this memory.
    #[must_use]
    pub const fn new(words: &'m [AtomicU64]) -> Self {
        Self { words }
    }

    /// Number of the first record, which is that of all places in the index.
    const fn half(self) -> u32 {
        (self.words.len() >> (2 * WORDS).trailing_zeros()) as u32
    }

    fn cell(self, number: u32) -> Option<&'m [AtomicU64; WORDS]> {
        self.words.get(number as usize * WORDS..)?.first_chunk()
    }

    fn place(self, key: &VipKey) -> Place {
        Place::of(key.words(), self.half().wrapping_sub(1))
    }

    fn record(self, number: u32) -> Option<Record> {
        let cell = self.cell(number)?;
        let words: [u64; WORDS] = std::array::from_fn(|at| cell.get(at).map_or(0, |word| word.load(Relaxed)));
        Some(zerocopy::transmute!(words))
    }

    /// The word of the index that names the record of this key, the record's number, and the record.
    fn find(self, key: &VipKey) -> Option<(&'m AtomicU64, u32, Record)> {
        let place = self.place(key);
        let tagged = |word: &&AtomicU64| (word.load(Acquire) >> 32) as u32 == place.tag;
        let word = self.cell(place.cell)?.iter().find(tagged)?;
        loop {
            let number = word.load(Acquire) as u32;
            let record = self.record(number)?;
            // Its cell may have been written anew while it was copied, and then it is not what the index names any more; but
            // it may be again, after two changes of this key and a grace period between them. Who was stopped for as long may
            // be told a mixture: in a listing, as packets have grace periods.
            fence(Acquire);
            if word.load(Relaxed) as u32 == number {
                return (record.key == *key).then_some((word, number, record));
            }
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(self, key: &VipKey) -> Option<Vip> {
        self.find(key).map(|(_, _, record)| record.vip)
    }

    /// Every record that the index names, with its number.
    fn named(self) -> impl Iterator<Item = (u32, Record)> + 'm {
        let index = self.words.get(..self.half() as usize * WORDS).unwrap_or_default();
        let numbers = index.iter().map(|word| word.load(Acquire) as u32).filter(|number| *number != 0);
        numbers.filter_map(move |number| Some((number, self.record(number)?)))
    }

    /// All entries.
    #[must_use]
    pub fn entries(self) -> BTreeMap<VipKey, Vip> {
        self.named().map(|(_, record)| (record.key, record.vip)).collect()
    }
}

/// Whoever writes the table; there is but one at a time.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Records that no packet is reading.
    free: Vec<u32>,
    /// Records that the index names no more, but that packets may be reading.
    left: Vec<u32>,
}

impl Writer {
    /// Of a table that someone may have written before.
    #[must_use]
    pub fn of(cells: Cells) -> Self {
        let used: BTreeSet<u32> = cells.named().map(|(number, _)| number).collect();
        let all = cells.half()..cells.half().saturating_mul(2);
        Self { free: Vec::new(), left: all.rev().filter(|number| !used.contains(number)).collect() }
    }

    /// No packet is on its way any more that read the table before.
    pub fn graced(&mut self) {
        self.free.append(&mut self.left);
    }

    /// Makes `vip` the value of `key`. `grace` waits until no packet is on its way that read the table before.
    ///
    /// # Errors
    /// [`Full`]; nothing was changed.
    pub fn set(&mut self, cells: Cells, key: &VipKey, vip: &Vip, grace: impl FnOnce()) -> Result<(), Full> {
        let place = cells.place(key);
        let former = cells.find(key);
        let word = match former {
            Some((word, ..)) => word,
            None => vacant(cells, place).ok_or(Full)?,
        };
        if self.free.is_empty() {
            grace();
            self.graced();
        }
        let number = self.free.pop().ok_or(Full)?;
        let record: [u64; WORDS] = zerocopy::transmute!(Record { key: *key, vip: *vip });
        // Whoever sees a word of it then also sees that the index names the cell no more.
        fence(Release);
        for (word, value) in cells.cell(number).ok_or(Full)?.iter().zip(record) {
            word.store(value, Relaxed);
        }
        word.store(u64::from(place.tag) << 32 | u64::from(number), Release);
        self.left.extend(former.map(|(_, number, _)| number));
        Ok(())
    }

    /// Removes an entry. Returns whether it was there.
    pub fn remove(&mut self, cells: Cells, key: &VipKey) -> bool {
        let Some((word, number, _)) = cells.find(key) else { return false };
        word.store(FREED, Release);
        self.left.push(number);
        // What is freed at the end is no part of the index any more, or look-ups would read over it for ever.
        let ways = cells.cell(cells.place(key).cell).into_iter().flatten().rev();
        for word in ways.skip_while(|word| word.load(Relaxed) == 0).take_while(|word| word.load(Relaxed) == FREED) {
            word.store(0, Relaxed);
        }
        true
    }
}

/// A word of the index for a new entry, unless another entry in the same place has the same tag.
fn vacant(cells: Cells<'_>, place: Place) -> Option<&AtomicU64> {
    let cell = cells.cell(place.cell)?;
    if cell.iter().any(|word| (word.load(Relaxed) >> 32) as u32 == place.tag) {
        return None;
    }
    cell.iter().find(|word| word.load(Relaxed) as u32 == 0)
}

/// The words of a table of so many cells that has these entries.
///
/// # Errors
/// [`Full`]
pub fn image(entries: &BTreeMap<VipKey, Vip>, cells: u32) -> Result<Vec<u64>, Full> {
    let words: Vec<AtomicU64> = (0..cells as usize * WORDS).map(|_| AtomicU64::new(0)).collect();
    let table = Cells::new(&words);
    let mut writer = Writer::of(table);
    entries.iter().try_for_each(|(key, vip)| writer.set(table, key, vip, || {}))?;
    Ok(words.into_iter().map(AtomicU64::into_inner).collect())
}

#[cfg(test)]
mod tests;
