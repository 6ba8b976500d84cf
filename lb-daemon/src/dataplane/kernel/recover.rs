//! What a daemon left half done when it was ended: completed where packets go by it already, else taken away.
//!
//! A new program and new tables are pinned as `prog-next` and `NAME-next` until the program is on all links. Which of them
//! packets go by is told by the links, and by the tables that the program there uses.

use std::{collections::BTreeSet, path::Path};

use aya::{maps::MapData, programs::Xdp};
use lb_common::maps;
use tracing::info;

use super::{
    attach,
    copy::{CatchUp, Pairs, failed},
    error::OpenError,
    explain::system,
    links::Links,
    load::{self, program_error, program_id},
    origin,
    pins::{self, Pins},
    stage::Moves,
};

/// Leaves neither `prog-next` nor `NAME-next` behind.
pub(super) fn settle(pins: &Pins) -> Result<(), OpenError> {
    let links = Links::pinned(pins);
    let next = load::pinned(&pins.next_program());
    let swapped = match &next {
        Some(program) => attach::runs(&links, program_id(program)?)?,
        None => false,
    };
    let mut moves = Moves::default();
    if swapped && let Some(program) = &next {
        // Links that did not get it before the end.
        attach::swap_all(&links, program)?;
        moves.add(pins.next_program(), pins.program());
    } else {
        pins::remove(&pins.next_program())?;
    }
    let in_force = if swapped { next } else { load::in_force(pins) };
    let used = in_force.as_ref().map_or(Ok(BTreeSet::new()), tables_of)?;
    let mut pairs = Pairs::new();
    let waiting = pins.waiting().map_err(|source| system(format!("list {}", pins.tables().display()), source))?;
    for name in maps::ALL.into_iter().filter(|name| waiting.contains(*name)) {
        let (next, place) = (pins.next_table(name), pins.table(name));
        if !used.contains(&id(name, &next)?) {
            pins::remove(&next)?;
            continue;
        }
        if name == maps::FLOWS && place.exists() {
            pairs.insert(name, (place.clone(), next.clone()));
        }
        moves.add(next, place);
    }
    if moves.is_empty() {
        return Ok(());
    }
    CatchUp::resumed(&pairs, &origin::OWN)?.finish();
    let count = moves.len();
    moves.carry_out()?;
    info!(pins = count, "completed what the daemon before left half done");
    Ok(())
}

/// Numbers of the tables that a program uses.
pub(super) fn tables_of(program: &Xdp) -> Result<BTreeSet<u32>, OpenError> {
    let ids = program.info().and_then(|info| info.map_ids());
    let ids = ids.map_err(|error| program_error("read the tables of the program in force".to_owned(), error))?;
    Ok(ids.into_iter().flatten().collect())
}

/// Number of a pinned table.
pub(super) fn id(name: &'static str, path: &Path) -> Result<u32, OpenError> {
    let info = MapData::from_pin(path).and_then(|map| map.info());
    Ok(info.map_err(failed("look at", name))?.id())
}
