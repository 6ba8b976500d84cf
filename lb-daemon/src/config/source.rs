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

/// Largest file that is read, in bytes: ten times what thousands of VIPs take, and a million source routes.
const LARGEST_FILE: u64 = 64 << 20;
/// Most that is read for one configuration, in bytes.
const LARGEST_BUNDLE: u64 = 256 << 20;

/// Why there is no text.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// It is not UTF-8 from a byte on, up to which the text given here is the same.
    NotUtf8 { lossy: Arc<str>, valid: usize },
    /// The bundle lacks it.
    Lacking,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::NotUtf8 { .. } => f.write_str("not UTF-8 text"),
            Self::Lacking => f.write_str("not among the files that came with the configuration"),
        }
    }
}

/// Hands out texts by name.
pub(super) trait Source {
    /// The text of a file that the configuration names.
    fn text(&self, path: &Path) -> Result<Arc<str>, Fault>;
}

/// Files as they are, remembered as they were read.
#[derive(Debug)]
pub(super) struct Disk {
    texts: RefCell<BTreeMap<PathBuf, Arc<str>>>,
    /// Bytes that may still be read.
    left: Cell<u64>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { texts: RefCell::default(), left: Cell::new(LARGEST_BUNDLE) }
    }
}

impl Disk {
    /// The text of the main file, which may come out of a pipe.
    pub(super) fn main(&self, path: &Path) -> Result<Arc<str>, Fault> {
        if let Some(text) = self.texts.borrow().get(path) {
            return Ok(text.clone());
        }
        let text = decode(self.bytes(path).map_err(Fault::Unreadable)?)?;
        self.texts.borrow_mut().insert(path.to_owned(), text.clone());
        Ok(text)
    }

    /// What was read.
    pub(super) fn into_texts(self) -> BTreeMap<PathBuf, Arc<str>> {
        self.texts.into_inner()
    }

    /// The bytes of a file, if they are not too many: a device may have no end.
    fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let most = LARGEST_FILE.min(self.left.get());
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
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
    fn text(&self, path: &Path) -> Result<Arc<str>, Fault> {
        // Nobody may ever write to it, and then nobody would hear why nothing happens.
        if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
            return Err(Fault::Unreadable(io::Error::new(io::ErrorKind::InvalidInput, "a pipe, not a file")));
        }
        self.main(path)
    }
}

/// Bytes as the text that they should be.
pub(super) fn decode(bytes: Vec<u8>) -> Result<Arc<str>, Fault> {
    String::from_utf8(bytes).map(Into::into).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        Fault::NotUtf8 { lossy: String::from_utf8_lossy(error.as_bytes()).into(), valid }
    })
}
