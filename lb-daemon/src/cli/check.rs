//! `lb check`: is this file what the balancer can serve?

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Exit, Global, Output, output};
use crate::config::{Bundle, Checked, Reading, diagnostic::Diagnostic};

/// Arguments of `lb check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Config files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Take warnings for errors
    #[arg(long)]
    pub strict: bool,
}

/// What was found in one file.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    valid: bool,
    /// Why the file could not be read at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    diagnostics: Vec<Diagnostic>,
    /// The diagnostics as people read them.
    #[serde(skip)]
    text: String,
}

/// Checks every file, also after one that is refused.
///
/// # Errors
/// When the result cannot be printed.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let colours = output::colours(global.output == Output::Table && io::stdout().is_terminal());
    let reports: Vec<Report> = args.files.iter().map(|file| report(file, args.strict, colours)).collect();
    output::print(global.output, &reports, |reports| reports.iter().map(|report| report.text.as_str()).collect())?;
    // An invalid file is the stronger finding: an unreadable one may be a slip in the command line.
    Ok(if reports.iter().any(|report| !report.valid && report.unreadable.is_none()) {
        Exit::InvalidConfig
    } else if reports.iter().any(|report| report.unreadable.is_some()) {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn report(path: &Path, strict: bool, colours: bool) -> Report {
    let file = path.display().to_string();
    match Bundle::read(path) {
        Err(error) => {
            let why = error.to_string();
            let text = format!("{file}: cannot be read: {why}\n");
            Report { file, valid: false, unreadable: Some(why), diagnostics: Vec::new(), text }
        }
        Ok(Reading { checked: Checked { config, diagnostics }, .. }) => {
            let valid = config.is_some() && (!strict || diagnostics.is_empty());
            let text = format!("{}{file}: {}\n", diagnostics.render(colours), diagnostics.summary());
            Report { file, valid, unreadable: None, diagnostics: diagnostics.into_vec(), text }
        }
    }
}
