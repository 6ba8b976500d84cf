//! What is put beside that which is in force, until it takes its place: tables that are new, and an instance of the
//! program over them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use aya::{Ebpf, EbpfLoader, programs::Xdp};
use lb_common::maps::{self, Tuning, feature};
use tracing::warn;

use super::{
    attach,
    copy::{self, CatchUp, Pairs},
    counted::Rest,
    error::OpenError,
    explain::system,
    heartbeat,
    links::Links,
    load::{self, OBJECT},
    origin,
    pins::{self, Pins},
    specs::Adopted,
    sys,
};
use crate::latch;

/// Pins that were made a moment ago. They go again with this, unless they are kept.
#[derive(Debug)]
pub(super) struct Made {
    pins: Pins,
    paths: Vec<PathBuf>,
}

impl Made {
    /// None yet.
    pub(super) fn new(pins: &Pins) -> Self {
        Self { pins: pins.clone(), paths: Vec::new() }
    }

    /// One more.
    pub(super) fn add(&mut self, path: PathBuf) {
        self.paths.push(path);
    }

    /// Those of another one too.
    pub(super) fn join(&mut self, mut other: Self) {
        self.paths.append(&mut other.paths);
    }

    /// What is there stays.
    pub(super) fn keep(&mut self) {
        self.paths.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.paths {
            // What stays is taken away by the next one to come.
            let _ = pins::remove(path);
        }
        if !self.paths.is_empty() {
            self.pins.remove_empty();
        }
    }
}

/// A new instance of the program, pinned beside the one in force. It goes again unless it settles.
pub(super) struct Staged {
    /// The program.
    pub(super) program: Xdp,
    /// Of it and of new tables.
    pub(super) moves: Moves,
    catch_up: CatchUp,
    made: Made,
}

/// What is in force since a moment ago.
pub(super) struct Settled {
    /// The program.
    pub(super) program: Xdp,
    /// What was counted in the old tables since they were copied.
    pub(super) rest: Rest,
    /// The pins that do not have their names yet.
    pub(super) moves: Moves,
}

impl Staged {
    /// Once it is on all links: brings over what packets wrote to the old tables meanwhile.
    pub(super) fn settle(mut self) -> Settled {
        // Packets meet it already: it must not go any more, whatever comes of the names.
        self.made.keep();
        let rest = self.catch_up.finish();
        Settled { program: self.program, rest, moves: self.moves }
    }
}

/// Puts a program on all links that are alive; when one link does not take it, none keeps it. Its name it does not have yet.
pub(super) fn put_in_force(pins: &Pins, links: &Links, staged: Staged) -> Result<Settled, OpenError> {
    // The new one may be the first that goes by it. Without it pings are not answered until the next sign.
    if let Err(error) = heartbeat::beat(pins) {
        warn!(%error, "no sign of life for the new program");
    }
    let Err(error) = attach::swap_all(links, &staged.program) else {
        latch::at("program-swapped");
        return Ok(staged.settle());
    };
    if let Some(before) = load::in_force(pins)
        && let Err(error) = attach::swap_all(links, &before)
    {
        warn!(%error, "the program of before could not be put back on every interface");
    }
    drop(staged);
    Err(error)
}

/// Pins that are to take the places of others: where they are, and where they belong.
#[derive(Default)]
pub(super) struct Moves(Vec<(PathBuf, PathBuf)>);

impl Moves {
    /// One more.
    pub(super) fn add(&mut self, next: PathBuf, name: PathBuf) {
        self.0.push((next, name));
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// None.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives everything its name, in place of what had it. The program, which was added first, comes first: a daemon that is
    /// ended in between tells by it which tables are in force. What fails remains to be done, with all after it.
    pub(super) fn carry_out(&mut self) -> Result<(), OpenError> {
        while let Some((next, name)) = self.0.first() {
            fs::rename(next, name).map_err(|source| system(format!("pin {}", name.display()), source))?;
            self.0.remove(0);
        }
        Ok(())
    }

    /// Tables that remain where they are.
    pub(super) fn tables(&self, pins: &Pins) -> BTreeSet<&'static str> {
        let remains = |name: &&str| self.0.iter().any(|(next, _)| *next == pins.next_table(name));
        maps::ALL.into_iter().filter(remains).collect()
    }
}

/// Makes and pins the tables that are neither present nor wait for a program that replaces them, and names their folder.
pub(super) fn tables(pins: &Pins, adopted: &mut Adopted) -> Result<Made, OpenError> {
    let made = missing(pins, adopted)?;
    pins.make_tables()?;
    Ok(made)
}

/// The same without the name.
pub(super) fn missing(pins: &Pins, adopted: &mut Adopted) -> Result<Made, OpenError> {
    let mut made = Made::new(pins);
    let missing: Vec<&str> = adopted.missing().collect();
    if missing.is_empty() {
        return Ok(made);
    }
    let mut loader = EbpfLoader::new();
    let object = load_over(&mut loader, pins, adopted)?;
    pins::make_folder(&pins.tables())?;
    for name in missing {
        pin(&mut made, &object, name, pins.table(name))?;
        adopted.present.insert(name);
    }
    Ok(made)
}

/// Loads a new instance of the program over the tables that are present and new ones in place of those to be replaced or to
/// get another size, and pins these beside them, filled. Which of its two forms is for the kernel to say. Nothing stays
/// pinned when it refuses.
pub(super) fn balancer(pins: &Pins, tuning: &Tuning, adopted: &Adopted) -> Result<Staged, OpenError> {
    let multi_buffer = sys::takes_multi_buffer();
    let (name, buffers) = if multi_buffer { (maps::PROGRAM_FRAGS, feature::MULTI_BUFFER) } else { (maps::PROGRAM, 0) };
    let tuning = Tuning {
        features: tuning.features & !feature::MULTI_BUFFER | buffers,
        bucket_mask: adopted.sizes.of(maps::FLOWS).wrapping_sub(1),
        vip_mask: (adopted.sizes.of(maps::VIPS) / 2).wrapping_sub(1),
        traffic_row: adopted.sizes.traffic_row(),
        ..super::clock::set(tuning)?
    };
    let mut loader = EbpfLoader::new();
    loader.override_global(maps::TUNING, &tuning, true);
    let mut object = load_over(&mut loader, pins, adopted)?;
    load::verify(&mut object, name)?;
    let mut made = Made::new(pins);
    let next = pins.next_program();
    let mut moves = Moves::default();
    moves.add(next.clone(), pins.program());
    let mut pairs = Pairs::new();
    for name in adopted.replaced.iter().chain(&adopted.resized) {
        let (next, place) = (pins.next_table(name), pins.table(name));
        pin(&mut made, &object, name, next.clone())?;
        moves.add(next.clone(), place.clone());
        if adopted.resized.contains(name) {
            pairs.insert(*name, (place, next));
        }
    }
    let catch_up = copy::all(&pairs, &origin::OWN)?;
    if !pairs.is_empty() {
        latch::at("tables-copied");
    }
    made.paths.push(next.clone());
    load::pin_loaded(&mut object, name, &next)?;
    let program = load::open_pinned(&next)?;
    latch::at("program-staged");
    Ok(Staged { program, moves, catch_up, made })
}

/// Opens the object with the tables that are present, and makes all others.
fn load_over(loader: &mut EbpfLoader<'_>, pins: &Pins, adopted: &Adopted) -> Result<Ebpf, OpenError> {
    loader.btf(None);
    for (name, entries) in adopted.sizes.iter() {
        loader.map_max_entries(name, entries);
    }
    for name in &adopted.present {
        loader.map_pin_path(name, pins.table(name));
    }
    loader.load(OBJECT).map_err(load::explain_load)
}

/// Pins a table of a loaded object in place of what may have been left there.
fn pin(made: &mut Made, object: &Ebpf, name: &str, path: PathBuf) -> Result<(), OpenError> {
    pins::remove(&path)?;
    load::pin_table(object, name, &path)?;
    made.paths.push(path);
    Ok(())
}
