//! One backend, as the commands tell of it.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Balancer;

impl Balancer {
    /// What `lb backend list` says of a backend, for the first VIP of [`Settings::web`](crate::settings::Settings::web).
    ///
    /// # Errors
    /// When it fails, or there is no such backend.
    pub fn listed(&self, name: &str) -> Result<Value> {
        self.told(&["backend", "list"], name)
    }

    /// What `lb backend show` says of it.
    ///
    /// # Errors
    /// As of [`Balancer::listed`].
    pub fn shown(&self, name: &str) -> Result<Value> {
        self.told(&["backend", "show", name], name)
    }

    /// Why it is as it is, in its listing; empty where that is plain.
    ///
    /// # Errors
    /// As of [`Balancer::listed`].
    pub fn reason(&self, name: &str) -> Result<String> {
        Ok(self.listed(name)?["reason"].as_str().unwrap_or_default().to_owned())
    }

    fn told(&self, listing: &[&str], name: &str) -> Result<Value> {
        let all = self.json(listing)?;
        let found = all.as_array().and_then(|all| all.iter().find(|one| one["vip"] == "web-v4" && one["name"] == name));
        found.cloned().with_context(|| format!("no {name} in {all}"))
    }
}
