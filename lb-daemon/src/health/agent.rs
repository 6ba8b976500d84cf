//! What agents say: `HAProxy`'s agent strings, read and remembered. Pure.
//!
//! A line has any of these words, in any order, apart by spaces, tabs or commas: a percentage of the configured weight;
//! `ready`, `drain` or `maint`; `up`, or `down`, `fail`, `failed` or `stopped`, with a reason behind a `#`. Other words are
//! passed over, and so is `maxconn:N`, which means nothing to a balancer of packets. Of words that exclude each other the last
//! one counts. What a line does not speak of stays as it was.

use std::fmt;

use super::WHOLE;
use crate::plain::plain;

/// Longest line that is read, in bytes.
pub const LONGEST: usize = 1024;
/// Most characters of a reason that are kept.
const REASON: usize = 80;

/// What one line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    percent: Option<u16>,
    mode: Option<Mode>,
    state: Option<State>,
}

/// What new flows a backend wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As many as its weight says.
    #[default]
    Ready,
    /// None; known flows go on.
    Drain,
    /// None, and none of the known ones either.
    Maint,
}

/// Whether a backend works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// As far as its agent knows.
    #[default]
    Up,
    /// It does not: `down`, `fail`, `failed` or `stopped`, and the reason, without characters that steer terminals.
    Down(&'static str, String),
}

/// What all lines of an agent come to: each part is as it was said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Percentage of the configured weight, at most 100.
    pub percent: u16,
    /// What new flows are wanted.
    pub mode: Mode,
    /// Whether it works.
    pub state: State,
}

impl Said {
    /// Reads a line, of which what follows its end is none. `None` if no word of it is understood.
    pub fn read(line: &[u8]) -> Option<Self> {
        let line = line.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let (words, reason) = match line.iter().position(|byte| *byte == b'#') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let mut said = Self::default();
        for word in String::from_utf8_lossy(words).to_ascii_lowercase().split([' ', '\t', ',']) {
            let down = |word| Some(State::Down(word, shown(reason)));
            match word {
                "ready" => said.mode = Some(Mode::Ready),
                "drain" => said.mode = Some(Mode::Drain),
                "maint" => said.mode = Some(Mode::Maint),
                "up" => said.state = Some(State::Up),
                "down" => said.state = down("down"),
                "fail" => said.state = down("fail"),
                "failed" => said.state = down("failed"),
                "stopped" => said.state = down("stopped"),
                _ => said.percent = percent(word).or(said.percent),
            }
        }
        (said != Self::default()).then_some(said)
    }
}

/// Digits and a `%`. More than any weight is the most that a weight can be.
fn percent(word: &str) -> Option<u16> {
    let digits = word.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u16::MAX))
}

/// A reason as it may be shown.
fn shown(text: &[u8]) -> String {
    plain(&String::from_utf8_lossy(text)).chars().take(REASON).collect::<String>().trim_end().to_owned()
}

impl Word {
    /// Takes what a line says, and leaves the rest as it was.
    pub fn take(&mut self, said: &Said) {
        // A backend gets at most what the operator gave it.
        self.percent = said.percent.map_or(self.percent, |percent| percent.min(100));
        self.mode = said.mode.unwrap_or(self.mode);
        if let Some(state) = &said.state {
            self.state = state.clone();
        }
    }

    /// All of it on one line, which may be read again.
    pub fn line(&self) -> String {
        let Self { percent, mode, state } = self.clone();
        Said { percent: Some(percent), mode: Some(mode), state: Some(state) }.to_string()
    }

    /// The part of its weight that the backend is to have, in thousandths.
    pub fn permille(&self) -> u16 {
        match self.mode {
            Mode::Ready => (self.percent * (WHOLE / 100)).min(WHOLE),
            Mode::Drain | Mode::Maint => 0,
        }
    }

    /// Whether the backend is to get nothing at all.
    pub fn takes_down(&self) -> bool {
        self.mode == Mode::Maint || self.state != State::Up
    }
}

impl Default for Word {
    /// Of an agent that said nothing yet.
    fn default() -> Self {
        Self { percent: 100, mode: Mode::Ready, state: State::Up }
    }
}

impl fmt::Display for Said {
    /// As an agent could say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.as_ref().map(|state| match state {
            State::Up => "up".to_owned(),
            State::Down(word, reason) if reason.is_empty() => (*word).to_owned(),
            State::Down(word, reason) => format!("{word} #{reason}"),
        });
        f.write_str(&words(self.mode, self.percent, state))
    }
}

impl fmt::Display for Word {
    /// What is not as it would be without an agent: `drain`, `75%`, `down (#disk full)`; `ready` if all is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str(Mode::Ready.name());
        }
        let state = match &self.state {
            State::Up => None,
            State::Down(word, reason) if reason.is_empty() => Some((*word).to_owned()),
            State::Down(word, reason) => Some(format!("{word} (#{reason})")),
        };
        let (mode, percent) = (Some(self.mode), Some(self.percent));
        f.write_str(&words(mode.filter(|mode| *mode != Mode::Ready), percent.filter(|percent| *percent != 100), state))
    }
}

fn words(mode: Option<Mode>, percent: Option<u16>, state: Option<String>) -> String {
    let mode = mode.map(|mode| mode.name().to_owned());
    let percent = percent.map(|percent| format!("{percent}%"));
    mode.into_iter().chain(percent).chain(state).collect::<Vec<_>>().join(" ")
}

impl Mode {
    /// Its word.
    const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

#[cfg(test)]
mod tests;
