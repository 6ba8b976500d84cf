//! Prints how long takes what is computed on the host, as criterion times it. See the crate's README.

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::{Context, ensure};
use bench::{
    host::rows,
    output::{Output, exit_code},
};
use clap::Parser;
use serde_json::json;

/// Time what is computed without a kernel: rings, plans, the packet's way in memory, sweeps
#[derive(Debug, Parser)]
struct Options {
    /// Only benchmarks whose names have this in them, a regular expression
    #[arg(long, value_name = "PATTERN", default_value = "")]
    only: String,
    /// What becomes of the figures
    #[command(flatten)]
    output: Output,
}

fn main() -> Result<ExitCode, anyhow::Error> {
    let options = Options::parse();
    let mut run = options.output.begin("host", json!({}))?;
    println!("# {}", run.record.about);
    // A folder of its own: what others once left in the usual one would be taken for figures of this run.
    let folder = tempfile::tempdir().context("no place for criterion's files")?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["bench", "--quiet", "--locked", "--bench", "host", "--manifest-path"]);
    cargo.args([concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--", "--noplot"]);
    let pattern = Some(&options.only).filter(|only| !only.is_empty());
    let status = cargo.args(pattern).env("CRITERION_HOME", folder.path()).status().context("cannot run cargo")?;
    ensure!(status.success(), "`cargo bench` failed ({status})");
    run.add(rows(folder.path())?)?;
    run.finish().map(exit_code)
}
