//! What becomes of results, the same for all benchmarks.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use crate::{
    compare::{compare, ensure_alike},
    record::{Record, Row},
};

/// Options that all benchmarks have.
#[derive(Clone, Debug, Default, Args)]
pub struct Output {
    /// Also write the figures, with all samples, to this file; while they come, to FILE.part
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

/// A run on its way. Its rows are on disk as they come: neither an error nor an interruption loses what was measured.
#[derive(Debug)]
pub struct Run {
    /// What it has found so far.
    pub record: Record,
    json: Option<PathBuf>,
    old: Option<Record>,
    margin: Margin,
}

impl Output {
    /// Begins a run; `method` is an object. What cannot be done with its results is told now rather than afterwards.
    ///
    /// # Errors
    /// If there is nothing to compare with, or no file can be written.
    pub fn begin(&self, benchmark: &str, method: Value) -> Result<Run, anyhow::Error> {
        let record = Record::begin(benchmark, method)?;
        let old = self.compare.as_deref().map(Record::read).transpose()?;
        if let Some(old) = &old {
            ensure_alike(&record, old)?;
        }
        let run = Run { record, json: self.json.clone(), old, margin: self.margin };
        run.keep()?;
        Ok(run)
    }
}

impl Run {
    /// Takes rows that were measured.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Row>) -> Result<(), anyhow::Error> {
        self.record.rows.extend(rows);
        self.keep()
    }

    fn keep(&self) -> Result<(), anyhow::Error> {
        let Some(path) = &self.json else { return Ok(()) };
        match part(path) {
            Some(part) => self.record.write(&part),
            // Something like /dev/stdout: it takes the whole at the end.
            None => fs::OpenOptions::new()
                .append(true)
                .open(path)
                .map(|_| ())
                .with_context(|| format!("cannot write {}", path.display())),
        }
    }

    /// Does with the results what was asked for. False if they are to be called bad: a figure exceeds its limit, or got
    /// worse.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(self) -> Result<bool, anyhow::Error> {
        let Self { record, json, old, margin } = self;
        if let Some(path) = &json {
            record.write(part(path).as_ref().unwrap_or(path))?;
            if let Some(part) = part(path) {
                fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        let mut good = record.rows.iter().all(Row::is_kept);
        if let Some(old) = &old {
            let comparison = compare(&record, old, margin.part())?;
            println!("# since {}:\n{comparison}", old.about);
            good &= comparison.is_good();
        }
        Ok(good)
    }
}

/// What a file is called until it is whole; `None` of what is no file, and must not be replaced by one.
fn part(path: &Path) -> Option<PathBuf> {
    let replaceable = match fs::symlink_metadata(path) {
        Ok(found) => found.is_file(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    replaceable.then(|| {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        name.into()
    })
}

/// The exit code of a benchmark whose results are good, or are not.
pub fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::Better;

    fn row(value: f64) -> Row {
        Row::new([("packet", "udp4".into())], "ns", Better::Less, vec![value; 11])
    }

    fn written(path: &Path, row: Row) {
        let output = Output { json: Some(path.to_owned()), ..Output::default() };
        let mut run = output.begin("trial", json!({})).unwrap();
        run.add([row]).unwrap();
        assert!(run.finish().unwrap());
    }

    #[test]
    fn what_cannot_be_read_or_written_is_told_before_anything_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let told = |output: Output| format!("{:#}", output.begin("trial", json!({})).unwrap_err());
        let missing = folder.path().join("nowhere/new.json");
        assert!(told(Output { json: Some(missing.clone()), ..Output::default() }).contains("nowhere/new.json"));
        assert!(told(Output { json: Some(folder.path().into()), ..Output::default() }).contains("cannot write"));
        assert!(told(Output { compare: Some(missing), ..Output::default() }).contains("nowhere/new.json"));
        let other = folder.path().join("other.json");
        Record::begin("other", json!({})).unwrap().write(&other).unwrap();
        assert!(told(Output { compare: Some(other), ..Output::default() }).contains("of trial and of other"));
    }

    #[test]
    fn rows_are_on_disk_before_the_run_ends_and_an_earlier_file_stays_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let (path, part) = (folder.path().join("new.json"), folder.path().join("new.json.part"));
        written(&path, row(70.0));
        let output = Output { json: Some(path.clone()), ..Output::default() };
        let mut run = output.begin("trial", json!({})).unwrap();
        run.add([row(80.0)]).unwrap();
        let value = |path: &Path| Record::read(path).unwrap().rows[0].value();
        assert_eq!((value(&path), value(&part)), (70.0, 80.0));
        assert!(run.finish().unwrap());
        assert_eq!((value(&path), part.exists()), (80.0, false));
    }

    #[test]
    fn a_run_is_bad_if_a_figure_got_worse_or_exceeds_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("same.json");
        written(&path, row(70.0));
        let good = |row: Row| {
            let output = Output { json: Some(path.clone()), compare: Some(path.clone()), margin: Margin::default() };
            let mut run = output.begin("trial", json!({})).unwrap();
            run.add([row]).unwrap();
            run.finish().unwrap()
        };
        assert!(good(row(70.0)));
        assert!(!good(row(80.0)), "the old figures are those from before they were replaced");
        assert!(good(row(80.0)));
        assert!(!good(row(80.0).limited(Some(75.0))));
    }

    #[test]
    fn what_is_no_file_is_not_replaced_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
        written(&path, row(70.0));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        written(&link, row(80.0));
        assert!(link.is_symlink());
        assert_eq!(Record::read(&path).unwrap().rows, [row(80.0)]);
        written(Path::new("/dev/null"), row(1.0));
        assert!(!Path::new("/dev/null").is_file());
    }
}
