//! What `lb stats` tells.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Balancer;

/// Counters at one moment.
#[derive(Clone, Debug)]
pub struct Stats(Value);

impl Balancer {
    /// Asks `lb stats`.
    ///
    /// # Errors
    /// When the command fails.
    pub fn stats(&self) -> Result<Stats> {
        self.json(&["stats"]).map(Stats)
    }
}

impl Stats {
    /// Frames of that verdict.
    ///
    /// # Errors
    /// When there is no such verdict.
    pub fn verdict(&self, name: &str) -> Result<u64> {
        let verdicts = self.0["verdicts"].as_array().context("no verdicts")?;
        let found = verdicts.iter().find(|one| one["verdict"] == name);
        found.and_then(|one| one["packets"].as_u64()).with_context(|| format!("no verdict {name}: {}", self.0))
    }

    /// Packets that met that event.
    ///
    /// # Errors
    /// When there is no such event.
    pub fn event(&self, name: &str) -> Result<u64> {
        self.0["path"][name].as_u64().with_context(|| format!("no event {name}: {}", self.0))
    }

    /// Flows in the flow table.
    ///
    /// # Errors
    /// When they are not told.
    pub fn flows(&self) -> Result<u64> {
        self.0["flows"]["entries"].as_u64().with_context(|| format!("no flow table: {}", self.0))
    }

    /// Frames dropped for whatever reason, with the reasons.
    pub fn drops(&self) -> Vec<(String, u64)> {
        let verdicts = self.0["verdicts"].as_array().into_iter().flatten();
        let dropped = verdicts.filter(|one| matches!(one["action"].as_str(), Some("drop" | "aborted")));
        let counted = dropped.filter_map(|one| Some((one["verdict"].as_str()?.to_owned(), one["packets"].as_u64()?)));
        counted.filter(|(_, packets)| *packets > 0).collect()
    }
}
