//! One form for the results of all benchmarks: what they were taken on, and a row for each figure.
//!
//! A row says what it is of, in fields that [`Row::what`] names, and keeps one sample a round. `compare` finds rows of
//! two files by these fields, `report` draws them.

use std::{collections::BTreeMap, fmt, fs, path::Path, time::SystemTime};

use anyhow::Context;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{
    machine::{self, Machine},
    stats::{percentile, significant},
};

/// The series of a row that its figure is made of.
pub const VALUE: &str = "value";
/// The series by which [`VALUE`] is divided before two files are compared, round by round: what was measured beside each
/// sample to tell how fast the machine was just then.
pub const REFERENCE: &str = "reference";

/// The results of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What the figures depend on.
    pub about: About,
    /// The figures.
    pub rows: Vec<Row>,
}

/// What figures depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The benchmark's name, which is the file's.
    pub benchmark: String,
    /// When it began, in UTC.
    pub time: String,
    /// The commit that was measured, with `-dirty` if files differed from it.
    pub commit: String,
    /// What it ran on.
    pub machine: Machine,
    /// How it was measured: its settings.
    pub method: BTreeMap<String, Value>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What it is of. No two rows of a run say the same.
    pub what: BTreeMap<String, Field>,
    /// Of all samples.
    pub unit: String,
    /// Which change of it is for the better.
    pub better: Better,
    /// What it must stay below, or above where more is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What the samples come to: [`VALUE`] is the figure, others are told beside it.
    pub summary: BTreeMap<String, f64>,
    /// By name, one sample a round. What is no number, such as a quantile beyond the last bucket, is null in the file.
    #[serde(deserialize_with = "with_gaps")]
    pub samples: BTreeMap<String, Vec<f64>>,
}

/// A value in a row's `what`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Field {
    /// A count or a size.
    Number(u64),
    /// A name.
    Text(String),
}

/// Which change of a figure is for the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Costs.
    Less,
    /// Yields.
    More,
}

/// Series in which null, JSON's only word for what is no number, stands for one: rounds stay in their places.
fn with_gaps<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Vec<f64>>, D::Error> {
    let series = BTreeMap::<String, Vec<Option<f64>>>::deserialize(from)?;
    let whole = |samples: Vec<Option<f64>>| samples.into_iter().map(|sample| sample.unwrap_or(f64::NAN)).collect();
    Ok(series.into_iter().map(|(name, samples)| (name, whole(samples))).collect())
}

impl Record {
    /// An empty one of a run that begins now; `method` is an object.
    ///
    /// # Errors
    /// If `method` is none.
    pub fn begin(benchmark: &str, method: Value) -> Result<Self, anyhow::Error> {
        let about = About {
            benchmark: benchmark.to_owned(),
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            commit: machine::commit(),
            machine: Machine::read(),
            method: serde_json::from_value(method).context("a method is an object")?,
        };
        Ok(Self { about, rows: Vec::new() })
    }

    /// The one in a file.
    ///
    /// # Errors
    /// If it cannot be read, or has another form.
    pub fn read(path: &Path) -> Result<Self, anyhow::Error> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| {
            format!("{} has not the form of results; run the benchmark again with --json", path.display())
        })
    }

    /// `{"about": …, "rows": […]}`, a row a line.
    ///
    /// # Errors
    /// If a figure is no number.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let about = serde_json::to_string(&self.about)?;
        let rows = self.rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        Ok(format!("{{\"about\":{about},\n\"rows\":[\n{}\n]}}\n", rows.join(",\n")))
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), anyhow::Error> {
        let text = self.json().context("the figures cannot be put in JSON")?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The row with exactly these fields.
    pub fn row(&self, what: &BTreeMap<String, Field>) -> Option<&Row> {
        self.rows.iter().find(|row| row.what == *what)
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu_model, cpus, kernel, load } = &self.machine;
        write!(f, "{cpu_model} ({cpus} CPUs, load {load}), Linux {kernel}, commit {}, {}", self.commit, self.time)
    }
}

impl Row {
    /// A row of these samples, one a round, with their median for a figure and the extremes beside it.
    pub fn new<const N: usize>(what: [(&str, Field); N], unit: &str, better: Better, samples: Vec<f64>) -> Self {
        let told = [(VALUE, 0.5), ("least", 0.0), ("most", 1.0)];
        let summary = told.map(|(name, share)| (name, percentile(&samples, share).unwrap_or(f64::NAN)));
        let row = Self {
            what: self::what(what),
            unit: unit.to_owned(),
            better,
            limit: None,
            summary: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        summary.into_iter().fold(row, |row, (name, value)| row.told(name, value)).with(VALUE, samples)
    }

    /// The same with a further field of what it is of.
    #[must_use]
    pub fn of(mut self, name: &str, field: Field) -> Self {
        self.what.insert(name.to_owned(), field);
        self
    }

    /// The same with a further series.
    #[must_use]
    pub fn with(mut self, name: &str, samples: Vec<f64>) -> Self {
        self.samples.insert(name.to_owned(), samples.into_iter().map(significant).collect());
        self
    }

    /// The same with something told beside the figure, or with another figure; not with what is no number.
    #[must_use]
    pub fn told(mut self, name: &str, value: f64) -> Self {
        if value.is_finite() {
            self.summary.insert(name.to_owned(), significant(value));
        }
        self
    }

    /// The same with a limit.
    #[must_use]
    pub fn limited(mut self, limit: Option<f64>) -> Self {
        self.limit = limit;
        self
    }

    /// The figure; no number if there is none.
    pub fn value(&self) -> f64 {
        self.told_as(VALUE).unwrap_or(f64::NAN)
    }

    /// What is told under that name.
    pub fn told_as(&self, name: &str) -> Option<f64> {
        self.summary.get(name).copied()
    }

    /// A field of what it is of, as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.what.get(name)? {
            Field::Text(text) => Some(text),
            Field::Number(_) => None,
        }
    }

    /// A field of what it is of, as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.what.get(name)? {
            Field::Number(number) => Some(*number),
            Field::Text(_) => None,
        }
    }

    /// Whether the figure keeps its limit, if it has one.
    pub fn is_kept(&self) -> bool {
        let value = self.value();
        self.limit.is_none_or(|limit| match self.better {
            Better::Less => value < limit,
            Better::More => value > limit,
        })
    }
}

/// What a row is of, from its fields.
pub fn what<const N: usize>(fields: [(&str, Field); N]) -> BTreeMap<String, Field> {
    fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect()
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Field {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Field {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
