//! A folder of files that are written whole and read with suspicion.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::latch;

/// Version of the form of the files. Files of another version are left alone.
const FORMAT: u32 = 1;
/// For the daemon alone: configurations may name what not everybody should know.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Of `state_dir` itself, if it has to be made.
const PARENT_MODE: u32 = 0o755;
/// How the names of files end that are being written.
const UNFINISHED: &str = "tmp";

/// Why something could not be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A step failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{} is damaged ({why})", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file was written by another version of lb.
    #[error("{} has format {format}, this version of lb reads {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The version of its form.
        format: u64,
    },
    /// The content has no form as JSON.
    #[error("cannot put {} into words", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What stands around the content of each file.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u32,
    checksum: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// The one thing to look at before anything else is understood.
#[derive(Deserialize)]
struct Form {
    format: u64,
}

/// A folder of the daemon's. It is made when something is first written.
#[derive(Clone, Debug)]
pub struct Folder {
    state_dir: PathBuf,
    path: PathBuf,
}

impl Folder {
    /// The folder of the instance that is pinned at `pin_path`: its name is the path with `-` for each slash.
    pub fn of(state_dir: &Path, pin_path: &Path) -> Self {
        let names = pin_path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy()),
            _ => None,
        });
        let path = state_dir.join(names.collect::<Vec<_>>().join("-"));
        Self { state_dir: state_dir.to_owned(), path }
    }

    /// A folder in this one.
    #[must_use]
    pub fn inner(&self, name: &str) -> Self {
        Self { path: self.path.join(name), ..self.clone() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, in the place of one of the same name: after a crash there is the old one or the new one. `what` is
    /// its kind, as latches name it.
    ///
    /// # Errors
    /// When it cannot be written. The old one is then still there, if there was one.
    pub fn write(&self, name: &str, content: &impl Serialize, what: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        let text = envelope(content).map_err(|source| StateError::Content { path: path.clone(), source })?;
        self.make()?;
        let fresh = self.path.join(format!("{name}.{UNFINISHED}"));
        if let Err(error) = write_through(&fresh, text.as_bytes()) {
            // On a full disk the half of a file takes space that others need. The error says what matters.
            let _ = fs::remove_file(&fresh);
            return Err(failed("write", &fresh)(error));
        }
        latch::at(&format!("{what}-temp"));
        fs::rename(&fresh, &path).map_err(failed("put in place", &path))?;
        self.sync()?;
        latch::at(&format!("{what}-written"));
        Ok(())
    }

    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or of another format.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.path.join(name);
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // Some such could be read for ever.
            Ok(found) if !found.is_file() => {
                return Err(StateError::Damaged { path, why: "it is no file".into() });
            }
            _ => fs::read(&path).map_err(failed("read", &path))?,
        };
        content(&bytes, &path).map(Some)
    }

    /// As [`Folder::read`], of a file that never has more than so many bytes.
    ///
    /// # Errors
    /// As there, and when it has more.
    pub fn read_up_to<T: DeserializeOwned>(&self, name: &str, most: u64) -> Result<Option<T>, StateError> {
        let path = self.path.join(name);
        match fs::metadata(&path) {
            Ok(found) if found.len() > most => {
                Err(StateError::Damaged { path, why: format!("it has more than {most} bytes") })
            }
            // Other errors come when it is read.
            _ => self.read(name),
        }
    }

    /// Removes a file, if it is there. After a power cut it may be back, unless [`Folder::sync`] followed.
    ///
    /// # Errors
    /// When it stays.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("remove", &path)),
        }
    }

    /// Has the disk know which files are there. Where there is no folder none can come back.
    ///
    /// # Errors
    /// When that is not sure.
    pub fn sync(&self) -> Result<(), StateError> {
        match sync(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("write", &self.path)),
        }
    }

    /// Names of the files in it, in order, without those that were never finished. None if there is no such folder.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self) -> Result<Vec<String>, StateError> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("list", &self.path))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("list", &self.path))?.path();
            if path.extension().is_none_or(|extension| extension != UNFINISHED) {
                names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    fn make(&self) -> Result<(), StateError> {
        if self.path.is_dir() {
            return Ok(());
        }
        let make = |path: &Path, mode| {
            DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("make folder", path))
        };
        make(&self.state_dir, PARENT_MODE)?;
        make(&self.path, FOLDER_MODE)?;
        // The folders' own entries must be on the disk before anything in them counts.
        for made in self.path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.state_dir)) {
            sync(made).map_err(failed("write", made))?;
        }
        Ok(())
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { what, path, source }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The text of a file with this content.
fn envelope(content: &impl Serialize) -> Result<String, serde_json::Error> {
    let content = serde_json::value::to_raw_value(content)?;
    let checksum = checksum(content.get());
    let mut text = serde_json::to_string(&Envelope { format: FORMAT, checksum, content: &content })?;
    text.push('\n');
    Ok(text)
}

/// What stands in a file, if it is what was written.
fn content<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, StateError> {
    let damaged = |why: String| StateError::Damaged { path: path.to_owned(), why };
    let unreadable = |error: serde_json::Error| damaged(error.to_string());
    let form: Form = serde_json::from_slice(bytes).map_err(unreadable)?;
    if form.format != u64::from(FORMAT) {
        return Err(StateError::Format { path: path.to_owned(), format: form.format });
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(unreadable)?;
    if envelope.checksum != checksum(envelope.content.get()) {
        return Err(damaged("its checksum is another".into()));
    }
    serde_json::from_str(envelope.content.get()).map_err(unreadable)
}

/// Against disks and editors, not against forgers: who may write here is root already.
fn checksum(content: &str) -> String {
    format!("{:08x}", crc32fast::hash(content.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

    use super::*;

    type Words = BTreeMap<String, String>;

    fn words(word: &str) -> Words {
        BTreeMap::from([("word".into(), word.into())])
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn each_pin_path_has_a_folder_for_its_daemon_alone() {
        let top = tempfile::tempdir().unwrap();
        let state_dir = top.path().join("var/lb");
        let folder = Folder::of(&state_dir, Path::new("/sys/fs/bpf/lb/"));
        assert_eq!(folder.path(), state_dir.join("sys-fs-bpf-lb"));
        assert!(folder.names().unwrap().is_empty() && !state_dir.exists(), "reading makes nothing");
        let inner = folder.inner("generations");
        inner.write("1.json", &words("a"), "word").unwrap();
        assert_eq!([mode(&state_dir), mode(folder.path()), mode(inner.path())], [0o755, 0o700, 0o700]);
        assert_eq!(mode(&inner.path().join("1.json")), 0o600);
        assert_eq!(inner.names().unwrap(), ["1.json"]);
        assert_eq!(inner.read::<Words>("1.json").unwrap(), Some(words("a")));
        inner.write("1.json", &words("b"), "word").unwrap();
        assert_eq!(inner.read::<Words>("1.json").unwrap(), Some(words("b")));
        inner.remove("1.json").unwrap();
        inner.remove("1.json").unwrap();
        assert_eq!(inner.read::<Words>("1.json").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::of(top.path(), Path::new("/lb"));
        assert_eq!(folder.read_up_to::<Words>("a.json", 10).unwrap(), None);
        folder.write("a.json", &words("a"), "word").unwrap();
        let length = fs::metadata(folder.path().join("a.json")).unwrap().len();
        assert_eq!(folder.read_up_to::<Words>("a.json", length).unwrap(), Some(words("a")));
        let error = folder.read_up_to::<Words>("a.json", length - 1).unwrap_err().to_string();
        assert!(error.ends_with(&format!("is damaged (it has more than {} bytes)", length - 1)), "{error}");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::of(top.path(), Path::new("/lb"));
        folder.write("a.json", &words("a"), "word").unwrap();
        for what in ["/dev/zero", "/"] {
            std::os::unix::fs::symlink(what, folder.path().join("b.json")).unwrap();
            let error = folder.read::<Words>("b.json").unwrap_err().to_string();
            assert!(error.ends_with("b.json is damaged (it is no file)"), "{error}");
            folder.remove("b.json").unwrap();
        }
    }

    #[test]
    fn what_was_never_finished_is_nobodys() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::of(top.path(), Path::new("/lb"));
        folder.write("a.json", &words("a"), "word").unwrap();
        fs::write(folder.path().join("b.json.tmp"), "{\"form").unwrap();
        assert_eq!(folder.names().unwrap(), ["a.json"]);
        folder.write("b.json", &words("b"), "word").unwrap();
        assert_eq!(folder.names().unwrap(), ["a.json", "b.json"]);
    }

    #[test]
    fn whatever_becomes_of_a_file_is_noticed() {
        let whole = envelope(&words("a \"quoted\" \u{fc}")).unwrap().into_bytes();
        let path = Path::new("/lb/7.json");
        let read = |bytes: &[u8]| content::<Words>(bytes, path);
        assert!(read(&whole).is_ok());
        // The last byte is the line's end.
        for length in 0..whole.len() - 1 {
            let error = read(&whole[..length]).unwrap_err();
            assert!(error.to_string().starts_with("/lb/7.json is damaged"), "{length}: {error}");
        }
        for bit in 0..(whole.len() - 1) * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}: {}", String::from_utf8_lossy(&flipped));
        }
    }

    #[test]
    fn a_file_of_another_version_is_told_from_a_damaged_one() {
        let later = br#"{"format":2,"sum":"of another kind","data":[]}"#;
        let error = content::<Words>(later, Path::new("/lb/7.json")).unwrap_err();
        assert_eq!(error.to_string(), "/lb/7.json has format 2, this version of lb reads 1");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("file"), "").unwrap();
        let folder = Folder::of(&top.path().join("file"), Path::new("/lb"));
        let error = folder.write("a.json", &words("a"), "word").unwrap_err();
        assert!(error.to_string().starts_with("cannot make folder "), "{error}");
    }
}
