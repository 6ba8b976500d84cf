//! From the tables of an older layout to those of this one, while packets go by the former.
//!
//! The new tables lie in a folder of their own: those that are the same are pinned there too, those that differ are copied,
//! those of what packets did a moment ago are made anew. `maps` leads to the old folder until packets go by the new tables,
//! so a daemon that is ended half way leaves all as it was or, if packets do already, what the next one completes.

use std::{fs, io};

use aya::maps::MapData;
use lb_common::{layout::LAYOUT_VERSION, maps};
use tracing::info;

use super::{
    attach,
    copy::{self, CatchUp, Pairs, failed},
    error::OpenError,
    explain::system,
    links::Links,
    load::{self, pin_error, program_id},
    origin::{self, Origin},
    pins::{self, Pins},
    recover, specs,
    specs::{Adopted, Sizes},
    stage::{self, Made, Moves},
};
use crate::latch;

/// Tables of an older layout, which packets go by.
pub(super) struct Older {
    pins: Pins,
    origin: &'static Origin,
}

/// What remains to be done once packets go by the new tables.
pub(super) struct Upgrade {
    older: Pins,
    catch_up: CatchUp,
}

impl Older {
    /// The layout that `maps` leads to, if it is an older one that can be read.
    pub(super) fn of(pins: &Pins) -> Option<Self> {
        let version = pins.aliased().filter(|version| *version < LAYOUT_VERSION)?;
        Some(Self { pins: pins.at(version), origin: origin::older(version)? })
    }

    /// Makes the new tables, filled. No packet goes by them yet.
    pub(super) fn convert(self, pins: &Pins, fresh: &Sizes) -> Result<(Adopted, Made, Upgrade), OpenError> {
        pins::make_folder(&pins.tables())?;
        let mut made = Made::new(pins);
        for name in specs::lasting().filter(|name| !self.origin.changed.contains(name)) {
            let (from, to) = (self.pins.table(name), pins.table(name));
            if from.exists() {
                let map = MapData::from_pin(from).map_err(failed("open", name))?;
                map.pin(&to).map_err(|error| pin_error(&to, error))?;
                made.add(to);
            }
        }
        let mut found = specs::adopt(pins, fresh)?;
        let mut pairs = Pairs::new();
        for name in self.origin.changed {
            let from = self.pins.table(name);
            found.sizes.set(name, (self.origin.size)(name, specs::entries(name, &from)?));
            pairs.insert(name, (from, pins.table(name)));
        }
        made.join(stage::missing(pins, &mut found)?);
        let catch_up = copy::all(&pairs, self.origin)?;
        latch::at("tables-copied");
        info!(from = self.pins.version_name(), to = pins.version_name(), "tables of an older layout converted");
        Ok((found, made, Upgrade { older: self.pins, catch_up }))
    }
}

impl Upgrade {
    /// Packets go by the new tables: brings over what they wrote to the old ones before, and removes these.
    pub(super) fn finish(self, pins: &Pins) -> Result<(), OpenError> {
        self.catch_up.finish();
        finish(pins, &self.older)
    }
}

/// The new tables get the name by which they are known, and the old ones go.
fn finish(pins: &Pins, older: &Pins) -> Result<(), OpenError> {
    pins.make_tables()?;
    remove(older)?;
    info!(layout = pins.version_name(), "packets go by the new layout");
    Ok(())
}

/// Completes or takes away what a daemon left half done when it was ended.
pub(super) fn recover(pins: &Pins) -> Result<(), OpenError> {
    if pins.aliased() == Some(LAYOUT_VERSION) {
        // Their successors have the name already.
        for version in pins.older().map_err(listing(pins))? {
            remove(&pins.at(version))?;
        }
        return Ok(());
    }
    let Some(older) = Older::of(pins) else { return Ok(()) };
    if !pins.version().exists() {
        return Ok(());
    }
    let links = Links::pinned(pins);
    let next = load::pinned(&pins.next_program());
    let swapped = match &next {
        Some(program) => attach::runs(&links, program_id(program)?)?,
        None => false,
    };
    if swapped && let Some(program) = &next {
        attach::swap_all(&links, program)?;
    }
    let in_force = if swapped { next } else { load::in_force(pins) };
    let used = in_force.as_ref().map(recover::tables_of).transpose()?.unwrap_or_default();
    // One that was made anew, too, has its name or waits for it.
    let goes_by = |name| {
        let mut places = [pins.table(name), pins.next_table(name)].into_iter().filter(|path| path.exists());
        places.try_fold(false, |goes, path| Ok(goes || used.contains(&recover::id(name, &path)?)))
    };
    let all: Result<Vec<bool>, OpenError> = maps::ALL.into_iter().map(goes_by).collect();
    if !all?.into_iter().all(|used| used) {
        return remove(pins);
    }
    let mut pairs = Pairs::new();
    if older.origin.changed.contains(&maps::FLOWS) {
        pairs.insert(maps::FLOWS, (older.pins.table(maps::FLOWS), pins.table(maps::FLOWS)));
    }
    CatchUp::resumed(&pairs, older.origin)?.finish();
    if swapped {
        let mut moves = Moves::default();
        moves.add(pins.next_program(), pins.program());
        moves.carry_out()?;
    }
    finish(pins, &older.pins)
}

/// Removes the tables of one layout and their folders.
fn remove(pins: &Pins) -> Result<(), OpenError> {
    for name in pins::names(&pins.tables()).map_err(listing(pins))? {
        pins::remove(&pins.tables().join(name))?;
    }
    for folder in [pins.tables(), pins.version()] {
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(system(format!("remove {}", folder.display()), error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn listing(pins: &Pins) -> impl Fn(io::Error) -> OpenError {
    let what = format!("list {}", pins.dir().display());
    move |source| system(what.clone(), source)
}
