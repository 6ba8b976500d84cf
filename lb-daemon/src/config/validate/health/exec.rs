//! Keys of checks by programs.

use std::collections::BTreeMap;

use crate::{
    config::{
        quantity::{Wrong, wrong},
        raw::Section,
    },
    model::Exec,
};

/// The keys that this reads.
pub(super) const KEYS: &[&str] = &["argv", "env"];

/// Most words of a program, most variables of its environment, and most bytes of each.
const MOST: usize = 64;
const LONGEST: usize = 4096;
/// Beginning of the variables that tell the program what it is asked for.
const OWN: &str = "LB_";

/// Nothing if it is not said what to run.
pub(super) fn exec(section: &Section<'_>) -> Option<Exec> {
    let (argv, env) = (argv(section), env(section));
    Some(Exec { argv: argv.filter(|argv| !argv.is_empty())?, env })
}

fn argv(section: &Section<'_>) -> Option<Vec<String>> {
    const KEY: &str = "argv";
    let (_, whole) = section.entry(KEY)?;
    let given = section.array(KEY);
    if whole.get_ref().as_array().is_some() && !(1..=MOST).contains(&given.len()) {
        let hint = "write [\"/usr/local/bin/check\", \"--quick\"]";
        section.invalid(KEY, whole.span(), wrong(format!("not 1 to {MOST} words"), hint));
    }
    let mut argv = Vec::new();
    for value in given {
        let Some(text) = section.string_of(KEY, value) else { continue };
        let checked = if argv.is_empty() { path(text.get_ref()) } else { word(text.get_ref()) };
        match checked {
            Ok(word) => argv.push(word),
            Err(wrong) => {
                section.invalid(KEY, text.span(), wrong);
                return None;
            }
        }
    }
    Some(argv)
}

fn env(section: &Section<'_>) -> BTreeMap<String, String> {
    const KEY: &str = "env";
    let given = section.strings(KEY);
    if let (true, Some((_, value))) = (given.len() > MOST, section.entry(KEY)) {
        let label = format!("{} variables", given.len());
        section.invalid(KEY, value.span(), wrong(label, format!("give at most {MOST}")));
    }
    let mut env = BTreeMap::new();
    for (name, value) in given {
        if let Err(wrong) = variable(name.get_ref()) {
            section.invalid(KEY, name.span(), wrong);
        }
        match word(value.get_ref()) {
            Ok(value) => {
                env.insert((*name.get_ref()).to_owned(), value);
            }
            Err(wrong) => section.invalid(KEY, value.span(), wrong),
        }
    }
    env
}

/// There is no shell that would look for it, and no folder that the daemon is sure to be in.
fn path(text: &str) -> Result<String, Wrong> {
    if text.starts_with('/') {
        return word(text);
    }
    let hint = "begin with a slash: [\"/usr/local/bin/check\", \"--quick\"]; for a shell's words write [\"/bin/sh\", \"-c\", \"...\"]";
    Err(wrong("not the absolute path of a program", hint))
}

fn word(text: &str) -> Result<String, Wrong> {
    if text.len() > LONGEST || text.contains('\0') {
        return Err(wrong(
            "no program can be given this",
            format!("write up to {LONGEST} bytes, none of which is zero"),
        ));
    }
    Ok(text.to_owned())
}

fn variable(text: &str) -> Result<(), Wrong> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.starts_with(OWN) {
        Err(wrong("lb sets variables of this name itself", format!("choose one that does not begin with {OWN}")))
    } else if text.is_empty() || text.len() > LONGEST || !text.bytes().all(fits) || text.as_bytes()[0].is_ascii_digit()
    {
        Err(wrong("not a variable's name", "use letters, digits and `_`, beginning with a letter"))
    } else {
        Ok(())
    }
}
