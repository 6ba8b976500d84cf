//! What got slower or faster between two runs, beyond the noise.
//!
//! A row is compared by the ratio of its samples. Where each round has a reference, a sample counts as its multiple: what
//! the machine did in that round meets both alike. The ratio's bounds come from [`ranks`]. A row got worse if even its
//! lower bound is above the margin, widened by what the run's own null program shows of the method's error.
//!
//! A run's method says what its rows are to a comparison: `baselines` are programs that are there to be compared with, `null`
//! is the one of them that takes nothing, `derived` are figures that only tell in other words what others tell, `reference`
//! is what references are of, if it has changed over time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::ensure;
use serde_json::Value;

use crate::{
    record::{Better, Field, REFERENCE, Record, Row, VALUE},
    stats::{percentile, significant},
};

pub mod ranks;

/// The field that names what is measured beside others.
const PROGRAM: &str = "program";
/// The field that names a figure where there are several of a thing.
const FIGURE: &str = "figure";
/// What is said in a method of how to compare, which is no setting.
const ROLES: [&str; 3] = ["baselines", "null", "derived"];

/// Two runs, row by row.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Why it is only a hint, or how the runs differ otherwise.
    pub notes: Vec<String>,
    /// Whether the runs are of one machine and kernel.
    pub same_machine: bool,
    /// The rows that both have, those that changed most first.
    pub changes: Vec<Change>,
    /// Rows that only one of them has, or of which no ratio can be made.
    pub unmatched: usize,
}

/// A row of both.
#[derive(Clone, Debug)]
pub struct Change {
    /// What it is of.
    pub what: String,
    /// Of the figures.
    pub unit: String,
    /// The figures, before and now.
    pub figures: [f64; 2],
    /// By how much more the references took now, if samples were compared as multiples of them: what the earlier figure has
    /// to be multiplied by for this machine.
    pub pace: Option<f64>,
    /// How many times worse it is now, with bounds; below 1 is better.
    pub ratio: f64,
    /// See [`ranks::Shift`].
    pub bounds: Option<(f64, f64)>,
    /// What that comes to.
    pub verdict: Verdict,
}

/// What a change comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Slower, larger, fewer: beyond the noise.
    Worse,
    /// The other way round.
    Better,
    /// Seems to have changed, but there are too few samples to tell.
    Untold,
    /// Within the noise.
    Same,
}

/// Compares a run with an older one. `margin` is the part by which a figure may change without a word, such as 0.03.
///
/// # Errors
/// If they are of different benchmarks.
pub fn compare(new: &Record, old: &Record, margin: f64) -> Result<Comparison, anyhow::Error> {
    ensure_alike(new, old)?;
    let (about, was) = (&new.about, &old.about);
    let machine = |record: &Record| {
        let machine = &record.about.machine;
        [machine.cpu_model.clone(), machine.cpus.to_string(), machine.kernel.clone()]
    };
    let (here, there) = (machine(new), machine(old));
    let mut notes = Vec::new();
    for ((what, now), before) in ["CPU", "number of CPUs", "kernel"].into_iter().zip(&here).zip(&there) {
        if now != before {
            notes.push(format!("another {what}, {now} instead of {before}: what follows is a hint and no more"));
        }
    }
    let names: BTreeSet<&String> = about.method.keys().chain(was.method.keys()).collect();
    for name in names.into_iter().filter(|name| !ROLES.contains(&name.as_str())) {
        let [now, before] =
            [about, was].map(|about| about.method.get(name).map_or("nothing".to_owned(), ToString::to_string));
        if now != before {
            notes.push(format!("another method: {name} is {now} instead of {before}"));
        }
    }
    let referred = method(new, REFERENCE) == method(old, REFERENCE);
    if !referred {
        notes.push(
            "references are of something else than before: samples are compared as they were measured".to_owned(),
        );
    }
    let error = error(new) + error(old);
    let subjects = |record| subjects(record, [new, old]);
    let pairs = subjects(new).filter_map(|row| Some((row, old.row(&row.what)?)));
    let changes =
        pairs.clone().filter_map(|(now, before)| change(now, before, widened(margin, error, before), referred));
    let changes: Vec<Change> = changes.collect();
    let alone = |record, other: &Record| subjects(record).filter(|row| other.row(&row.what).is_none()).count();
    let unmatched = pairs.count() - changes.len() + alone(new, old) + alone(old, new);
    notes.extend(too_few(&changes, "rounds in each of both runs", ranks::FEWEST_APART));
    Ok(Comparison { notes, same_machine: here == there, changes: sorted(changes), unmatched })
}

/// Refuses runs that have nothing to do with each other.
///
/// # Errors
/// If they are of different benchmarks.
pub fn ensure_alike(new: &Record, old: &Record) -> Result<(), anyhow::Error> {
    let (now, before) = (&new.about.benchmark, &old.about.benchmark);
    ensure!(now == before, "these are results of {now} and of {before}: only results of one benchmark can be compared");
    Ok(())
}

/// Compares a run's programs with one that was measured beside them, pairing the rounds.
///
/// # Errors
/// If there is no such program.
pub fn beside(record: &Record, program: &str, margin: f64) -> Result<Comparison, anyhow::Error> {
    let error = error(record);
    let others = subjects(record, [record; 2]).filter(|row| row.text(PROGRAM) != Some(program));
    let changes = others.clone().filter_map(|now| {
        let before = record.row(&with_program(&now.what, program))?;
        change_of_pairs(now, before, widened(margin, error, before))
    });
    let changes: Vec<Change> = changes.collect();
    ensure!(!changes.is_empty(), "no row of these results has a program {program} beside it");
    let notes = too_few(&changes, "rounds", ranks::FEWEST_PAIRED).into_iter().collect();
    let unmatched = others.count() - changes.len();
    Ok(Comparison { notes, same_machine: true, changes: sorted(changes), unmatched })
}

/// A word to whoever has measured in vain.
fn too_few(changes: &[Change], rounds: &str, fewest: usize) -> Option<String> {
    let vain = !changes.is_empty() && changes.iter().all(|change| change.bounds.is_none());
    vain.then(|| format!("too few rounds to tell anything from noise: it takes {fewest} {rounds}"))
}

fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by(|a, b| a.verdict.cmp(&b.verdict).then(b.ratio.ln().abs().total_cmp(&a.ratio.ln().abs())));
    changes
}

fn with_program(what: &BTreeMap<String, Field>, program: &str) -> BTreeMap<String, Field> {
    let mut what = what.clone();
    what.insert(PROGRAM.to_owned(), program.into());
    what
}

fn method<'r>(record: &'r Record, name: &str) -> Option<&'r Value> {
    record.about.method.get(name)
}

/// The rows that are there for their own sake, by what either of two runs says.
fn subjects<'r>(record: &'r Record, runs: [&'r Record; 2]) -> impl Iterator<Item = &'r Row> + Clone {
    record.rows.iter().filter(move |row| {
        let named = |field: &str, role: &str| {
            let Some(name) = row.text(field) else { return false };
            let names = runs.into_iter().filter_map(|run| method(run, role)?.as_array()).flatten();
            names.into_iter().any(|one| one.as_str() == Some(name))
        };
        !named(PROGRAM, "baselines") && !named(FIGURE, "derived")
    })
}

/// The method's own error: what the run's null program, which takes nothing, was found to take in nearly all rows. One row's
/// would be a throw of dice.
fn error(record: &Record) -> f64 {
    let Some(null) = method(record, "null").and_then(Value::as_str) else { return 0.0 };
    let rows = record.rows.iter().filter(|row| row.text(PROGRAM) == Some(null));
    let found: Vec<f64> = rows.map(|row| row.value().abs()).filter(|value| value.is_finite()).collect();
    percentile(&found, 0.95).unwrap_or(0.0)
}

/// The margin of a row where figures may be wrong by so much.
fn widened(margin: f64, error: f64, row: &Row) -> f64 {
    let part = error / row.value().abs();
    if part.is_finite() { margin + part } else { margin }
}

fn change(now: &Row, before: &Row, margin: f64, referred: bool) -> Option<Change> {
    if now.samples.get(VALUE)? == before.samples.get(VALUE)? {
        // What is counted may be zero, which has no ratio to anything else.
        return Some(judged(now, before, ranks::Shift { middle: 0.0, bounds: Some((0.0, 0.0)) }, margin));
    }
    let referred = referred && now.samples.contains_key(REFERENCE) && before.samples.contains_key(REFERENCE);
    let (new, old) = (logarithms(now, referred), logarithms(before, referred));
    let change = judged(now, before, ranks::apart(&new?, &old?)?, margin);
    let reference = |row: &Row| percentile(row.samples.get(REFERENCE).filter(|_| referred)?, 0.5);
    Some(Change { pace: reference(now).zip(reference(before)).map(|(now, before)| now / before), ..change })
}

fn change_of_pairs(now: &Row, before: &Row, margin: f64) -> Option<Change> {
    let (new, old) = (logarithms(now, false)?, logarithms(before, false)?);
    let differences: Vec<f64> = new.iter().zip(&old).map(|(new, old)| new - old).collect();
    Some(judged(now, before, ranks::paired(&differences)?, margin))
}

/// Logarithms of the samples, whose differences are ratios; `None` if one has none: it is zero, or no number.
fn logarithms(row: &Row, referred: bool) -> Option<Vec<f64>> {
    let values = row.samples.get(VALUE)?;
    let one = vec![1.0; values.len()];
    let references = if referred { row.samples.get(REFERENCE)? } else { &one };
    let logarithm = |(value, reference): (&f64, &f64)| {
        let ratio = value / reference;
        (ratio > 0.0 && ratio.is_finite()).then(|| ratio.ln())
    };
    values.iter().zip(references).map(logarithm).collect()
}

fn judged(now: &Row, before: &Row, shift: ranks::Shift, margin: f64) -> Change {
    let worse = |logarithm: f64| match now.better {
        Better::Less => logarithm.exp(),
        Better::More => (-logarithm).exp(),
    };
    let bounds = shift.bounds.map(|(low, high)| (worse(low), worse(high))).map(|(a, b)| (a.min(b), a.max(b)));
    let ratio = worse(shift.middle);
    let beyond = 1.0 + margin;
    let verdict = match bounds {
        Some((low, _)) if low > beyond => Verdict::Worse,
        Some((_, high)) if high < 1.0 / beyond => Verdict::Better,
        None if ratio > beyond || ratio < 1.0 / beyond => Verdict::Untold,
        _ => Verdict::Same,
    };
    let what: Vec<String> = now.what.iter().map(|(name, field)| format!("{name} {field}")).collect();
    let figures = [before.value(), now.value()];
    Change { what: what.join(", "), unit: now.unit.clone(), figures, pace: None, ratio, bounds, verdict }
}

impl Comparison {
    /// Whether nothing got worse, as far as can be told: what is only a hint condemns nothing.
    pub fn is_good(&self) -> bool {
        !self.same_machine || self.changes.iter().all(|change| change.verdict != Verdict::Worse)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "# {note}")?;
        }
        let told = [
            (Verdict::Worse, "worse, beyond the noise"),
            (Verdict::Better, "better, beyond the noise"),
            (Verdict::Untold, "other than before, but too few samples to tell"),
        ];
        for (verdict, title) in told {
            let changes: Vec<&Change> = self.changes.iter().filter(|change| change.verdict == verdict).collect();
            if !changes.is_empty() {
                writeln!(f, "{title}:")?;
            }
            for change in changes {
                let Change { what, unit, figures: [before, now], pace, ratio, bounds, .. } = change;
                let before = pace.map_or_else(
                    || before.to_string(),
                    |pace| format!("{} (measured: {before})", significant(before * pace)),
                );
                let bounds = bounds.map_or_else(String::new, |(low, high)| format!(" ({low:.2} .. {high:.2})"));
                writeln!(f, "  x {ratio:.2}{bounds}  {before} -> {now} {unit}  {what}")?;
            }
        }
        let same = self.changes.iter().filter(|change| change.verdict == Verdict::Same).count();
        write!(f, "{same} of {} rows are as they were", self.changes.len())?;
        match self.unmatched {
            0 => writeln!(f),
            rows => {
                writeln!(f, "; {rows} cannot be compared: only one side has them, or a sample is zero or no number")
            }
        }
    }
}

#[cfg(test)]
mod tests;
