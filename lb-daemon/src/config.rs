//! From the text of a configuration to a valid [`Config`], or to all that is wrong with it.
//!
//! text → TOML document → [`raw`] (typed, places kept, every unknown key refused) → [`validate`] (ranges, references,
//! duplicates) → [`crate::model`]. Each stage complains and goes on, so that one run shows everything.

use std::{fs, io, ops::Range, path::Path};

use toml::de::DeTable;

pub mod diagnostic;
mod quantity;
mod raw;
mod schema;
mod validate;

use self::{
    diagnostic::{Code, Complaint},
    raw::{Complaints, Section},
};
pub use self::diagnostic::{Diagnostic, Diagnostics};
use crate::model::Config;

/// `[api] socket` where the file names none.
pub const DEFAULT_API_SOCKET: &str = "/run/lb/lb.sock";

/// Syntax errors shown of one file: what follows the first ones is mostly their consequence.
const MAX_SYNTAX_ERRORS: usize = 10;

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

/// Validates a text; `file` is its name in messages.
///
/// # Errors
/// With every complaint, when the text is invalid.
pub fn parse(text: &str, file: &str) -> Result<Config, Diagnostics> {
    let checked = check(text, file);
    checked.config.ok_or(checked.diagnostics)
}

/// As [`load`], with the warnings of a valid file.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> io::Result<Checked> {
    let file = path.display().to_string();
    let bytes = fs::read(path)?;
    Ok(match str::from_utf8(&bytes) {
        Ok(text) => check(text, &file),
        Err(error) => not_utf8(&bytes, error.valid_up_to(), &file),
    })
}

/// As [`parse`], with the warnings of a valid text.
pub fn check(text: &str, file: &str) -> Checked {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let complaints = errors.iter().take(MAX_SYNTAX_ERRORS).map(|error| syntax(text, error)).collect();
        return Checked { config: None, diagnostics: Diagnostics::new(file, text, complaints) };
    }
    let complaints = Complaints::default();
    // A complaint about the file as a whole shows its first line.
    let first_line = 0..text.lines().next().map_or(0, str::len);
    let root = Section::new(document.get_ref(), &schema::ROOT, &first_line, &complaints);
    let config = validate::config(&root);
    let diagnostics = Diagnostics::new(file, text, complaints.into_vec());
    Checked { config: (!diagnostics.has_errors()).then_some(config), diagnostics }
}

fn syntax(text: &str, error: &toml::de::Error) -> Complaint {
    let span = error.span().unwrap_or(text.len()..text.len());
    let message = error.message();
    match message.split_once(", expected ") {
        Some((what, expected)) => Complaint::new(Code::Syntax, span, what).label(format!("expected {expected}")),
        None => Complaint::new(Code::Syntax, span, message),
    }
    .hint(syntax_hint(message))
}

/// What mends the commonest slips.
fn syntax_hint(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "give each key and each [table] once; further VIPs are further [[vip]]"
    } else {
        "strings stand in double quotes; see https://toml.io for the syntax"
    }
}

/// The complaint about a file that is not text, with the line up to the first wrong byte.
fn not_utf8(bytes: &[u8], valid: usize, file: &str) -> Checked {
    let text = String::from_utf8_lossy(bytes);
    // Up to the first wrong byte the lossy text is the same; the replacement there is one character.
    let span: Range<usize> = valid..valid;
    let complaint = Complaint::new(Code::NotUtf8, span, "the file is not UTF-8 text")
        .label("this byte is in another encoding")
        .hint("save the file as UTF-8");
    Checked { config: None, diagnostics: Diagnostics::new(file, &text, vec![complaint]) }
}
