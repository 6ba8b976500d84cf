//! Compares the results of two runs, or those of two programs in one run. See the crate's README.

use std::{path::PathBuf, process::ExitCode};

use bench::{
    compare::{beside, compare},
    output::{Margin, exit_code},
    record::Record,
};
use clap::{ArgGroup, Parser};

/// Tells what got slower or faster beyond the noise
#[derive(Debug, Parser)]
#[command(override_usage = "compare NEW.json OLD.json\n       compare NEW.json --beside PROGRAM")]
#[command(group(ArgGroup::new("with").required(true).args(["old", "beside"])))]
struct Options {
    /// Results, as --json writes them
    new: PathBuf,
    /// Results of an earlier run
    old: Option<PathBuf>,
    /// Compare with this program of the same run instead, such as one of --pin
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<String>,
    /// How it judges
    #[command(flatten)]
    margin: Margin,
}

fn main() -> Result<ExitCode, anyhow::Error> {
    let options = Options::parse();
    let new = Record::read(&options.new)?;
    println!("# {}: {}", options.new.display(), new.about);
    let comparison = match (&options.old, &options.beside) {
        (Some(path), _) => {
            let old = Record::read(path)?;
            println!("# since {}: {}", path.display(), old.about);
            compare(&new, &old, options.margin.part())?
        }
        (None, program) => beside(&new, program.as_deref().unwrap_or_default(), options.margin.part())?,
    };
    print!("{comparison}");
    Ok(exit_code(comparison.is_good()))
}
