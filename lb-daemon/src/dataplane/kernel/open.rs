//! The start: tables adopted or made first, the program put over them only when it is known that all will go well.

use std::path::PathBuf;

use lb_common::maps::Tuning;

use super::{
    Kernel, attach,
    error::{AttachError, OpenError},
    explain,
    links::Links,
    lock::Lock,
    memory,
    pins::Pins,
    probes::Probes,
    recover, source_lines,
    specs::{self, Adopted, Sizes},
    stage::{self, Made, Settled},
    tables::Tables,
    upgrade::{self, Older, Upgrade},
};
use crate::{
    dataplane::{Error, needs},
    model::Interface,
    plan::{Capacity, Room, State},
};

/// What [`Opened::new`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder on a BPF file system.
    pub pin_path: PathBuf,
    /// Sizes of tables that are not there yet; those that are keep theirs until they are taken over.
    pub capacity: Capacity,
    /// Entries of the flow table, a power of two; likewise.
    pub flow_entries: u32,
    /// Parameters of the program. Its `bucket_mask` follows from `flow_entries`, `MULTI_BUFFER` from the kernel,
    /// whatever they say here; features that the tables in place need are added.
    pub tuning: Tuning,
}

/// The tables, held by this process alone, under whatever program was in force before. Dropped, it leaves everything as it
/// was found.
pub struct Opened {
    pins: Pins,
    // Before the lock: its tables go while nobody else can come.
    made: Made,
    tables: Tables,
    found: Adopted,
    tuning: Tuning,
    adopted: bool,
    /// The tables were made of those of an older layout, by which packets still go.
    upgrade: Option<Upgrade>,
    lock: Lock,
}

impl Opened {
    /// Adopts the pinned tables if they fit, else makes and pins them. No packet notices.
    ///
    /// # Errors
    /// When the pin path is in use or is no place for pins, when the tables there don't fit, when the kernel refuses.
    /// Everything is as before then.
    pub fn new(options: &Options) -> Result<Self, OpenError> {
        explain::require_capabilities("load the program")?;
        let lock = Lock::take(&options.pin_path)?;
        let pins = Pins::new(&options.pin_path);
        let opened = Self::adopt_or_make(pins.clone(), lock, options);
        if opened.is_err() {
            pins.remove_empty();
        }
        opened
    }

    fn adopt_or_make(pins: Pins, lock: Lock, options: &Options) -> Result<Self, OpenError> {
        upgrade::recover(&pins)?;
        let older = Older::of(&pins);
        if older.is_none() {
            pins.check_version()?;
        }
        recover::settle(&pins)?;
        let tuning = options.tuning;
        let fresh = Sizes::fresh(&options.capacity, options.flow_entries, source_lines(&tuning))?;
        let (found, made, adopted, upgrade) = if let Some(older) = older {
            let (found, made, upgrade) = older.convert(&pins, &fresh)?;
            (found, made, true, Some(upgrade))
        } else {
            let mut found = specs::adopt(&pins, &fresh)?;
            let adopted = found.is_whole();
            let made = stage::tables(&pins, &mut found)?;
            (found, made, adopted, None)
        };
        let tables = Tables::open(&pins, true)?;
        Ok(Self { pins, made, tables, found, tuning, adopted, upgrade, lock })
    }

    /// Sizes of the tables.
    pub fn room(&self) -> Room {
        Room { capacity: self.found.sizes.capacity(), flow_entries: self.found.sizes.flow_entries() }
    }

    /// Whether all tables were there already.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Reads back what the tables hold.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn observe(&mut self) -> Result<State, Error> {
        self.tables.observe_all()
    }

    /// Refuses interfaces that the program could not be bound to because they do not exist.
    ///
    /// # Errors
    /// When one does not exist, or the kernel cannot be asked.
    pub fn require(&self, interfaces: &[Interface]) -> Result<(), AttachError> {
        attach::require(interfaces)
    }

    /// Loads a new instance of the program over the tables and puts it in the place of the one in force, on all interfaces
    /// that are bound already. Tables that are smaller than in `room`, and a flow table of another size, make way for others
    /// with the same contents.
    ///
    /// # Errors
    /// When the kernel refuses. What ran before still runs then, and nothing new is left.
    pub fn take_over(mut self, room: &Room) -> Result<Kernel, OpenError> {
        memory::require(&self.room(), room)?;
        // What they hold may have been written for another configuration, and packets go by it until that changes.
        let state = self.tables.observe().map_err(|source| OpenError::Read { source })?;
        self.tuning.features |= needs::features(&state);
        // After an upgrade tables grow by themselves: what they are copied of is not what packets write to until then.
        if self.upgrade.is_none() {
            self.found.resize(&Sizes::fresh(&room.capacity, room.flow_entries, source_lines(&self.tuning))?);
        }
        let moved = !self.found.resized.is_empty();
        let staged = stage::balancer(&self.pins, &self.tuning, &self.found)?;
        let links = Links::pinned(&self.pins);
        let Settled { program, rest, mut moves } = stage::put_in_force(&self.pins, &links, staged)?;
        // Packets go by it all: what fails from here on the next start completes.
        self.made.keep();
        moves.carry_out()?;
        let Self { pins, mut tables, found, tuning, adopted, upgrade, lock, .. } = self;
        if moved {
            tables = Tables::open(&pins, true)?;
        }
        if let Some(upgrade) = upgrade {
            upgrade.finish(&pins)?;
        }
        let probes = Probes::new(pins.dir());
        let mut kernel = Kernel {
            links,
            pins,
            tables,
            program,
            tuning,
            sizes: found.sizes,
            rest,
            moves,
            probes,
            adopted,
            _lock: lock,
        };
        kernel.resize(room)?;
        Ok(kernel)
    }
}
