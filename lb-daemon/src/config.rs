//! From the text of a configuration to a valid [`Config`], or to all that is wrong with it.
//!
//! text → TOML document → `raw` (typed, places kept, every unknown key refused) → `validate` (ranges, references,
//! duplicates) → [`crate::model`]. Each stage complains and goes on, so that one run shows everything. Long lists may lie
//! in files of their own, which `lists` reads.

use std::{io, path::Path, sync::Arc};

use toml::de::DeTable;

mod bundle;
pub mod diagnostic;
mod lists;
mod place;
mod prefix;
mod quantity;
mod raw;
mod schema;
mod source;
mod syntax;
mod validate;

#[cfg(test)]
mod tests;

pub use self::{
    bundle::{Bundle, Reading},
    diagnostic::{Diagnostic, Diagnostics},
};
use self::{
    diagnostic::{Code, Complaint},
    lists::Lists,
    place::{At, Text},
    raw::{Complaints, Section},
    source::{Fault, Source},
};
use crate::model::Config;

/// `[api] socket` where the file names none.
pub const DEFAULT_API_SOCKET: &str = "/run/lb/lb.sock";

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

/// Reads and validates a file and all that it names.
///
/// # Errors
/// When the file cannot be read or is invalid.
pub fn load(path: &Path) -> Result<(Bundle, Config), LoadError> {
    let read = Bundle::read(path).map_err(|source| LoadError::Read { file: path.display().to_string(), source });
    let Reading { bundle, checked } = read?;
    let config = checked.config.ok_or(LoadError::Invalid(checked.diagnostics))?;
    Ok((bundle, config))
}

/// Validates a text that names no other file; `file` is its name in messages.
///
/// # Errors
/// With every complaint, when the text is invalid.
pub fn parse(text: &str, file: &str) -> Result<Config, Diagnostics> {
    let checked = Bundle::of(file, text).check();
    checked.config.ok_or(checked.diagnostics)
}

/// Validates the main file's text, with those of other files from `source`.
fn check(main: &Path, text: Result<Arc<str>, Fault>, source: &dyn Source) -> Checked {
    let name = main.display().to_string();
    let refused = |text: Arc<str>, complaint: Complaint| {
        let diagnostics = Diagnostics::new(vec![Text { name: name.clone(), text }], vec![complaint]);
        Checked { config: None, diagnostics }
    };
    let text = match text {
        Ok(text) => text,
        Err(Fault::NotUtf8 { lossy, valid }) => return refused(lossy, syntax::not_utf8(At::byte(0, valid))),
        Err(fault) => {
            let complaint = Complaint::new(Code::UnreadableFile, 0..0, "there is no main file");
            return refused("".into(), complaint.label(fault.to_string()).hint("name a main file that is there"));
        }
    };
    // Columns count without the byte order mark that some editors write.
    let text = text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), Into::into);
    let (document, errors) = DeTable::parse_recoverable(&text);
    let whole = Text { name, text: text.clone() };
    if !errors.is_empty() {
        let complaints = syntax::complaints(&text, &errors);
        return Checked { config: None, diagnostics: Diagnostics::new(vec![whole], complaints) };
    }
    let complaints = Complaints::default();
    // A complaint about the file as a whole shows its first line.
    let first_line = 0..text.lines().next().map_or(0, str::len);
    let root = Section::new(document.get_ref(), &schema::ROOT, &first_line, &complaints);
    let lists = Lists::new(whole, main.parent().unwrap_or(Path::new("")), source);
    let config = validate::config(&root, &lists);
    let diagnostics = Diagnostics::new(lists.into_texts(), complaints.into_vec());
    Checked { config: (!diagnostics.has_errors()).then_some(config), diagnostics }
}
