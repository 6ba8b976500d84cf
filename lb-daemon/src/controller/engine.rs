//! What the controller drives: the tables, and the program over them.

use std::{
    collections::BTreeMap,
    error::Error,
    net::{IpAddr, Ipv4Addr},
};

use lb_common::{
    layout::{prefix::Group, vip::Vip},
    maps::Tuning,
};

use super::governor::Which;

use crate::{
    dataplane::{
        self, Dataplane,
        flows::Liveness,
        kernel::{self, AttachError, Grip, Kernel, ProbeError, ProbeSettings},
    },
    model::{DaemonConfig, DaemonLoss, DataplaneConfig, Interface},
    plan::{Room, State, target::address_of},
};

/// The tables, and the program that reads them.
pub trait Engine: Dataplane {
    /// Parameters of the program in force.
    fn tuning(&self) -> Tuning;

    /// The program's clock, in the flow table's units.
    fn now(&self) -> u32 {
        Liveness::now(0).now
    }

    /// Whether the program in force takes frames in several buffers.
    fn takes_multi_buffer(&self) -> bool;

    /// Puts a program with these parameters in force, over the same tables and in place: packets meet the old program or
    /// the new one. Nothing is loaded if they are in force already.
    ///
    /// # Errors
    /// When it cannot be loaded or put in place; the old one goes on.
    fn retune(&mut self, tuning: &Tuning) -> Result<(), InstallError>;

    /// Sizes of the tables.
    fn room(&self) -> Room;

    /// Has tables at least as large as in `room`, and a flow table of just that size, with the same contents: no packet is
    /// lost and no flow goes elsewhere.
    ///
    /// # Errors
    /// When there is no memory for them, or the kernel refuses; the old ones go on.
    fn resize(&mut self, room: &Room) -> Result<(), InstallError>;

    /// Refuses interfaces that the program could not be bound to, as far as that is known without trying.
    ///
    /// # Errors
    /// When an interface does not exist, or the kernel cannot be asked.
    fn require(&self, interfaces: &[Interface]) -> Result<(), InstallError>;

    /// Binds the program to these interfaces and to no others.
    ///
    /// # Errors
    /// When an interface does not exist, is taken, or cannot do what is asked. What was bound before may then be so in
    /// another mode only; the caller asks for the interfaces of before again.
    fn attach(&mut self, interfaces: &[Interface]) -> Result<Vec<Attached>, InstallError>;

    /// Has the program stay on its interfaces without this process, or leave them with it. No packet is lost.
    ///
    /// # Errors
    /// When the kernel refuses; the program stays on them then.
    fn keep_by(&mut self, grip: Grip) -> Result<(), InstallError>;

    /// Shows the program a sign of life.
    ///
    /// # Errors
    /// When the table cannot be written.
    fn beat(&mut self) -> Result<(), dataplane::Error>;

    /// Interfaces of `settings` on which the program does not run, with their numbers; 0 for those that do not exist.
    fn lost(&self, settings: &DataplaneConfig) -> BTreeMap<String, u32>;

    /// Has in place what carries health probes to backends, with these settings; takes it down without any.
    ///
    /// # Errors
    /// When the kernel refuses, or the mark is taken.
    fn carry_probes(&mut self, settings: Option<&ProbeSettings>) -> Result<(), ProbeError>;

    /// Whether that is in place, as far as a quick look tells.
    fn carries_probes(&self, settings: Option<&ProbeSettings>) -> bool;

    /// The addresses of this host that others can answer to, each with the number of its interface.
    fn answerable(&self) -> Vec<(u32, IpAddr)>;

    /// The name of this interface, if the kernel is known to drop answers from that VIP that come in by it.
    fn filters_answers(&self, ifindex: u32, vip: Ipv4Addr) -> Option<String>;

    /// Binds the program again to those that it was lost from. Tells where it is in force then, also upon an error.
    fn attach_again(&mut self, settings: &DataplaneConfig) -> (Vec<Attached>, Result<(), AttachError>);
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// Where in the kernel the program runs: `native`, `generic` or `offloaded`.
    pub mode: &'static str,
}

/// Why a program could not be put in force.
#[derive(Debug, thiserror::Error)]
#[error("cannot put program and tables in force with the new settings")]
pub struct InstallError(#[source] pub Box<dyn Error + Send + Sync>);

impl Engine for Kernel {
    fn tuning(&self) -> Tuning {
        *Kernel::tuning(self)
    }

    fn takes_multi_buffer(&self) -> bool {
        Kernel::takes_multi_buffer(self)
    }

    fn retune(&mut self, tuning: &Tuning) -> Result<(), InstallError> {
        Kernel::retune(self, tuning).map_err(|error| InstallError(error.into()))
    }

    fn room(&self) -> Room {
        Kernel::room(self)
    }

    fn resize(&mut self, room: &Room) -> Result<(), InstallError> {
        Kernel::resize(self, room).map_err(|error| InstallError(error.into()))
    }

    fn require(&self, interfaces: &[Interface]) -> Result<(), InstallError> {
        require(interfaces)
    }

    fn attach(&mut self, interfaces: &[Interface]) -> Result<Vec<Attached>, InstallError> {
        let attached = Kernel::attach(self, interfaces).map_err(|error| InstallError(error.into()))?;
        Ok(attached.into_iter().map(named).collect())
    }

    fn keep_by(&mut self, grip: Grip) -> Result<(), InstallError> {
        Kernel::keep_by(self, grip).map_err(|error| InstallError(error.into()))
    }

    fn beat(&mut self) -> Result<(), dataplane::Error> {
        Kernel::beat(self)
    }

    fn lost(&self, settings: &DataplaneConfig) -> BTreeMap<String, u32> {
        Kernel::lost(self, &settings.interfaces)
    }

    fn carry_probes(&mut self, settings: Option<&ProbeSettings>) -> Result<(), ProbeError> {
        Kernel::carry_probes(self, settings)
    }

    fn carries_probes(&self, settings: Option<&ProbeSettings>) -> bool {
        Kernel::carries_probes(self, settings)
    }

    fn answerable(&self) -> Vec<(u32, IpAddr)> {
        Kernel::answerable(self).unwrap_or_default()
    }

    fn filters_answers(&self, ifindex: u32, vip: Ipv4Addr) -> Option<String> {
        Kernel::filters_answers(self, ifindex, vip).ok().flatten()
    }

    fn attach_again(&mut self, settings: &DataplaneConfig) -> (Vec<Attached>, Result<(), AttachError>) {
        let (attached, outcome) = Kernel::attach_again(self, &settings.interfaces);
        (attached.into_iter().map(named).collect(), outcome)
    }
}

fn named(one: kernel::Attached) -> Attached {
    Attached { interface: one.interface, mode: one.hook.name() }
}

/// Who keeps the program on its interfaces, as a configuration wants it.
pub fn grip(settings: &DaemonConfig) -> Grip {
    if settings.on_loss == DaemonLoss::Pass { Grip::Process } else { Grip::Pins }
}

/// Refuses interfaces that do not exist, in the words of a daemon that is to put them in force.
///
/// # Errors
/// When an interface does not exist, or the kernel cannot be asked.
pub fn require(interfaces: &[Interface]) -> Result<(), InstallError> {
    Kernel::require(interfaces).map_err(|error| InstallError(error.into()))
}

/// Binds the program to the interfaces that `settings` name, and to no others.
///
/// # Errors
/// When an interface does not exist, is taken, or cannot do what is asked.
pub fn attach(kernel: &mut Kernel, settings: &DataplaneConfig) -> Result<Vec<Attached>, AttachError> {
    Ok(kernel.attach(&settings.interfaces)?.into_iter().map(named).collect())
}

/// Slots of each backend of a VIP's ring in the tables, or of that of one of its groups.
pub(super) fn slots(engine: &impl Engine, state: &State, (key, group): &Which) -> BTreeMap<IpAddr, u32> {
    let mut slots = BTreeMap::new();
    let Some(vip) = state.vips.get(key) else { return slots };
    let ring = match group {
        None => *vip,
        Some(identity) => {
            let is_it = |group: &&Group| (group.vip, group.identity) == (vip.id, *identity);
            let Some(group) = state.groups.values().find(is_it) else { return slots };
            Vip { ring_base: group.ring_base, ring_slots: group.ring_slots, ..*vip }
        }
    };
    for place in engine.ring(&ring) {
        if let Some(target) = state.targets.get(&vip.target_base.saturating_add(place.into())) {
            *slots.entry(address_of(target.outer_destination)).or_default() += 1;
        }
    }
    slots
}
