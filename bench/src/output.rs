//! What becomes of results, the same for all benchmarks.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use crate::{
    compare::compare,
    record::{Record, Row},
};

/// Options that all benchmarks have.
#[derive(Clone, Debug, Default, Args)]
pub struct Output {
    /// Also write the figures, with all samples, to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Tell what got slower or faster since this file was written; what got slower beyond the noise makes it fail
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// How a comparison judges
    #[command(flatten)]
    pub margin: Margin,
}

/// How a comparison judges.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Margin {
    /// Percent by which a figure may change without a word, in --compare
    #[arg(long = "margin", value_name = "PERCENT", default_value_t = 3.0)]
    percent: f64,
}

impl Margin {
    /// As a part of 1.
    pub fn part(self) -> f64 {
        self.percent.max(0.0) / 100.0
    }
}

impl Output {
    /// Does with the results of a run what was asked for. False if they are to be called bad: a figure exceeds its limit,
    /// or got worse.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn finish(&self, record: &Record) -> Result<bool, anyhow::Error> {
        let mut good = record.rows.iter().all(Row::is_kept);
        if let Some(path) = &self.compare {
            // Before the new file is written, which may be the same.
            let old = Record::read(path)?;
            let comparison = compare(record, &old, self.margin.part())?;
            println!("# since {}:\n{comparison}", old.about);
            good &= comparison.is_good();
        }
        if let Some(path) = &self.json {
            record.write(path)?;
        }
        Ok(good)
    }
}

/// The exit code of a benchmark whose results are good, or are not.
pub fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
