//! `lb ring`: which backend takes which new flows.

use super::{Exit, Global, ask, output, output::table, pins};
use crate::api::types::{Ring, RingDigests, RingShare};

/// Look at rings: which backend takes which new flows
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show whom the slots of a VIP's ring lead to
    Show {
        /// Name of the VIP; without a daemon what it serves, as `192.0.2.10:443 tcp`
        vip: String,
        /// Show each slot
        #[arg(long)]
        slots: bool,
    },
    /// Show digests of all rings, equal on all lbs of a fleet that steer alike
    Digest,
}

/// Prints rings.
///
/// # Errors
/// When no daemon answers and nothing is pinned, there is no such VIP, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    match &args.verb {
        Verb::Show { vip, slots } => show(vip, *slots, global),
        Verb::Digest => digest(global),
    }
}

fn show(vip: &str, slots: bool, global: &Global) -> Result<Exit, anyhow::Error> {
    let path = format!("/v1/rings/{}?slots={slots}", ask::escape(vip));
    let ring: Ring =
        pins::get_or_read(global, &path, |tables| tables.answer(global, |ground| ground.ring(vip, slots)))?;
    output::print(global.output, &ring, text)?;
    Ok(Exit::Done)
}

fn text(ring: &Ring) -> String {
    let name = |share: &RingShare| share.backend.clone().unwrap_or_default();
    let rows = ring.backends.iter().map(|share| {
        [
            share.pool.clone().unwrap_or_default(),
            name(share),
            share.address.to_string(),
            share.slots.to_string(),
            ask::percent(share.share),
        ]
    });
    let head = format!(
        "vip {}, {}: {} slots, digest {}\n",
        ring.ring.vip, ring.ring.service, ring.ring.size, ring.ring.digest
    );
    let mut text = head + &table(["POOL", "BACKEND", "ADDRESS", ">SLOTS", ">SHARE"], rows);
    if let Some(slots) = &ring.slots {
        let address = |place: &u32| ring.backends.get(*place as usize).map(|share| share.address.to_string());
        let lines = slots.iter().enumerate();
        let lines = lines.map(|(slot, place)| format!("{slot} {}\n", address(place).unwrap_or_default()));
        text.push('\n');
        text.extend(lines);
    }
    text
}

fn digest(global: &Global) -> Result<Exit, anyhow::Error> {
    let digests: RingDigests = pins::get_or_read(global, "/v1/rings", |tables| {
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method is not general enough in its lifetime"
        )]
        tables.answer(global, |ground| ground.rings())
    })?;
    output::print(global.output, &digests, |digests| {
        let vips = digests
            .vips
            .iter()
            .map(|one| [one.vip.clone(), one.service.clone(), one.size.to_string(), one.digest.clone()]);
        let all = ["all".into(), String::new(), String::new(), digests.digest.clone()];
        table(["VIP", "SERVICE", ">SLOTS", "DIGEST"], vips.chain([all]))
    })?;
    Ok(Exit::Done)
}
