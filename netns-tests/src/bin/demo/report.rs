//! Tables of who answered.

use std::fmt;

use netns_tests::traffic::Answers;

/// A table with a line for each VIP and a column for each backend.
#[derive(Debug)]
pub(crate) struct Report {
    backends: Vec<String>,
    lines: Vec<(String, Answers)>,
}

impl Report {
    pub(crate) fn new(backends: Vec<String>) -> Self {
        Self { backends, lines: Vec::new() }
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, what: &str, answers: Answers) {
        self.lines.push((what.into(), answers));
    }

    /// Requests that failed, of all lines.
    pub(crate) fn failed(&self) -> u64 {
        self.lines.iter().map(|(_, answers)| answers.failed()).sum()
    }

    /// Answers of one backend, of all lines.
    pub(crate) fn of(&self, backend: &str) -> u64 {
        self.lines.iter().map(|(_, answers)| answers.of(backend)).sum()
    }

    /// Whether each line has answers of exactly these backends.
    pub(crate) fn each_has_exactly(&self, backends: &[&str]) -> bool {
        self.lines.iter().all(|(_, answers)| answers.by_backend.keys().eq(backends.iter()))
    }

    /// The answers of each line.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &Answers> {
        self.lines.iter().map(|(_, answers)| answers)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28}{:>7}", "answered by", "asked")?;
        for backend in &self.backends {
            write!(f, "{backend:>8}")?;
        }
        writeln!(f, "{:>8}", "failed")?;
        for (what, answers) in &self.lines {
            write!(f, "{what:<28}{:>7}", answers.total() + answers.failed())?;
            for backend in &self.backends {
                write!(f, "{:>8}", answers.of(backend))?;
            }
            writeln!(f, "{:>8}", answers.failed())?;
            for (words, count) in &answers.failures {
                writeln!(f, "  {count} times: {words}")?;
            }
        }
        Ok(())
    }
}
