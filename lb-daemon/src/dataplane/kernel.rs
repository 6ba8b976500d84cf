//! The tables in the kernel: pinned, adopted, written while packets pass.
//!
//! Everything outlives the process by its pins (see `pins` for the names; links only where that is wanted, see `links`), so
//! a restart finds the tables, loads a new instance of the program over them and puts it in the old one's place by an
//! update of the links. Forwarding never stops.

use std::{collections::BTreeMap, path::Path};

use aya::programs::Xdp;
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters},
        flow::FlowEntry,
        vip::Vip,
    },
    maps::Tuning,
};
use tracing::{debug, info, warn};

pub use self::{
    attach::{Attached, Change},
    error::{AttachError, Holder, OpenError},
    interfaces::Hook,
    links::Grip,
    live::Live,
    occupant::Occupant,
    open::{Opened, Options},
    pinned::Pinned,
    probes::{ProbeError, Settings as ProbeSettings},
    sys::{give_memory_back, share_one_heap},
    unload::Unloaded,
};
use self::{
    counted::Rest,
    links::Links,
    lock::Lock,
    pins::Pins,
    probes::Probes,
    specs::Sizes,
    stage::{Moves, Settled},
    tables::Tables,
};
use super::{Counters, Dataplane, Error, FlowCount, flows::Liveness};
use crate::{
    model::Interface,
    plan::{Op, Room, State},
};

mod attach;
pub mod clock;
mod copy;
mod counted;
pub mod decap;
mod elements;
mod error;
mod explain;
mod flows;
mod heartbeat;
mod hold;
mod interfaces;
mod links;
mod lists;
mod live;
mod load;
mod lock;
mod mapping;
mod memory;
mod netlink;
mod occupant;
mod open;
mod origin;
mod pinned;
mod pins;
mod probes;
mod recover;
mod refusal;
mod selectors;
mod specs;
mod stage;
mod sys;
mod tables;
mod traffic;
mod unload;
mod upgrade;
mod vips;

/// The programs and tables as they were built into this binary: an ELF object for the BPF machine.
pub fn object() -> &'static [u8] {
    load::OBJECT
}

/// The tables and the program in the kernel, held by this process alone.
pub struct Kernel {
    // Before the lock: what is held is let go of while nobody else can come.
    links: Links,
    pins: Pins,
    tables: Tables,
    program: Xdp,
    /// Parameters of the program in force, but for what [`Options::tuning`] says is filled in.
    tuning: Tuning,
    sizes: Sizes,
    /// What was counted in tables that are gone.
    rest: Rest,
    /// Pins of what is in force that could not be given their names yet.
    moves: Moves,
    /// What carries health probes.
    probes: Probes,
    adopted: bool,
    _lock: Lock,
}

impl Kernel {
    /// Opens the tables and takes over at once, in the sizes that they have, but for the flow table's: for whoever has nothing
    /// to ask in between. See [`Opened`].
    ///
    /// # Errors
    /// Those of [`Opened::new`] and [`Opened::take_over`].
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let opened = Opened::new(options)?;
        let room = Room { flow_entries: options.flow_entries, ..opened.room() };
        opened.take_over(&room)
    }

    /// Parameters of the program in force. What [`Kernel`] fills in by itself is as it was given.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Puts an instance of the program with other parameters in place; nothing is loaded if they are in force already. A
    /// change of [`Tuning::source_line_mask`] makes the table of sources anew.
    ///
    /// # Errors
    /// When the kernel refuses; the old instance goes on.
    pub fn retune(&mut self, tuning: &Tuning) -> Result<(), OpenError> {
        if *tuning == self.tuning {
            return Ok(());
        }
        self.replace(tuning, None)
    }

    /// Sizes of the tables.
    pub fn room(&self) -> Room {
        Room { capacity: self.sizes.capacity(), flow_entries: self.sizes.flow_entries() }
    }

    /// Makes tables as large as in `room`, and the flow table of just that size: new ones with the same contents, and an
    /// instance of the program over them, take the places of the old ones together. No packet is lost, no flow goes
    /// elsewhere. Larger ones than asked for stay.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no memory; the old ones go on.
    pub fn resize(&mut self, room: &Room) -> Result<(), OpenError> {
        if *room == self.room() {
            return Ok(());
        }
        memory::require(&self.room(), room)?;
        let tuning = self.tuning;
        self.replace(&tuning, Some(room))
    }

    fn replace(&mut self, tuning: &Tuning, room: Option<&Room>) -> Result<(), OpenError> {
        // What waits for its name would have to go for what comes now.
        self.give_names()?;
        let mut found = specs::adopt(&self.pins, &self.sizes.with_source_lines(source_lines(tuning)))?;
        if !found.is_whole() {
            return Err(OpenError::NothingPinned { path: self.pins.dir().to_owned() });
        }
        if let Some(room) = room {
            found.resize(&Sizes::fresh(&room.capacity, room.flow_entries, source_lines(tuning))?);
        }
        let moved = !found.resized.is_empty();
        let staged = stage::balancer(&self.pins, tuning, &found)?;
        // Nothing may fail any more once packets go by them.
        let waiting = self.pins.while_waiting(staged.moves.tables(&self.pins));
        let tables = moved.then(|| Tables::open(&waiting, true)).transpose()?;
        let Settled { program, rest, moves } = stage::put_in_force(&self.pins, &self.links, staged)?;
        self.rest.join(rest);
        (self.program, self.tuning, self.sizes, self.moves) = (program, *tuning, found.sizes, moves);
        if let Some(tables) = tables {
            self.tables = tables;
        }
        self.renew_probes();
        if let Err(error) = self.give_names() {
            let error: &(dyn std::error::Error + 'static) = &error;
            warn!(error, "program and tables are in force, and cannot get their names; it is tried again each minute");
        }
        Ok(())
    }

    /// Gives what is in force its names.
    fn give_names(&mut self) -> Result<(), OpenError> {
        if self.moves.is_empty() {
            return Ok(());
        }
        let outcome = self.moves.carry_out();
        self.pins = self.pins.while_waiting(self.moves.tables(&self.pins));
        outcome
    }

    /// Refuses interfaces that no program could be bound to because they do not exist.
    ///
    /// # Errors
    /// When one does not exist, or the kernel cannot be asked.
    pub fn require(interfaces: &[Interface]) -> Result<(), AttachError> {
        attach::require(interfaces)
    }

    /// Binds the program to these interfaces and to no others. One that is bound already gets the program in place.
    ///
    /// # Errors
    /// When an interface does not exist, is taken, or cannot do what is asked; none is bound then that was not before.
    pub fn attach(&mut self, interfaces: &[Interface]) -> Result<Vec<Attached>, AttachError> {
        attach::all(&mut self.links, &mut self.program, interfaces)
    }

    /// Has the links kept by pins, or by this process alone. No packet is lost.
    ///
    /// # Errors
    /// When a link cannot be pinned, or its pin not be removed. It stays attached.
    pub fn keep_by(&mut self, grip: Grip) -> Result<(), OpenError> {
        self.links.keep_by(grip)
    }

    /// Shows a sign of life, which [`lb_common::maps::feature::WITHDRAW`] goes by.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn beat(&self) -> Result<(), Error> {
        heartbeat::beat(&self.pins)
    }

    /// Those of these interfaces on which the program does not run, with their numbers; 0 for those that do not exist.
    pub fn lost(&self, interfaces: &[Interface]) -> BTreeMap<String, u32> {
        hold::lost(&self.links, interfaces)
    }

    /// Binds the program again to those of these interfaces that it was lost from. Tells where it is in force then, also
    /// upon an error.
    pub fn attach_again(&mut self, interfaces: &[Interface]) -> (Vec<Attached>, Result<(), AttachError>) {
        hold::again(&mut self.links, &mut self.program, interfaces)
    }

    /// Whether all tables were there already.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Number of the program in force.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn program_id(&self) -> Result<u32, OpenError> {
        load::program_id(&self.program)
    }

    /// Instructions that the verifier processed, where the kernel tells (5.16).
    pub fn verified_instructions(&self) -> Option<u32> {
        self.program.info().ok().and_then(|info| info.verified_instruction_count())
    }

    /// Whether the program in force takes frames in several buffers.
    pub fn takes_multi_buffer(&self) -> bool {
        load::is_multi_buffer(&self.program)
    }

    /// Detaches and removes all that is pinned there, of whatever layout version, complete or not. Nothing there is no
    /// error.
    ///
    /// # Errors
    /// When the pin path is in use, or something cannot be removed.
    pub fn unload(pin_path: &Path) -> Result<Unloaded, OpenError> {
        unload::unload(pin_path)
    }

    /// The tables that are pinned there, to be read only; works beside a daemon and without one.
    ///
    /// # Errors
    /// [`OpenError::NothingPinned`], or when what is there does not fit.
    pub fn open_existing(pin_path: &Path) -> Result<Pinned, OpenError> {
        let pins = Pins::new(pin_path);
        if pin_path.exists() {
            pins.check_version()?;
        }
        Ok(Pinned { tables: Tables::open(&pins, false)?, pins })
    }
}

/// Lines of `SOURCES` that a program with these parameters needs.
fn source_lines(tuning: &Tuning) -> u32 {
    tuning.source_line_mask.saturating_add(1)
}

impl Dataplane for Kernel {
    fn observe(&mut self) -> Result<State, Error> {
        if !self.moves.is_empty() {
            match self.give_names() {
                Ok(()) => info!("program and tables have their names"),
                Err(error) => debug!(%error, "program and tables still do not have their names"),
            }
        }
        self.tables.observe_all()
    }

    fn apply(&mut self, op: &Op) -> Result<(), Error> {
        match op {
            Op::SetTarget { id, target } => self.tables.set_target(*id, target)?,
            Op::ClearCounters { id } => {
                self.tables.clear_counters(*id)?;
                self.rest.clear(*id);
            }
            Op::WriteRing { base, slots } => self.tables.write_ring(*base, slots)?,
            Op::WriteHistory { before, after, remembers_all, gone } => {
                self.tables.write_history(before, after, *remembers_all, gone)?;
            }
            Op::Disown { vip, gone } => self.tables.disown(vip, gone)?,
            Op::SetGroup { id, group } => self.tables.selectors.set_group(*id, group)?,
            Op::SetServer { key, target } => self.tables.selectors.servers.set(key, *target)?,
            Op::RemoveServer { key } => self.tables.selectors.servers.remove(key)?,
            Op::SetList { list, to } => self.tables.lists.set(*list, to)?,
            Op::SetTunnel { address } => self.tables.selectors.tunnels.set(address, 1)?,
            Op::RemoveTunnel { address } => self.tables.selectors.tunnels.remove(address)?,
            Op::SetBond { member, bond } => self.tables.selectors.bonds.set(member, *bond)?,
            Op::RemoveBond { member } => self.tables.selectors.bonds.remove(member)?,
            Op::SetVip { key, vip } => self.tables.vips.set(key, vip)?,
            Op::RemoveVip { key } => self.tables.vips.remove(key)?,
            Op::Grace => {
                tables::grace();
                self.tables.vips.graced();
            }
            Op::SweepFlows { forget, renumber } => {
                self.tables.sweep(forget, renumber);
                tables::sweep_fragments(&self.pins, forget, renumber)?;
            }
        }
        Ok(())
    }

    fn ring_in_force(&self, vip: &Vip) -> Vec<u16> {
        self.tables.ring(vip)
    }

    fn history(&self, vip: &Vip) -> Vec<u16> {
        self.tables.history(vip)
    }

    fn write_slots(&mut self, base: u32, slots: &[(u32, u16)]) -> Result<(), Error> {
        self.tables.write_slots(base, slots)
    }

    fn walk_flows(&mut self, keep: &mut dyn FnMut(FlowEntry) -> bool) {
        self.tables.walk_flows(keep);
    }

    fn strays_lost(&mut self) -> Result<u64, Error> {
        self.tables.event(PathEvent::StrayLost)
    }

    fn counters(&mut self) -> Result<Counters, Error> {
        let mut counters = self.tables.counters()?;
        self.rest.add_to(&mut counters);
        Ok(counters)
    }

    fn counted(&mut self, targets: &[u32]) -> Result<BTreeMap<u32, TargetCounters>, Error> {
        let mut counted = self.tables.counted(targets.iter().copied())?;
        self.rest.add_to_targets(&mut counted);
        Ok(counted)
    }

    fn flows(&mut self, rule: Liveness) -> Result<FlowCount, Error> {
        Ok(self.tables.count_flows(rule))
    }

    fn forget_ended(&mut self, rule: Liveness, part: u32) -> u64 {
        self.tables.forget_ended(rule, part)
    }
}
