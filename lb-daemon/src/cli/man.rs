//! `lb man`: the manual, made of what `--help` says.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use super::{Arguments, Exit, output};

/// Print the manual page of `lb`, or write the pages of all commands into a folder
///
/// `lb man | man -l -` shows it; `lb man /usr/local/share/man/man1` installs all pages.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to write the pages of all commands to; it is made if need be
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Prints or writes the manual.
///
/// # Errors
/// When stdout fails, or the folder cannot be written.
pub fn run(args: &Args) -> Result<Exit, anyhow::Error> {
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        Man::new(Arguments::command()).render(&mut page).context("cannot make the page")?;
        output::print_text(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Done);
    };
    let shown = folder.display();
    fs::create_dir_all(folder).with_context(|| format!("cannot make {shown}"))?;
    clap_mangen::generate_to(Arguments::command(), folder).with_context(|| format!("cannot write into {shown}"))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Command;

    use super::*;

    /// Names of the pages of a command and all below it.
    fn pages(command: &Command, name: &str, found: &mut BTreeSet<String>) {
        found.insert(format!("{name}.1"));
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            pages(below, &format!("{name}-{}", below.get_name()), found);
        }
    }

    #[test]
    fn every_command_has_a_page_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("man1");
        run(&Args { folder: Some(inner.clone()) }).unwrap();
        let mut expected = BTreeSet::new();
        pages(&Arguments::command(), "lb", &mut expected);
        let entries = fs::read_dir(&inner).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let found: BTreeSet<String> = entries.filter(|name| !name.contains("help")).collect();
        assert_eq!(found, expected);
        let page = fs::read_to_string(inner.join("lb-vip-show.1")).unwrap();
        assert!(page.contains("Show one VIP with its backends"), "{page}");
    }
}
