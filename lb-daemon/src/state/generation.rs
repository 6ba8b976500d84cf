//! A generation: a configuration that was put in force, with its number and who wanted it.

use serde::{Deserialize, Serialize};

use crate::config::Bundle;

/// How a generation came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The daemon started, and its file said something new.
    Start,
    /// The file was read again.
    Reload,
    /// `lb apply`
    Apply,
    /// An older generation was asked for, or not confirming brought it back.
    Rollback,
}

impl Origin {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Apply => "apply",
            Self::Rollback => "rollback",
        }
    }
}

/// Who wanted a change, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Number of the user that asked.
    pub uid: Option<u32>,
    /// The user's name.
    pub name: Option<String>,
}

impl Author {
    /// The name, else the number, else nothing.
    pub fn known(&self) -> Option<String> {
        self.name.clone().or_else(|| self.uid.map(|uid| format!("uid {uid}")))
    }
}

/// A generation that goes unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The generation that waits.
    pub generation: u64,
    /// The one that comes back.
    pub back_to: u64,
    /// Until when it waits, in seconds since 1970.
    pub deadline: u64,
    /// How long it was to wait, in seconds.
    pub seconds: u64,
}

impl Pending {
    /// Seconds left at `now`, never more than there were: clocks are set back at times.
    pub fn left(&self, now: u64) -> u64 {
        self.deadline.saturating_sub(now).min(self.seconds)
    }
}

/// All about a generation but its texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its number.
    pub number: u64,
    /// When it was put in force, in seconds since 1970.
    pub time: u64,
    /// How it came about.
    pub origin: Origin,
    /// Who wanted it.
    pub author: Author,
    /// Why, in the author's words.
    pub reason: Option<String>,
    /// Whose texts it has, if it was rolled back to those.
    pub of: Option<u64>,
    /// What it began to wait for, if it was to be confirmed.
    pub pending: Option<Pending>,
    /// Digest of its texts.
    pub digest: String,
    /// Digest of what the daemon's file said at the time. As long as the file says so, the generation survives a restart.
    pub file_digest: String,
    /// Bytes of its texts.
    pub bytes: u64,
}

/// A generation as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// What there is to say about it.
    pub about: About,
    /// Its texts.
    pub bundle: Bundle,
}
