//! Programs that are to be run.

use crate::config::{
    quantity::{Wrong, wrong},
    raw::Section,
};

/// Most words of a program, or variables of its environment, and most bytes of each.
pub(super) const MOST: usize = 64;
pub(super) const LONGEST: usize = 4096;

/// A program and its arguments; nothing if there are none, or they cannot be used.
pub(super) fn argv(section: &Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let (_, whole) = section.entry(key)?;
    let given = section.array(key);
    if whole.get_ref().as_array().is_some() && !(1..=MOST).contains(&given.len()) {
        let hint = "write [\"/usr/local/bin/check\", \"--quick\"]";
        section.invalid(key, whole.span(), wrong(format!("not 1 to {MOST} words"), hint));
    }
    let mut argv = Vec::new();
    for value in given {
        let Some(text) = section.string_of(key, value) else { continue };
        let checked = if argv.is_empty() { path(text.get_ref()) } else { word(text.get_ref()) };
        match checked {
            Ok(word) => argv.push(word),
            Err(wrong) => {
                section.invalid(key, text.span(), wrong);
                return None;
            }
        }
    }
    Some(argv)
}

/// There is no shell that would look for it, and no folder that the daemon is sure to be in.
fn path(text: &str) -> Result<String, Wrong> {
    if text.starts_with('/') {
        return word(text);
    }
    let hint = "begin with a slash: [\"/usr/local/bin/check\", \"--quick\"]; for a shell's words write [\"/bin/sh\", \"-c\", \"...\"]";
    Err(wrong("not the absolute path of a program", hint))
}

/// One that a program can be given.
pub(super) fn word(text: &str) -> Result<String, Wrong> {
    if text.len() > LONGEST || text.contains('\0') {
        return Err(wrong(
            "no program can be given this",
            format!("write up to {LONGEST} bytes, none of which is zero"),
        ));
    }
    Ok(text.to_owned())
}
