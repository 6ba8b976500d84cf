//! Results as pictures and tables: from the files that the benchmarks write to the README's generated parts.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, ensure};

use crate::record::Record;

mod charts;
pub mod plot;
mod tables;

/// What begins a generated part of the README, before its name, and what ends it.
const BEGIN: &str = "<!-- made by `./dev bench report`: ";
const BEGUN: &str = " -->\n";
const END: &str = "<!-- end -->";
/// The folder of results, as the README links to it.
const FOLDER: &str = "results";

/// Results of all benchmarks, by their names.
#[derive(Clone, Debug, Default)]
pub struct Results(BTreeMap<String, Record>);

/// What is made of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Pictures, by the names of their files.
    pub plots: BTreeMap<String, String>,
    /// Parts of the README, by name.
    pub parts: BTreeMap<String, String>,
}

impl Results {
    /// All in a folder's `.json` files.
    ///
    /// # Errors
    /// If one cannot be read, or bears another name than its benchmark.
    pub fn read(folder: &Path) -> Result<Self, anyhow::Error> {
        let mut results = BTreeMap::new();
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let record = Record::read(&path)?;
            let name = record.about.benchmark.clone();
            ensure!(
                path.file_stem().is_some_and(|stem| *stem == *name),
                "{} has the results of {name}: call it {name}.json",
                path.display()
            );
            results.insert(name, record);
        }
        Ok(Self(results))
    }

    fn get(&self, benchmark: &str) -> Option<&Record> {
        self.0.get(benchmark)
    }
}

impl Report {
    /// The report on these results. The same results make the same report.
    ///
    /// # Errors
    /// If a plot cannot be drawn.
    pub fn of(results: &Results) -> Result<Self, anyhow::Error> {
        let mut plots = BTreeMap::new();
        let mut parts = BTreeMap::new();
        for (benchmark, part) in tables::PARTS {
            let Some(record) = results.get(benchmark) else {
                parts.insert(part.name.to_owned(), missing(benchmark));
                continue;
            };
            let mut text = format!("{}\n\n", about(record));
            for (name, title, svg) in charts::of(part.name, record)? {
                text.push_str(&["![", title, "](", FOLDER, "/", name, ".svg)\n\n"].concat());
                plots.insert(format!("{name}.svg"), svg);
            }
            text.push_str(&(part.tables)(record));
            parts.insert(part.name.to_owned(), text.trim_end().to_owned() + "\n");
        }
        Ok(Self { plots, parts })
    }

    /// The README with its generated parts made anew.
    ///
    /// # Errors
    /// If it lacks the place of a part, or has one of no part.
    pub fn written_into(&self, readme: &str) -> Result<String, anyhow::Error> {
        let mut text = String::new();
        let mut rest = readme;
        let mut missing: Vec<&String> = self.parts.keys().collect();
        while let Some((before, after)) = rest.split_once(BEGIN) {
            let (name, after) = after.split_once(BEGUN).context("the beginning of a generated part is cut off")?;
            let (_, after) = after.split_once(END).with_context(|| format!("the part {name} has no end, {END}"))?;
            let part = self.parts.get(name).with_context(|| format!("there is no part {name}"))?;
            text.push_str(&[before, BEGIN, name, BEGUN, "\n", part, "\n", END].concat());
            missing.retain(|missing| *missing != name);
            rest = after;
        }
        ensure!(missing.is_empty(), "the README has no place for {missing:?}: {BEGIN}NAME{}{END}", BEGUN.trim_end());
        Ok(text + rest)
    }
}

fn about(record: &Record) -> String {
    let name = &record.about.benchmark;
    format!("{}. All samples: [{FOLDER}/{name}.json]({FOLDER}/{name}.json).", record.about)
}

fn missing(benchmark: &str) -> String {
    format!("Not measured yet: `./dev bench {benchmark} --json bench/results/{benchmark}.json`.\n")
}

#[cfg(test)]
mod tests;
