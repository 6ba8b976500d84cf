//! A configuration as texts: the main file and every file that it names, as they were at one moment.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    Checked, LoadError, check,
    source::{Disk, Fault, Source},
    traces::Traces,
};
use crate::model::Config;

/// A configuration as texts. It holds all that decides what is served, so it can be sent, kept and checked elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The main file's name; those of other files that it names are relative to its folder.
    #[schema(value_type = String)]
    pub main: PathBuf,
    /// What each file says, the main one among them. A name is the main file's folder and what names the file, joined.
    #[schema(value_type = BTreeMap<String, String>)]
    pub files: BTreeMap<PathBuf, Arc<str>>,
}

/// What reading a configuration came to.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The texts that could be read.
    pub bundle: Bundle,
    /// What they were found to be, and why others could not be read. If all could, [`Bundle::check`] finds the same.
    pub checked: Checked,
    /// What all files looked like that were asked for.
    pub traces: Traces,
}

impl Reading {
    /// What was read, if it is a valid configuration.
    ///
    /// # Errors
    /// With every complaint, if it is not.
    pub fn valid(self) -> Result<(Bundle, Config), LoadError> {
        let config = self.checked.config.ok_or(LoadError::Invalid(self.checked.diagnostics))?;
        Ok((self.bundle, config))
    }
}

impl Bundle {
    /// A configuration of one file.
    pub fn of(main: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> Self {
        let main = main.into();
        Self { files: BTreeMap::from([(main.clone(), text.into())]), main }
    }

    /// Reads a file and all that it names, and validates them on the way.
    ///
    /// # Errors
    /// When the file itself cannot be read. Others that cannot are among the complaints.
    pub fn read(main: &Path) -> io::Result<Reading> {
        let disk = Disk::default();
        let text = match disk.main(main) {
            Err(Fault::Unreadable(error)) => return Err(error),
            text => text,
        };
        let checked = check(main, text, &disk);
        let (files, traces) = disk.into_texts();
        Ok(Reading { bundle: Self { main: main.to_owned(), files }, checked, traces })
    }

    /// Validates the texts; no file is read. A file that they name and that is not among them is complained about.
    pub fn check(&self) -> Checked {
        check(&self.main, Source::text(self, &self.main), self)
    }

    /// What it says, in hexadecimal digits: the same for the same texts in another folder, another one for any others.
    pub fn digest(&self) -> String {
        let folder = self.main.parent().unwrap_or(Path::new(""));
        let mut hash = Sha256::new();
        // The main file first, whatever its name; lengths keep names and texts apart.
        let others = self.files.iter().filter(|(name, _)| **name != self.main);
        let main = self.files.get(&self.main).map(|text| (Path::new(""), text));
        let others = others.map(|(name, text)| (name.strip_prefix(folder).unwrap_or(name), text));
        for (name, text) in main.into_iter().chain(others) {
            for part in [name.as_os_str().as_encoded_bytes(), text.as_bytes()] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        hash.finalize().iter().fold(String::new(), |mut digits, byte| {
            // Writing to a string cannot fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        })
    }
}
