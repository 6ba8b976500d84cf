//! The generations that are kept: a file each, the newest hundred.

use std::collections::{BTreeMap, BTreeSet};

use super::{About, Folder, Generation, StateError};

/// Generations that are kept.
const KEPT: usize = 100;
/// Those of them that may be large: with files of a million prefixes, a hundred would fill a disk.
const LARGE_KEPT: usize = 10;
/// A generation is large if its texts have more bytes.
const LARGE: u64 = 1 << 20;
/// Generations that wait in memory for a disk that can be written again.
const UNSAVED_KEPT: usize = 10;

/// The generations of one instance.
#[derive(Debug)]
pub struct Generations {
    folder: Folder,
    known: BTreeMap<u64, About>,
    /// Those that could not be written. They are tried again.
    unsaved: BTreeMap<u64, Generation>,
    /// Numbers of files that cannot be used: they are not given again.
    skipped: BTreeSet<u64>,
    /// The highest number that was ever given.
    last: u64,
    /// What is wrong with the files, a line each.
    complaints: Vec<String>,
    /// Why the last one could not be written, if so.
    failing: Option<String>,
}

impl Generations {
    /// Looks at the files in `folder`. Those that cannot be used are left alone, and complained about.
    pub fn open(folder: Folder) -> Self {
        let mut found = Self {
            folder,
            known: BTreeMap::new(),
            unsaved: BTreeMap::new(),
            skipped: BTreeSet::new(),
            last: 0,
            complaints: Vec::new(),
            failing: None,
        };
        let names = found.folder.names().unwrap_or_else(|error| {
            found.complaints.push(chain(&error));
            Vec::new()
        });
        for number in names.iter().filter_map(|name| number(name)) {
            found.last = found.last.max(number);
            match found.read(number) {
                Ok(generation) => _ = found.known.insert(number, generation.about),
                Err(error) => {
                    found.skipped.insert(number);
                    found.complaints.push(chain(&error));
                }
            }
        }
        found
    }

    /// All, oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &About> {
        self.known.values()
    }

    /// One of them.
    pub fn get(&self, number: u64) -> Option<&About> {
        self.known.get(&number)
    }

    /// The newest.
    pub fn newest(&self) -> Option<&About> {
        self.known.values().next_back()
    }

    /// The number of the next one, above all that were ever given and above `others`.
    pub fn next(&self, others: u64) -> u64 {
        self.last.max(others) + 1
    }

    /// What is wrong with the files that were found, a line each.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Why the newest ones could not be written, if so.
    pub fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }

    /// One of them with its texts.
    ///
    /// # Errors
    /// When its file cannot be read any more.
    pub fn load(&self, number: u64) -> Result<Generation, StateError> {
        self.unsaved.get(&number).map_or_else(|| self.read(number), |unsaved| Ok(unsaved.clone()))
    }

    /// Keeps a generation, in the place of one of the same number, and removes what is too much; never those of `keep`.
    /// If it cannot be written now, it is kept in memory and tried again.
    pub fn keep(&mut self, generation: Generation, keep: &[u64]) {
        let number = generation.about.number;
        self.last = self.last.max(number);
        self.known.insert(number, generation.about.clone());
        self.unsaved.insert(number, generation);
        while self.unsaved.len() > UNSAVED_KEPT {
            // It was in force, and its text is lost with it: history must not offer it.
            self.unsaved.pop_first().map(|(lost, _)| self.known.remove(&lost));
        }
        self.save();
        self.prune(keep);
    }

    /// Writes what could not be written before.
    pub fn save(&mut self) {
        while let Some((number, generation)) = self.unsaved.first_key_value() {
            match self.folder.write(&name(*number), generation, "generation") {
                Ok(()) => {
                    self.unsaved.pop_first();
                    self.failing = None;
                }
                Err(error) => {
                    self.failing = Some(chain(&error));
                    return;
                }
            }
        }
    }

    fn read(&self, number: u64) -> Result<Generation, StateError> {
        let damaged = |why: &str| StateError::Damaged { path: self.folder.path().join(name(number)), why: why.into() };
        let generation: Generation = self.folder.read(&name(number))?.ok_or_else(|| damaged("it is gone"))?;
        match &generation {
            Generation { about, .. } if about.number != number => Err(damaged("it bears another number")),
            Generation { about, bundle } if about.digest != bundle.digest() => Err(damaged("its texts are others")),
            _ => Ok(generation),
        }
    }

    fn prune(&mut self, keep: &[u64]) {
        let large = self.known.values().rev().filter(|about| about.bytes > LARGE).skip(LARGE_KEPT);
        let old = self.known.values().rev().skip(KEPT);
        let spare: BTreeSet<u64> = large.chain(old).map(|about| about.number).collect();
        let oldest = self.known.keys().find(|number| !spare.contains(number)).copied().unwrap_or_default();
        let unusable = self.skipped.iter().copied().filter(|number| *number < oldest);
        let spare: Vec<u64> = spare.iter().copied().filter(|number| !keep.contains(number)).chain(unusable).collect();
        for number in spare {
            // One that stays is found and removed after the next start.
            if self.folder.remove(&name(number)).is_ok() {
                self.known.remove(&number);
                self.skipped.remove(&number);
            }
        }
    }
}

/// Name of a generation's file.
fn name(number: u64) -> String {
    format!("{number:08}.json")
}

/// The generation whose file has this name.
fn number(file: &str) -> Option<u64> {
    let number = file.strip_suffix(".json")?.parse().ok()?;
    (name(number) == file).then_some(number)
}

/// An error and its cause on one line.
fn chain(error: &StateError) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
mod tests;
