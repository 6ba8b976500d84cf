//! Texts that are not TOML, or no text at all: the parser's errors as complaints.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{
    diagnostic::{Code, Complaint},
    place::At,
};

/// Errors shown of one file: what follows the first ones is mostly their consequence.
const MAX_ERRORS: usize = 10;

/// The parser's errors about the text of that number.
pub(super) fn complaints(number: usize, text: &str, errors: &[Error]) -> Vec<Complaint> {
    errors.iter().take(MAX_ERRORS).map(|error| complaint(number, text, error)).collect()
}

/// The complaint about a text that is not UTF-8 from `at` on.
pub(super) fn not_utf8(at: At) -> Complaint {
    Complaint::new(Code::NotUtf8, at, "the file is not UTF-8 text")
        .label("this byte is in another encoding")
        .hint("save the file as UTF-8")
}

fn complaint(number: usize, text: &str, error: &Error) -> Complaint {
    let span = error.span().unwrap_or(text.len()..text.len());
    let at = At::new(number, &span);
    let message = error.message();
    if message == "duplicate key" {
        let key = text.get(span.clone()).unwrap_or_default();
        let complaint = Complaint::new(Code::Duplicate, at, format!("key `{key}` is given twice"));
        let hint = "give each key and each [table] once; further VIPs are further [[vip]]";
        let complaint = complaint.label("again here").hint(hint);
        return match first(text.get(..span.start).unwrap_or_default(), key) {
            Some(first) => complaint.also(At::new(number, &first), "first here"),
            None => complaint,
        };
    }
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let hint = match what {
        "string values must be quoted" | "invalid boolean" => {
            "write true, false, a number, or a string in double quotes"
        }
        _ => "https://toml.io explains how TOML is written",
    };
    let complaint = Complaint::new(Code::Syntax, at, what).hint(hint);
    if expected.is_empty() { complaint } else { complaint.label(format!("expected {expected}")) }
}

/// The only key of this name in what stands before the second; none if there are several, since the parser does not
/// tell which one it meant.
fn first(before: &str, key: &str) -> Option<Range<usize>> {
    let (document, _) = DeTable::parse_recoverable(before);
    let mut found = Vec::new();
    places(document.get_ref(), key, &mut found);
    match found.as_slice() {
        [place] => Some(place.clone()),
        _ => None,
    }
}

/// Collects the places of all keys of this name. The parser bounds how deep tables nest.
fn places(table: &DeTable<'_>, key: &str, found: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        if name.get_ref() == key {
            found.push(name.span());
        }
        within(value, key, found);
    }
}

fn within(value: &Spanned<DeValue<'_>>, key: &str, found: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => places(table, key, found),
        DeValue::Array(array) => array.iter().for_each(|element| within(element, key, found)),
        _ => {}
    }
}
