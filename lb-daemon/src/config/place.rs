//! Where in which text: bytes as lines and columns.

use std::{ops::Range, sync::Arc};

use serde::Serialize;

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, as it was named, or as its folder and the configuration name it.
    pub file: String,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
    /// What is said there; may be empty.
    pub label: String,
    #[serde(skip)]
    pub(super) at: At,
}

/// Bytes of one of the texts that were read: the main file's is the first, then those that it includes, then lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) text: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl At {
    /// Before a byte of the text of that number.
    pub(super) const fn byte(text: usize, at: usize) -> Self {
        Self { text, start: at, end: at }
    }

    /// Bytes of the text of that number.
    pub(super) const fn new(text: usize, span: &Range<usize>) -> Self {
        Self { text, start: span.start, end: span.end }
    }
}

/// A value and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spanned<T> {
    at: At,
    value: T,
}

impl<T> Spanned<T> {
    pub(super) const fn new(at: At, value: T) -> Self {
        Self { at, value }
    }

    pub(super) const fn span(&self) -> At {
        self.at
    }

    pub(super) const fn get_ref(&self) -> &T {
        &self.value
    }

    pub(super) fn into_inner(self) -> T {
        self.value
    }
}

/// A text that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// Its file.
    pub(super) name: String,
    /// What it says.
    pub(super) text: Arc<str>,
}

/// Where the lines of a text begin.
pub(super) struct Lines<'a> {
    name: &'a str,
    source: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a Text) -> Self {
        let (name, source) = (text.name.as_str(), &*text.text);
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, source, starts }
    }

    /// The place of a range of bytes, which is brought onto characters' boundaries.
    pub(super) fn place(&self, at: &At, label: String) -> Place {
        let start = self.source.floor_char_boundary(at.start.min(self.source.len()));
        let end = self.source.ceil_char_boundary(at.end.clamp(start, self.source.len()));
        let line = self.starts.partition_point(|first| *first <= start);
        let first = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let column = self.source.get(first..start).map_or(0, |before| before.chars().count()) + 1;
        Place { file: self.name.to_owned(), line, column, label, at: At { text: at.text, start, end } }
    }
}
