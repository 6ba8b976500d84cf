//! Keys of checks by programs.

use std::collections::BTreeMap;

use crate::{
    config::{
        quantity::{Wrong, wrong},
        raw::Section,
        validate::program::{LONGEST, MOST, argv, word},
    },
    model::Exec,
};

/// The keys that this reads.
pub(super) const KEYS: &[&str] = &["argv", "env"];

/// Beginning of the variables that tell the program what it is asked for.
const OWN: &str = "LB_";

/// Nothing if it is not said what to run.
pub(super) fn exec(section: &Section<'_>) -> Option<Exec> {
    let (argv, env) = (argv(section, "argv"), env(section));
    Some(Exec { argv: argv.filter(|argv| !argv.is_empty())?, env })
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
