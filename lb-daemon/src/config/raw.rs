//! The document as tables and typed values, each with its place in the text.
//!
//! Serde would stop at the first unknown key or wrong type. A `Section` complains about each and reads on, so that one
//! run shows all that is wrong; what is missing or refused reads as absent.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use toml::de::{DeString, DeTable, DeValue};

use super::{
    diagnostic::{Code, Complaint},
    place::{At, Spanned},
    schema::{Schema, either, nearest},
};
use crate::config::quantity::Wrong;

mod types;

/// Complaints kept about a list in a file of its own: of a file in a wrong form each of a million lines is wrong.
const MAX_OF_LIST: usize = 20;

/// A value of the document and its place.
pub(super) type Value<'a> = Spanned<&'a DeValue<'a>>;

/// Where complaints are collected. All sections share it, so it borrows at run time; no borrow outlives `push`.
#[derive(Debug)]
pub(super) struct Complaints {
    collected: RefCell<Collected>,
    /// Number of the first text that is a list.
    lists: Cell<usize>,
}

impl Default for Complaints {
    /// None as yet, and no lists.
    fn default() -> Self {
        Self { collected: RefCell::default(), lists: Cell::new(usize::MAX) }
    }
}

#[derive(Debug, Default)]
struct Collected {
    kept: Vec<Complaint>,
    /// How many there were about each list.
    of_list: BTreeMap<usize, usize>,
}

impl Complaints {
    /// Texts are lists from that number on.
    pub(super) fn lists_from(&self, number: usize) {
        self.lists.set(number);
    }

    pub(super) fn push(&self, complaint: Complaint) {
        let mut collected = self.collected.borrow_mut();
        if complaint.at.text >= self.lists.get() {
            let count = collected.of_list.entry(complaint.at.text).or_default();
            *count += 1;
            if *count == MAX_OF_LIST + 1 {
                let more = Complaint::new(Code::InvalidValue, complaint.at, "more is wrong in this file, from here on");
                let hint = format!("mend the first {MAX_OF_LIST} complaints about it; the others may be of their kind");
                return collected.kept.push(more.hint(hint));
            } else if *count > MAX_OF_LIST {
                return;
            }
        }
        collected.kept.push(complaint);
    }

    pub(super) fn into_vec(self) -> Vec<Complaint> {
        self.collected.into_inner().kept
    }
}

/// A table of the document; one that is absent reads as empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    table: Option<&'a DeTable<'a>>,
    /// What holds where the table has no such key, the nearest first.
    under: [Option<Layer<'a>>; 2],
    schema: &'static Schema,
    at: At,
    complaints: &'a Complaints,
}

/// A table of the text of that number.
#[derive(Clone, Copy, Debug)]
struct Layer<'a> {
    table: &'a DeTable<'a>,
    text: usize,
}

impl<'a> Section<'a> {
    /// A table, of which keys that are not `schema`'s are refused.
    pub(super) fn new(table: &'a DeTable<'a>, schema: &'static Schema, at: At, complaints: &'a Complaints) -> Self {
        let section = Self { table: Some(table), under: [None; 2], schema, at, complaints };
        table.iter().for_each(|(key, _)| section.know(place(at.text, key), key.get_ref()));
        section
    }

    /// Where the table is, or its header.
    pub(super) fn span(&self) -> At {
        self.at
    }

    /// Adds a complaint.
    pub(super) fn complain(&self, complaint: Complaint) {
        self.complaints.push(complaint);
    }

    /// Whether the table is there at all.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The section with what `other` has where it has nothing, behind what was put there before.
    pub(super) fn over(mut self, other: &Self) -> Self {
        let free = self.under.iter_mut().find(|layer| layer.is_none());
        if let (Some(free), Some(table)) = (free, other.table) {
            *free = Some(Layer { table, text: other.at.text });
        }
        self
    }

    /// How far below the table the value of a key was found; 0 is the table itself.
    pub(super) fn depth(&self, key: &'static str) -> Option<usize> {
        self.layers().position(|layer| layer.is_some_and(|layer| layer.table.contains_key(key)))
    }

    fn layers(&self) -> impl Iterator<Item = Option<Layer<'a>>> {
        let own = self.table.map(|table| Layer { table, text: self.at.text });
        std::iter::once(own).chain(self.under)
    }

    /// The key and value, if given.
    pub(super) fn entry(&self, key: &'static str) -> Option<(Spanned<&'a str>, Value<'a>)> {
        debug_assert!(self.schema.keys.contains(&key), "{key} is missing in the schema of {}", self.schema.title);
        self.layers().flatten().find_map(|Layer { table, text }| {
            let (key, value) = table.get_key_value(key)?;
            Some((Spanned::new(place(text, key), key.get_ref().as_ref()), value_of(text, value)))
        })
    }

    /// Complains if `key` is absent.
    pub(super) fn require(&self, key: &'static str, hint: &str) {
        if self.entry(key).is_none() {
            let complaint = Complaint::new(Code::MissingKey, self.span(), format!("`{key}` is missing"));
            self.complain(complaint.label(format!("{} needs it", self.schema.title)).hint(hint));
        }
    }

    /// A table that is not there, in whose place something is.
    pub(super) fn absent(&self, schema: &'static Schema, at: At) -> Self {
        Self { table: None, under: [None; 2], schema, at, complaints: self.complaints }
    }

    /// A table under `key`.
    pub(super) fn child(&self, key: &'static str, schema: &'static Schema) -> Self {
        let absent = self.absent(schema, self.at);
        let Some((_, value)) = self.entry(key) else { return absent };
        self.table_of(key, value, schema).unwrap_or(absent)
    }

    /// The tables of an array under `key`.
    pub(super) fn children(&self, key: &'static str, schema: &'static Schema) -> Vec<Self> {
        let Some((_, value)) = self.entry(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let hint = match value.get_ref() {
                DeValue::Table(_) if schema.title.starts_with('[') => {
                    format!("write double brackets: {}", schema.title)
                }
                _ => format!("give `{key}` tables in brackets: {key} = [{{ ... }}, {{ ... }}]"),
            };
            self.mistyped(key, value, "an array of tables", hint);
            return Vec::new();
        };
        let text = value.span().text;
        array.iter().filter_map(|value| self.table_of(key, value_of(text, value), schema)).collect()
    }

    /// The named tables of a table under `key`, whose names the file chooses.
    pub(super) fn members(&self, key: &'static str, schema: &'static Schema) -> Vec<(Spanned<&'a str>, Self)> {
        let Some((_, value)) = self.entry(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table");
            return Vec::new();
        };
        let text = value.span().text;
        let member = |(name, value): (&'a toml::Spanned<DeString<'a>>, &'a toml::Spanned<DeValue<'a>>)| {
            let section = self.table_of(name.get_ref(), value_of(text, value), schema)?;
            Some((Spanned::new(place(text, name), name.get_ref().as_ref()), section))
        };
        table.iter().filter_map(member).collect()
    }

    /// The named strings of a table under `key`, whose names the file chooses.
    pub(super) fn strings(&self, key: &'static str) -> Vec<(Spanned<&'a str>, Spanned<&'a str>)> {
        let Some((_, value)) = self.entry(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.mistyped(key, value, "a table", format!("give `{key}` names and strings: {{ NAME = \"value\" }}"));
            return Vec::new();
        };
        let text = value.span().text;
        let named = |(name, value): (&'a toml::Spanned<DeString<'a>>, &'a toml::Spanned<DeValue<'a>>)| {
            let value = self.string_of(key, value_of(text, value))?;
            Some((Spanned::new(place(text, name), name.get_ref().as_ref()), value))
        };
        table.iter().filter_map(named).collect()
    }

    /// The elements of an array under `key`.
    pub(super) fn array(&self, key: &'static str) -> Vec<Value<'a>> {
        let Some((_, value)) = self.entry(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "an array");
            return Vec::new();
        };
        let text = value.span().text;
        array.iter().map(|value| value_of(text, value)).collect()
    }

    /// A string under `key`.
    pub(super) fn string(&self, key: &'static str) -> Option<Spanned<&'a str>> {
        self.string_of(key, self.entry(key)?.1)
    }

    /// `value`, an element of `key`, as a string.
    pub(super) fn string_of(&self, key: &str, value: Value<'a>) -> Option<Spanned<&'a str>> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "a string");
        }
        Some(Spanned::new(value.span(), text?))
    }

    /// As [`Section::parsed`], for a quantity: of a number without quotes it says that `unit` belongs to it.
    pub(super) fn quantity<T>(
        &self,
        key: &'static str,
        unit: &str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Spanned<T>> {
        let (_, value) = self.entry(key)?;
        if let Some(number) = value.get_ref().as_integer()
            && number.as_str().bytes().all(|digit| digit.is_ascii_digit())
        {
            self.mistyped(key, value, "a string", format!("write \"{number}{unit}\""));
            return None;
        }
        if value.get_ref().as_float().is_some() {
            let hint = format!("write a whole number with its unit in quotes, such as \"5{unit}\"");
            self.mistyped(key, value, "a string", hint);
            return None;
        }
        self.parsed(key, parse)
    }

    /// A string under `key` that `parse` understands.
    pub(super) fn parsed<T>(&self, key: &'static str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<Spanned<T>> {
        let text = self.string(key)?;
        match parse(text.get_ref()) {
            Ok(value) => Some(Spanned::new(text.span(), value)),
            Err(wrong) => {
                self.invalid(key, text.span(), wrong);
                None
            }
        }
    }

    /// A boolean under `key`.
    pub(super) fn boolean(&self, key: &'static str) -> Option<Spanned<bool>> {
        let (_, value) = self.entry(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        Some(Spanned::new(value.span(), boolean?))
    }

    /// An integer under `key` within `range`.
    pub(super) fn integer(&self, key: &'static str, range: &std::ops::RangeInclusive<u64>) -> Option<Spanned<u64>> {
        let (_, value) = self.entry(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "an integer");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = range.clone().into_inner();
            let complaint = Complaint::new(Code::OutOfRange, value.span(), format!("`{key}` is out of range"));
            let hint = format!("give `{key}` a value from {low} to {high}");
            self.complain(complaint.label(format!("not from {low} to {high}")).hint(hint));
        }
        Some(Spanned::new(value.span(), number?))
    }

    /// One of a few words under `key`; with them is what they mean.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, meanings: &[(&'static str, T)]) -> Option<T> {
        let (_, value) = self.entry(key)?;
        if value.get_ref().as_str().is_none() {
            let words = either(meanings.iter().map(|(word, _)| *word));
            self.mistyped(key, value, &words, format!("use {words}"));
            return None;
        }
        let text = self.string(key)?;
        let found = meanings.iter().find(|(word, _)| word == text.get_ref());
        if found.is_none() {
            let words = || meanings.iter().map(|(word, _)| *word);
            let complaint = Complaint::new(Code::InvalidValue, text.span(), format!("`{key}` is invalid"));
            let hint = match nearest(text.get_ref(), words()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("use {}", either(words())),
            };
            self.complain(complaint.label(format!("not {}", either(words()))).hint(hint));
        }
        found.map(|(_, value)| *value)
    }

    /// Complains that a value of `key` means nothing.
    pub(super) fn invalid(&self, key: &str, span: At, wrong: Wrong) {
        let complaint = Complaint::new(Code::InvalidValue, span, format!("`{key}` is invalid"));
        self.complain(complaint.label(wrong.label).hint(wrong.hint));
    }

    fn table_of(&self, key: &str, value: Value<'a>, schema: &'static Schema) -> Option<Self> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let hint = if schema.title.starts_with('[') { schema.title } else { "{ ... }" };
            self.mistyped(key, value, "a table", format!("give `{key}` a table: {hint}"));
        }
        Some(Self::new(table?, schema, value.span(), self.complaints))
    }

    /// Complains if `key` is not one of the schema's.
    fn know(&self, at: At, word: &str) {
        let Schema { title, keys } = self.schema;
        if keys.contains(&word) {
            return;
        }
        let elsewhere = || super::schema::ALL.iter().find(|schema| schema.keys.contains(&word));
        let hint = match (nearest(word, keys.iter().copied()), elsewhere()) {
            (Some(meant), _) => format!("did you mean `{meant}`?"),
            (None, Some(schema)) => format!("`{word}` is a key of {}", schema.title),
            (None, None) => format!("the keys of {title} are {}", keys.join(", ")),
        };
        let complaint = Complaint::new(Code::UnknownKey, at, format!("unknown key `{word}`"));
        self.complain(complaint.label(format!("not a key of {title}")).hint(hint));
    }
}

/// Where in the text of that number.
fn place<T>(text: usize, spanned: &toml::Spanned<T>) -> At {
    At::new(text, &spanned.span())
}

fn value_of<'a>(text: usize, value: &'a toml::Spanned<DeValue<'a>>) -> Value<'a> {
    Spanned::new(place(text, value), value.get_ref())
}
