//! A sheet's text, made piece by piece: nobody holds the whole of it, nor all samples of a large family.

use std::sync::Arc;

use prometheus::{
    Encoder, TextEncoder,
    proto::{Metric, MetricFamily},
};

use super::{
    families::{self as f, Family},
    sheet::{Backend, Column, OF_BACKENDS, OF_VIPS, Sheet, Vip},
};

/// Rows of a sheet that a piece tells of at most. Of usual names it then has less than 64 KiB, and is made in a
/// millisecond.
const ROWS: usize = 512;

/// The text of a sheet that is yet to be made.
pub(super) struct Text {
    sheet: Arc<Sheet>,
    /// Its families, the next one last.
    parts: Vec<Part>,
    /// Rows of the next family that were told.
    told: usize,
}

/// Where a family's samples are.
#[derive(Clone, Copy)]
enum Part {
    /// In the plain family of this number.
    Plain(usize),
    OfVips(Column<Vip>),
    OfBackends(Column<Backend>),
    States,
}

impl Text {
    /// The text of a sheet: families by name, samples by labels.
    pub(super) fn of(sheet: Arc<Sheet>) -> Self {
        let plain = (0..sheet.plain.len()).map(Part::Plain);
        let of_vips = OF_VIPS.map(Part::OfVips).into_iter().filter(|_| !sheet.vips.is_empty());
        let of_backends = OF_BACKENDS.map(Part::OfBackends).into_iter().chain([Part::States]);
        let of_backends = of_backends.filter(|_| !sheet.backends.is_empty());
        let mut parts: Vec<Part> = plain.chain(of_vips).chain(of_backends).collect();
        parts.sort_by(|a, b| b.name(&sheet).cmp(a.name(&sheet)));
        Self { sheet, parts, told: 0 }
    }
}

impl Iterator for Text {
    type Item = Result<Vec<u8>, prometheus::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = *self.parts.last()?;
        let begin = self.told;
        let rest = part.rows(&self.sheet) - begin;
        if rest > ROWS {
            self.told += ROWS;
        } else {
            self.parts.pop();
            self.told = 0;
        }
        Some(part.text(&self.sheet, begin, rest.min(ROWS)))
    }
}

impl Part {
    fn name(self, sheet: &Sheet) -> &str {
        match self {
            Self::Plain(number) => sheet.plain[number].name(),
            Self::OfVips((family, _)) | Self::OfBackends((family, _)) => family.name,
            Self::States => f::BACKEND_STATE.name,
        }
    }

    /// How many rows of the sheet it tells of; a plain family is one.
    fn rows(self, sheet: &Sheet) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::OfVips(_) => sheet.vips.len(),
            Self::OfBackends(_) | Self::States => sheet.backends.len(),
        }
    }

    /// Text of so many rows from `begin` on; with the family's head if that is the first.
    fn text(self, sheet: &Sheet, begin: usize, rows: usize) -> Result<Vec<u8>, prometheus::Error> {
        let rows = begin..begin + rows;
        match self {
            Self::Plain(number) => encode(&sheet.plain[number], true),
            Self::OfVips(column) => some(column.0, sheet.vips[rows].iter().map(|vip| vip.metric(column)), begin == 0),
            Self::OfBackends(column) => {
                some(column.0, sheet.backends[rows].iter().map(|backend| backend.metric(column)), begin == 0)
            }
            Self::States => some(f::BACKEND_STATE, sheet.backends[rows].iter().flat_map(Backend::states), begin == 0),
        }
    }
}

/// Text of some samples of a family.
fn some(family: Family, metrics: impl Iterator<Item = Metric>, head: bool) -> Result<Vec<u8>, prometheus::Error> {
    encode(&family.with(metrics.collect()), head)
}

/// Text of a family's samples, after its help and type if that is wanted.
fn encode(family: &MetricFamily, head: bool) -> Result<Vec<u8>, prometheus::Error> {
    let mut text = Vec::new();
    TextEncoder::new().encode(std::slice::from_ref(family), &mut text)?;
    if !head {
        // The encoder writes these lines whatever it is given.
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let head: usize = lines.take_while(|line| line.starts_with(b"# ")).map(<[u8]>::len).sum();
        text.drain(..head);
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
