//! From the text of a configuration to a valid [`Config`], or to all that is wrong with it.
//!
//! text → TOML document → `raw` (typed, places kept, every unknown key refused) → `validate` (ranges, references,
//! duplicates) → [`crate::model`]. Each stage complains and goes on, so that one run shows everything. Pools and VIPs may lie
//! in files of their own (`include`), long lists too (`lists`). All texts together are a [`Bundle`].

use std::{io, path::Path, sync::Arc, time::Duration};

use toml::de::DeTable;

mod authorities;
mod bundle;
pub mod diagnostic;
mod include;
mod lists;
mod place;
mod prefix;
mod quantity;
mod raw;
mod schema;
mod source;
mod syntax;
mod traces;
mod validate;

#[cfg(test)]
mod tests;

pub use self::{
    bundle::{Bundle, Reading},
    diagnostic::{Diagnostic, Diagnostics},
    traces::Traces,
};
use self::{
    diagnostic::{Code, Complaint},
    include::Documents,
    lists::Lists,
    place::{At, Text},
    quantity::Wrong,
    raw::{Complaints, Section},
    source::{Fault, Found, Source},
};
pub(crate) use self::{schema::nearest, validate::is_name};
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

/// Reads a file and all that it names, and validates them on the way.
///
/// # Errors
/// When the file itself cannot be read.
pub fn read(path: &Path) -> Result<Reading, LoadError> {
    Bundle::read(path).map_err(|source| LoadError::Read { file: path.display().to_string(), source })
}

/// Reads a duration as the file has them: `"500ms"`, `"2s"`, `"1m"`, `"1h"`.
///
/// # Errors
/// What is wrong with it, and how to write one.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text).map_err(Wrong::told)
}

/// Reads a share as the file writes it: `"5%"` is 0.05.
///
/// # Errors
/// What is wrong with it, and how to write one.
pub fn parse_share(text: &str) -> Result<f64, String> {
    quantity::share(text).map_err(Wrong::told)
}

/// Validates a text that names no other file; `file` is its name in messages.
///
/// # Errors
/// With every complaint, when the text is invalid.
pub fn parse(text: &str, file: &str) -> Result<Config, Diagnostics> {
    let checked = Bundle::of(file, text).check();
    checked.config.ok_or(checked.diagnostics)
}

/// Validates what the main file says, with what `source` has of others.
fn check(main: &Path, found: Result<Found, Fault>, source: &dyn Source) -> Checked {
    let complaints = Complaints::default();
    let name = main.display().to_string();
    let Found { text, valid } = match found {
        Ok(found) => found.unmarked(),
        Err(fault) => {
            let complaint = Complaint::new(Code::UnreadableFile, At::byte(0, 0), "there is no main file");
            complaints.push(complaint.label(fault.to_string()).hint("name a main file that is there"));
            return refused(vec![Text { name, text: "".into() }], complaints);
        }
    };
    let mut texts = vec![Text { name, text: text.clone() }];
    if let Some(valid) = valid {
        complaints.push(syntax::not_utf8(At::byte(0, valid)));
        return refused(texts, complaints);
    }
    let Some(document) = parsed(0, &text, &complaints) else { return refused(texts, complaints) };
    // A complaint about the file as a whole shows its first line.
    let first_line = At::new(0, &(0..text.lines().next().map_or(0, str::len)));
    let root = Section::new(document.get_ref(), &schema::ROOT, first_line, &complaints);
    let (included, mut whole) = include::included(&root, main, source);
    let others: Vec<Arc<str>> = included.iter().map(|included| included.text.clone()).collect();
    texts.extend(included);
    let further: Vec<_> = (1..).zip(&others).map(|(number, text)| parsed(number, text, &complaints)).collect();
    whole &= further.iter().all(Option::is_some);
    // Of what is missing everything else would be a consequence, such as pools that are not there.
    if !whole {
        return refused(texts, complaints);
    }
    complaints.lists_from(texts.len());
    let included = (1..).zip(further.iter().flatten()).map(|(number, document)| {
        Section::new(document.get_ref(), &schema::INCLUDED, At::byte(number, 0), &complaints)
    });
    let documents = Documents { main: root, included: included.collect() };
    let lists = Lists::new(texts, main.parent().unwrap_or(Path::new("")), source);
    let config = validate::config(&documents, &lists);
    let diagnostics = Diagnostics::new(lists.into_texts(), complaints.into_vec());
    Checked { config: (!diagnostics.has_errors()).then_some(config), diagnostics }
}

/// The table that a text is, if it is one.
fn parsed<'a>(number: usize, text: &'a str, complaints: &Complaints) -> Option<toml::Spanned<DeTable<'a>>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for complaint in syntax::complaints(number, text, &errors) {
        complaints.push(complaint);
    }
    errors.is_empty().then_some(document)
}

fn refused(texts: Vec<Text>, complaints: Complaints) -> Checked {
    Checked { config: None, diagnostics: Diagnostics::new(texts, complaints.into_vec()) }
}
