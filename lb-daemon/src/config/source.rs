//! Where the texts of a configuration come from: the disk, or a [`super::Bundle`] that was read before.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use glob::{MatchOptions, Pattern};

use super::{Bundle, traces::Traces};
use crate::privileges::{self, Denied};

/// Largest file that is read, in bytes: ten times what thousands of VIPs take, and a million source routes.
const LARGEST_FILE: u64 = 64 << 20;
/// Most that is read for one configuration, in bytes.
const LARGEST_BUNDLE: u64 = 256 << 20;

/// How patterns match: `*` stops at a slash, and does not match a dot at the start, as in a shell.
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
/// The byte order mark that some editors write.
const MARK: char = '\u{feff}';

/// What a file says.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) text: Arc<str>,
    /// If it is not UTF-8: up to which byte it is, and the text is the file's.
    pub(super) valid: Option<usize>,
}

/// Why there is no text.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The bundle lacks it.
    Lacking,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::Lacking => f.write_str("not among the files that came with the configuration"),
        }
    }
}

impl Fault {
    /// What would mend it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(error) => Denied::of(error).map_or(
                "give the path of a readable text file; a relative one begins at the main file's folder",
                Denied::remedy,
            ),
            Self::Lacking => "send it along, or read the configuration where its files are",
        }
    }
}

impl Found {
    /// Of the bytes of a file.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self { text: text.into(), valid: None },
            Err(error) => {
                let valid = Some(error.utf8_error().valid_up_to());
                Self { text: String::from_utf8_lossy(error.as_bytes()).into(), valid }
            }
        }
    }

    /// Without the byte order mark, with which no place counts.
    pub(super) fn unmarked(self) -> Self {
        match self.text.strip_prefix(MARK) {
            None => self,
            Some(rest) => Self { text: rest.into(), valid: self.valid.map(|at| at.saturating_sub(MARK.len_utf8())) },
        }
    }
}

/// Hands out texts by name.
pub(super) trait Source {
    /// The text of a file that the configuration names.
    fn text(&self, path: &Path) -> Result<Found, Fault>;

    /// The files that a pattern matches, in no order.
    fn matches(&self, pattern: &Pattern) -> Result<Vec<PathBuf>, Fault>;
}

impl Source for Bundle {
    fn text(&self, path: &Path) -> Result<Found, Fault> {
        self.files.get(path).map(|text| Found { text: text.clone(), valid: None }).ok_or(Fault::Lacking)
    }

    fn matches(&self, pattern: &Pattern) -> Result<Vec<PathBuf>, Fault> {
        let matching = |path: &&PathBuf| pattern.matches_path_with(path, MATCHING);
        Ok(self.files.keys().filter(matching).cloned().collect())
    }
}

/// Files as they are, remembered as they were read.
#[derive(Debug)]
pub(super) struct Disk {
    texts: RefCell<BTreeMap<PathBuf, Arc<str>>>,
    traces: RefCell<Traces>,
    /// Bytes that may still be read.
    left: Cell<u64>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { texts: RefCell::default(), traces: RefCell::default(), left: Cell::new(LARGEST_BUNDLE) }
    }
}

impl Disk {
    /// The text of the main file, which may come out of a pipe.
    pub(super) fn main(&self, path: &Path) -> Result<Found, Fault> {
        if let Some(text) = self.texts.borrow().get(path) {
            return Ok(Found { text: text.clone(), valid: None });
        }
        let found = Found::of(self.bytes(path).map_err(Fault::Unreadable)?);
        if found.valid.is_none() {
            self.texts.borrow_mut().insert(path.to_owned(), found.text.clone());
        }
        Ok(found)
    }

    /// What was read, and the traces of all that was asked for.
    pub(super) fn into_texts(self) -> (BTreeMap<PathBuf, Arc<str>>, Traces) {
        (self.texts.into_inner(), self.traces.into_inner())
    }

    /// The bytes of a file, if they are not too many: a device may have no end.
    fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let most = LARGEST_FILE.min(self.left.get());
        let mut bytes = Vec::new();
        let file = fs::File::open(path);
        let about = file.as_ref().map_or_else(|_| fs::metadata(path), fs::File::metadata);
        self.traces.borrow_mut().file(path, about.ok().as_ref());
        let file = file.map_err(|error| privileges::explain(path, error))?;
        file.take(most + 1).read_to_end(&mut bytes)?;
        let length = bytes.len() as u64;
        if length > LARGEST_FILE {
            let why = format!("larger than {} MiB", LARGEST_FILE >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        } else if length > most {
            let why = format!("all files together are larger than {} MiB", LARGEST_BUNDLE >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        self.left.set(self.left.get() - length);
        Ok(bytes)
    }
}

impl Source for Disk {
    fn text(&self, path: &Path) -> Result<Found, Fault> {
        // Nobody may ever write to it, and then nobody would hear why nothing happens.
        if let Ok(about) = fs::metadata(path)
            && about.file_type().is_fifo()
        {
            self.traces.borrow_mut().file(path, Some(&about));
            return Err(Fault::Unreadable(io::Error::new(io::ErrorKind::InvalidInput, "a pipe, not a file")));
        }
        self.main(path)
    }

    fn matches(&self, pattern: &Pattern) -> Result<Vec<PathBuf>, Fault> {
        let found = matching_files(pattern.as_str());
        self.traces.borrow_mut().pattern(pattern.as_str(), found.as_deref().unwrap_or_default());
        found.map_err(Fault::Unreadable)
    }
}

/// The files on disk that a pattern matches, in no order.
pub(super) fn matching_files(pattern: &str) -> io::Result<Vec<PathBuf>> {
    let paths = glob::glob_with(pattern, MATCHING);
    let paths = paths.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let explain = |error: glob::GlobError| {
        let path = error.path().to_owned();
        privileges::explain(&path, error.into())
    };
    paths.map(|path| path.map_err(explain)).collect()
}
