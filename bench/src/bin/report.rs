//! Makes plots and the README's tables of the results. See the crate's README.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use bench::report::{Report, Results};
use clap::Parser;

/// Makes plots and the README's tables of the files that --json wrote
#[derive(Debug, Parser)]
struct Options {
    /// The crate's folder, with `results` and `README.md` in it
    #[arg(default_value = env!("CARGO_MANIFEST_DIR"))]
    folder: PathBuf,
}

fn main() -> Result<(), anyhow::Error> {
    let Options { folder } = Options::parse();
    let (results, readme) = (folder.join("results"), folder.join("README.md"));
    let report = Report::of(&Results::read(&results)?)?;
    let text = fs::read_to_string(&readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let text = report.written_into(&text)?;
    for (name, svg) in &report.plots {
        write(&results.join(name), svg)?;
    }
    write(&readme, &text)
}

fn write(path: &Path, text: &str) -> Result<(), anyhow::Error> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}
