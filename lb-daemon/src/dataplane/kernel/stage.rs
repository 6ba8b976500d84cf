//! What is put beside that which is in force, until it takes its place: tables that are new, and an instance of the
//! program over them.

use std::{fs, path::PathBuf};

use aya::{Ebpf, EbpfLoader, programs::Xdp};
use lb_common::maps::{self, Tuning, feature};

use super::{
    copy::{self, CatchUp, Pairs},
    counted::Rest,
    error::OpenError,
    explain::system,
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
    /// Where it and new tables are pinned, and the pins whose places they take.
    moves: Vec<(PathBuf, PathBuf)>,
    catch_up: CatchUp,
    made: Made,
}

impl Staged {
    /// Once it is on all links: brings over what packets wrote to the old tables meanwhile, and gives everything its name, in
    /// place of what had it. Returns what was counted in the old tables since they were copied.
    pub(super) fn settle(mut self) -> Result<(Xdp, Rest), OpenError> {
        // Packets meet it already: it must not go any more, whatever comes of the names.
        self.made.keep();
        let rest = self.catch_up.finish();
        name(&self.moves)?;
        Ok((self.program, rest))
    }
}

/// Moves pins. The program comes first: a daemon that is ended in between tells by it which tables are in force.
pub(super) fn name(moves: &[(PathBuf, PathBuf)]) -> Result<(), OpenError> {
    for (next, name) in moves {
        fs::rename(next, name).map_err(|source| system(format!("pin {}", name.display()), source))?;
    }
    Ok(())
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
        ..*tuning
    };
    let mut loader = EbpfLoader::new();
    loader.override_global(maps::TUNING, &tuning, true);
    let mut object = load_over(&mut loader, pins, adopted)?;
    load::verify(&mut object, name)?;
    let mut made = Made::new(pins);
    let next = pins.next_program();
    let mut moves = vec![(next.clone(), pins.program())];
    let mut pairs = Pairs::new();
    for name in adopted.replaced.iter().chain(&adopted.resized) {
        let (next, place) = (pins.next_table(name), pins.table(name));
        pin(&mut made, &object, name, next.clone())?;
        moves.push((next.clone(), place.clone()));
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
