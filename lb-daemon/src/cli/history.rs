//! `lb history`: which configurations were in force, since when, and who wanted them.

use std::time::{Duration, UNIX_EPOCH};

use super::{Exit, Global, Output, ask, output, output::columns};
use crate::api::types::{Generation, Standing};

/// List the configurations that were in force, newest first
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Asks the daemon, and lists.
///
/// # Errors
/// When no daemon answers.
pub fn run(_: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let all: Vec<Generation> = ask::get(global, "/v1/generations")?;
    output::print(global.output, &all, |all| text(all, global.output == Output::Wide))?;
    Ok(Exit::Done)
}

fn text(all: &[Generation], wide: bool) -> String {
    let mut headings = vec![">GENERATION", "TIME", "ORIGIN", "BY", "STATE"];
    if wide {
        headings.extend([">BYTES", "DIGEST"]);
    }
    headings.push("REASON");
    let rows = all.iter().map(|one| {
        let mut row = vec![one.generation.to_string(), time(one.at), origin(one), author(one), standing(one)];
        if wide {
            row.extend([one.bytes.to_string(), one.digest.clone()]);
        }
        row.push(one.reason.clone().unwrap_or_default());
        row
    });
    columns(&headings, rows)
}

/// A time in seconds since 1970, as people write it.
pub(super) fn time(seconds: u64) -> String {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .map_or_else(|| seconds.to_string(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// How a generation came about.
pub(super) fn origin(one: &Generation) -> String {
    one.of.map_or_else(|| one.origin.clone(), |of| format!("{} to {of}", one.origin))
}

/// Who wanted a generation; a dash if nobody knows.
pub(super) fn author(one: &Generation) -> String {
    ask::user(one.author.as_deref(), one.uid).unwrap_or_else(|| "-".into())
}

fn standing(one: &Generation) -> String {
    match (&one.waiting, one.state) {
        (Some(waiting), Standing::Unconfirmed) => {
            format!("unconfirmed, back to {} in {}", waiting.back_to, ask::duration(waiting.seconds_left))
        }
        (_, state) => state.name().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Waiting;

    fn one(generation: u64) -> Generation {
        Generation {
            generation,
            at: 1_700_000_000 + generation,
            origin: "apply".into(),
            uid: Some(1000),
            author: Some("ada".into()),
            reason: None,
            of: None,
            state: Standing::Former,
            waiting: None,
            digest: String::new(),
            bytes: 1,
        }
    }

    #[test]
    fn who_wanted_what_and_what_waits_is_seen_at_a_glance() {
        let waiting = Waiting { generation: 3, back_to: 2, deadline: 1_700_000_303, seconds_left: 290 };
        let all = [
            Generation { state: Standing::Unconfirmed, waiting: Some(waiting), reason: Some("more".into()), ..one(3) },
            Generation { origin: "rollback".into(), of: Some(1), author: None, ..one(2) },
            Generation { origin: "start".into(), uid: None, author: None, ..one(1) },
        ];
        let expected = "\
GENERATION  TIME                  ORIGIN         BY          STATE                                 REASON
         3  2023-11-14T22:13:23Z  apply          ada (1000)  unconfirmed, back to 2 in 4 min 50 s  more
         2  2023-11-14T22:13:22Z  rollback to 1  uid 1000
         1  2023-11-14T22:13:21Z  start          -
";
        assert_eq!(text(&all, false), expected);
        let one = Generation { digest: "5eed".into(), bytes: 1234, reason: Some("more".into()), ..one(1) };
        let expected = "\
GENERATION  TIME                  ORIGIN  BY          STATE  BYTES  DIGEST  REASON
         1  2023-11-14T22:13:21Z  apply   ada (1000)          1234  5eed    more
";
        assert_eq!(text(&[one], true), expected);
    }
}
