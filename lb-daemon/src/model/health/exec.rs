//! Checks by programs.

use std::collections::BTreeMap;

/// A program that tells by its exit code how a backend is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exec {
    /// Its absolute path, and its arguments; never empty.
    pub argv: Vec<String>,
    /// Its environment, but for what tells it what it is asked for: those names begin with `LB_`.
    pub env: BTreeMap<String, String>,
}
