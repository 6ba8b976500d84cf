//! From the text of a configuration to a valid [`Config`], or to all that is wrong with it.
//!
//! text → TOML document → `raw` (typed, places kept, every unknown key refused) → `validate` (ranges, references,
//! duplicates) → [`crate::model`]. Each stage complains and goes on, so that one run shows everything. Long lists may lie
//! in files of their own, which `lists` reads.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use toml::de::DeTable;

pub mod diagnostic;
mod lists;
mod place;
mod prefix;
mod quantity;
mod raw;
mod schema;
mod syntax;
mod validate;

#[cfg(test)]
mod tests;

pub use self::diagnostic::{Diagnostic, Diagnostics};
use self::{
    lists::Lists,
    place::{At, Text},
    raw::{Complaints, Section},
};
use crate::model::Config;

/// `[api] socket` where the file names none.
pub const DEFAULT_API_SOCKET: &str = "/run/lb/lb.sock";

/// Largest file that is read, in bytes: ten times what thousands of VIPs take, and a million source routes.
const LARGEST_FILE: u64 = 64 << 20;

/// What a file was found to be.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The configuration, if it is valid.
    pub config: Option<Config>,
    /// What there is to say about it: errors, or the warnings of a valid one.
    pub diagnostics: Diagnostics,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read config {file}")]
    Read {
        /// Its name.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its contents are refused.
    #[error("{0}")]
    Invalid(Diagnostics),
}

/// Reads and validates a file.
///
/// # Errors
/// When the file cannot be read or is invalid.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let checked = read(path).map_err(|source| LoadError::Read { file: path.display().to_string(), source })?;
    checked.config.ok_or(LoadError::Invalid(checked.diagnostics))
}

/// Validates a text; `file` is its name in messages. Files that it names are read, from the folder of `file` on.
///
/// # Errors
/// With every complaint, when the text is invalid.
pub fn parse(text: &str, file: &str) -> Result<Config, Diagnostics> {
    let checked = check(text, file, &contents);
    checked.config.ok_or(checked.diagnostics)
}

/// The bytes of a file, if they are not too many: a device may have no end.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} MiB", LARGEST_FILE >> 20)));
    }
    Ok(bytes)
}

/// As [`load`], with the warnings of a valid file.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> io::Result<Checked> {
    let file = path.display().to_string();
    let bytes = contents(path)?;
    Ok(match str::from_utf8(&bytes) {
        Ok(text) => check(text, &file, &contents),
        Err(error) => {
            // Up to the first wrong byte the lossy text is the same as the file.
            let text = Text { name: file, text: String::from_utf8_lossy(&bytes).into() };
            let complaints = vec![syntax::not_utf8(At::byte(0, error.valid_up_to()))];
            Checked { config: None, diagnostics: Diagnostics::new(vec![text], complaints) }
        }
    })
}

/// As [`parse`], with the warnings of a valid text, and with files read by `read`.
fn check(text: &str, file: &str, read: lists::Read<'_>) -> Checked {
    // Columns count without the byte order mark that some editors write.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let whole = Text { name: file.to_owned(), text: text.into() };
    if !errors.is_empty() {
        let complaints = syntax::complaints(text, &errors);
        return Checked { config: None, diagnostics: Diagnostics::new(vec![whole], complaints) };
    }
    let complaints = Complaints::default();
    // A complaint about the file as a whole shows its first line.
    let first_line = 0..text.lines().next().map_or(0, str::len);
    let root = Section::new(document.get_ref(), &schema::ROOT, &first_line, &complaints);
    let lists = Lists::new(whole, read);
    let config = validate::config(&root, &lists);
    let diagnostics = Diagnostics::new(lists.into_texts(), complaints.into_vec());
    Checked { config: (!diagnostics.has_errors()).then_some(config), diagnostics }
}
