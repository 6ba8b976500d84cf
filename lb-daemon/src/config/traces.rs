//! What files looked like when they were read, to see later whether they changed since.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::source::matching_files;

/// Every file that was asked for, also in vain, and what each pattern matched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    files: BTreeMap<PathBuf, Option<Trace>>,
    patterns: BTreeMap<String, Vec<PathBuf>>,
}

/// What changes when a file is written, replaced, or made readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trace {
    device: u64,
    inode: u64,
    bytes: u64,
    /// The time of the last change of contents or rights, which nobody can set; seconds, and nanoseconds of the next.
    changed: (i64, i64),
}

impl Traces {
    /// The same files as they are now. Reads no contents.
    #[must_use]
    pub fn now(&self) -> Self {
        let files = self.files.keys().map(|path| (path.clone(), fs::metadata(path).ok().as_ref().map(Trace::of)));
        let patterns = self.patterns.keys().map(|pattern| {
            let mut found = matching_files(pattern).unwrap_or_default();
            found.sort();
            (pattern.clone(), found)
        });
        Self { files: files.collect(), patterns: patterns.collect() }
    }

    /// Notes a file, before it is read.
    pub(super) fn file(&mut self, path: &Path, about: Option<&Metadata>) {
        self.files.insert(path.to_owned(), about.map(Trace::of));
    }

    /// Notes what a pattern matched.
    pub(super) fn pattern(&mut self, pattern: &str, found: &[PathBuf]) {
        let mut found = found.to_vec();
        found.sort();
        self.patterns.insert(pattern.to_owned(), found);
    }
}

impl Trace {
    fn of(about: &Metadata) -> Self {
        let changed = (about.ctime(), about.ctime_nsec());
        Self { device: about.dev(), inode: about.ino(), bytes: about.size(), changed }
    }
}
