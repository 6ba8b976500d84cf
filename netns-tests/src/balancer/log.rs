//! What daemons of one lab said, and which warnings were expected.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::wait;

/// Lines of all daemons of a lab; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<String>,
    expected: Vec<String>,
}

impl Log {
    /// Takes in every line of `stream` until its end, on a thread of its own.
    pub(crate) fn follow(&self, stream: Option<impl Read + Send + 'static>) {
        let Some(stream) = stream else { return };
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                log.inner().lines.push(line);
            }
        });
    }

    /// From now on, warnings and errors that contain `words` are in order.
    pub fn expect(&self, words: &str) {
        self.inner().expected.push(words.into());
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.inner().lines.clone()
    }

    /// Number of lines so far, to look only at what comes after.
    pub fn mark(&self) -> usize {
        self.inner().lines.len()
    }

    /// Waits until a line after `mark` contains all of `words`.
    ///
    /// # Errors
    /// When none comes within two seconds; the error holds what was said instead.
    pub fn wait_for(&self, mark: usize, words: &[&str]) -> Result<()> {
        wait::until(&format!("the daemon says {words:?}"), Duration::from_secs(2), || {
            let said = self.inner().lines.get(mark..).unwrap_or_default().join("\n");
            ensure!(words.iter().all(|word| said.contains(word)), "it says:\n{said}");
            Ok(Some(()))
        })
    }

    /// Warnings and errors that nobody expected.
    pub fn unexpected(&self) -> Vec<String> {
        let inner = self.inner();
        let is_bad = |line: &&String| is_warning(line) && !inner.expected.iter().any(|words| line.contains(words));
        inner.lines.iter().filter(is_bad).cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_warning(line: &str) -> bool {
    // The level is among the first words; a message may well contain one of these words.
    let mut head = line.split_whitespace().take(3);
    head.any(|word| matches!(word.trim_matches(|c: char| !c.is_ascii_alphabetic()), "WARN" | "ERROR" | "panicked"))
        || line.contains(" panicked at ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unexpected_warnings_count() {
        let log = Log::default();
        let text = "2026-11-22T10:00:00Z  INFO lb: WARN is only a word here\n\
                    2026-11-22T10:00:01Z  WARN lb: backend is down backend=web-1\n\
                    2026-11-22T10:00:02Z ERROR lb: cannot go on\n\
                    thread 'main' panicked at src/main.rs:1\n";
        log.follow(Some(text.as_bytes()));
        log.wait_for(0, &["panicked"]).expect("the thread reads all");
        log.expect("backend is down");
        let unexpected = log.unexpected();
        assert_eq!(unexpected.len(), 2, "{unexpected:?}");
        assert!(unexpected[0].contains("cannot go on"));
    }
}
