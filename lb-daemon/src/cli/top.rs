//! `lb top`: what goes on, from second to second.

mod rates;
mod screen;

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use self::{
    rates::{Frame, Look},
    screen::{Patience, Screen},
};
use super::{Exit, Global, Output, output, pins};
use crate::api::client::{Client, ClientError};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Lines of a frame that are no rows of its tables: the sums, headings and the blanks between.
const OTHER_LINES: usize = 8;

/// Watch VIPs, backends and drops; q or Ctrl-C ends it
///
/// On a terminal the busiest are shown, as many as fit, anew each second. Elsewhere one table follows the other, and with `-o
/// json` there is one object on a line each second.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show one second and end
    #[arg(long)]
    once: bool,
}

/// Watches until told to stop.
///
/// # Errors
/// When no daemon answers and nothing is pinned, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let mut patience = Patience::new()?;
    let live = !args.once && global.output != Output::Json && io::stdout().is_terminal();
    let Some(mut before) = look(global, &mut patience)? else { return Ok(Exit::Done) };
    let mut seen = Instant::now();
    // Last, so that errors are printed on the screen that stays.
    let _screen = live.then(Screen::enter).transpose()?;
    if live {
        Screen::show("looking ...")?;
    }
    while patience.pause(INTERVAL.saturating_sub(seen.elapsed())) {
        let Some(after) = look(global, &mut patience)? else { break };
        let now = Instant::now();
        let frame = Frame::between(&before, &after, now - seen);
        let text = match global.output {
            Output::Json => format!("{}\n", serde_json::json!(frame)),
            _ if live => frame.text(Screen::lines().saturating_sub(OTHER_LINES) / 2),
            _ => frame.text(usize::MAX),
        };
        if live {
            Screen::show(&text)?;
        } else if !output::print_on(&text)? {
            break;
        }
        if args.once {
            break;
        }
        (before, seen) = (after, now);
    }
    Ok(Exit::Done)
}

/// Looks once; nothing if the user has had enough meanwhile.
fn look(global: &Global, patience: &mut Patience) -> Result<Option<Look>, anyhow::Error> {
    let client = Client::new(global.socket());
    let ask = async {
        Ok::<_, ClientError>(Look {
            managed: true,
            vips: client.get("/v1/vips").await?,
            backends: client.get("/v1/backends").await?,
            stats: client.get("/v1/stats").await?,
        })
    };
    pins::ask_or_read(
        global,
        || Ok(patience.unless_stopped(ask).transpose()?),
        |tables| {
            let (vips, backends, stats) = (tables.vips()?, tables.backends()?, tables.stats()?);
            Ok(Some(Look { managed: false, vips, backends, stats }))
        },
    )
}
