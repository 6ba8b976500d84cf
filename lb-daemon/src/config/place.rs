//! Where in a text: bytes as lines and columns.

use std::ops::Range;

use serde::Serialize;

/// A place in the file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
    /// What is said there; may be empty.
    pub label: String,
    #[serde(skip)]
    pub(super) span: Range<usize>,
}

/// Where the lines of a text begin.
pub(super) struct Lines<'a> {
    source: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(source: &'a str) -> Self {
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { source, starts }
    }

    /// The place of a range of bytes, which is brought onto characters' boundaries.
    pub(super) fn place(&self, span: Range<usize>, label: String) -> Place {
        let start = self.source.floor_char_boundary(span.start.min(self.source.len()));
        let end = self.source.ceil_char_boundary(span.end.clamp(start, self.source.len()));
        let line = self.starts.partition_point(|first| *first <= start);
        let first = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let column = self.source.get(first..start).map_or(0, |before| before.chars().count()) + 1;
        Place { line, column, label, span: start..end }
    }
}
