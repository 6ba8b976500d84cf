//! Tables in memory in the place of the kernel's, which do as the test says.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use lb_common::{
    layout::{
        counter::{TargetCounters, VerdictCounters},
        flow::FlowEntry,
        vip::Vip,
    },
    maps::Tuning,
};

use crate::{
    controller::{Attached, Engine, InstallError},
    dataplane::{
        Counters, Dataplane, Error, FlowCount,
        flows::Liveness,
        kernel::{AttachError, Grip, ProbeError, ProbeSettings},
        memory::Memory,
        needs,
    },
    model::{DataplaneConfig, Interface},
    plan::{Op, Room, State, diff::tests::lab::check_tables},
};

/// What the program counted.
pub(crate) struct Counted {
    /// By verdict.
    pub(crate) verdicts: Vec<VerdictCounters>,
    /// By event.
    pub(crate) path: Vec<u64>,
}

/// What the engine holds, and how it is to behave.
pub(crate) struct Tables {
    /// The tables.
    pub(crate) memory: Memory,
    /// How often they were read.
    pub(crate) observed: usize,
    /// Ops that were asked for.
    pub(crate) applied: usize,
    /// How often counters were read.
    pub(crate) counted: usize,
    /// How often flows were counted.
    pub(crate) flows_counted: usize,
    /// How long reading counters takes.
    pub(crate) slow: Duration,
    /// Counters of verdicts and events in place of those that there are.
    pub(crate) told: Option<Counted>,
    /// What happens while the next op is applied.
    pub(crate) meanwhile: Option<Box<dyn FnOnce() + Send>>,
    /// Every op fails.
    pub(crate) broken: bool,
    /// Flows cannot be counted.
    pub(crate) uncountable: bool,
    /// Parameters of the program in force.
    pub(crate) tuning: Tuning,
    /// Those of the programs that were put in force, with the number of ops that had been asked for.
    pub(crate) retuned: Vec<(usize, Tuning)>,
    /// Interfaces that were asked for.
    pub(crate) bound: Vec<Vec<Interface>>,
    /// Who was asked to keep it on them.
    pub(crate) grips: Vec<Grip>,
    /// Signs of life.
    pub(crate) beats: usize,
    /// Interfaces that the program was lost from.
    pub(crate) lost: BTreeMap<String, u32>,
    /// A hash seed that no program can be loaded with.
    pub(crate) refused_seed: Option<u64>,
    /// Features that no program can be loaded with.
    pub(crate) refused_features: u32,
    /// Entries of the flow table.
    pub(crate) flow_entries: u32,
    /// Sizes that were asked for.
    pub(crate) resized: Vec<Room>,
    /// What carries health probes.
    pub(crate) carried: Option<ProbeSettings>,
    /// Somebody else's table that their mark leads to.
    pub(crate) mark_taken: Option<u32>,
    /// There is no memory for other tables.
    pub(crate) no_memory: bool,
    /// Units by which the program's clock is ahead of this host's.
    pub(crate) ahead: u32,
}

/// The engine's end of shared tables.
pub(crate) struct Fake(pub(super) Arc<Mutex<Tables>>);

impl Fake {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap()
    }

    pub(super) fn start(&self, tuning: &Tuning) {
        let mut tables = self.tables();
        let needed = needs::features(&tables.memory.observe().unwrap());
        tables.tuning = Tuning { features: tuning.features | needed, ..*tuning };
    }
}

impl Dataplane for Fake {
    fn observe(&mut self) -> Result<State, Error> {
        self.tables().observed += 1;
        self.tables().memory.observe()
    }

    fn apply(&mut self, op: &Op) -> Result<(), Error> {
        let mut tables = self.tables();
        tables.applied += 1;
        if let Some(meanwhile) = tables.meanwhile.take() {
            meanwhile();
        }
        if tables.broken {
            return Err(Error::Injected(0));
        }
        tables.memory.apply(op)?;
        check_tables(&tables.memory, &tables.memory.clone().observe()?);
        let needed = needs::features(&tables.memory.observe()?);
        assert_eq!(needed & !tables.tuning.features, 0, "the program cannot do what {op:?} asks of it");
        Ok(())
    }

    fn ring_in_force(&self, vip: &Vip) -> Vec<u16> {
        self.tables().memory.ring_in_force(vip)
    }

    fn history(&self, vip: &Vip) -> Vec<u16> {
        self.tables().memory.history(vip)
    }

    fn write_slots(&mut self, base: u32, slots: &[(u32, u16)]) -> Result<(), Error> {
        self.tables().memory.write_slots(base, slots)
    }

    fn walk_flows(&mut self, keep: &mut dyn FnMut(FlowEntry) -> bool) {
        self.tables().memory.walk_flows(keep);
    }

    fn strays_lost(&mut self) -> Result<u64, Error> {
        self.tables().memory.strays_lost()
    }

    fn counters(&mut self) -> Result<Counters, Error> {
        let mut tables = self.tables();
        tables.counted += 1;
        std::thread::sleep(tables.slow);
        let mut counters = tables.memory.counters()?;
        if let Some(told) = &tables.told {
            (counters.verdicts, counters.path) = (told.verdicts.clone(), told.path.clone());
        }
        Ok(counters)
    }

    fn counted(&mut self, targets: &[u32]) -> Result<BTreeMap<u32, TargetCounters>, Error> {
        self.tables().memory.counted(targets)
    }

    fn flows(&mut self, rule: Liveness) -> Result<FlowCount, Error> {
        let mut tables = self.tables();
        tables.flows_counted += 1;
        if tables.uncountable {
            return Err(Error::Injected(0));
        }
        tables.memory.flows(rule)
    }

    fn forget_ended(&mut self, rule: Liveness, part: u32) -> u64 {
        self.tables().memory.forget_ended(rule, part)
    }
}

impl Engine for Fake {
    fn tuning(&self) -> Tuning {
        self.tables().tuning
    }

    fn now(&self) -> u32 {
        Liveness::now(0).now.wrapping_add(self.tables().ahead)
    }

    fn takes_multi_buffer(&self) -> bool {
        true
    }

    fn retune(&mut self, tuning: &Tuning) -> Result<(), InstallError> {
        let mut tables = self.tables();
        if tables.refused_seed == Some(tuning.hash_seed) || tables.refused_features & tuning.features != 0 {
            return Err(InstallError("the kernel says no".into()));
        }
        let applied = tables.applied;
        tables.retuned.push((applied, *tuning));
        tables.tuning = *tuning;
        let needed = needs::features(&tables.memory.observe().unwrap());
        assert_eq!(needed & !tuning.features, 0, "the program cannot do what the tables ask of it");
        Ok(())
    }

    fn room(&self) -> Room {
        let mut tables = self.tables();
        let capacity = tables.memory.observe().unwrap().capacity;
        Room { capacity, flow_entries: tables.flow_entries }
    }

    fn resize(&mut self, room: &Room) -> Result<(), InstallError> {
        let mut tables = self.tables();
        if tables.no_memory {
            return Err(InstallError("there is no memory".into()));
        }
        tables.resized.push(*room);
        tables.memory.resize(room.capacity);
        tables.flow_entries = room.flow_entries;
        Ok(())
    }

    fn require(&self, interfaces: &[Interface]) -> Result<(), InstallError> {
        let missing = interfaces.iter().find(|one| one.name == "missing");
        missing.map_or(Ok(()), |one| Err(InstallError(format!("there is no interface {}", one.name).into())))
    }

    fn attach(&mut self, interfaces: &[Interface]) -> Result<Vec<Attached>, InstallError> {
        self.tables().bound.push(interfaces.to_vec());
        if interfaces.iter().any(|one| one.name == "taken") {
            return Err(InstallError("another program runs there".into()));
        }
        Ok(interfaces.iter().map(|one| attached(&one.name)).collect())
    }

    fn keep_by(&mut self, grip: Grip) -> Result<(), InstallError> {
        self.tables().grips.push(grip);
        Ok(())
    }

    fn beat(&mut self) -> Result<(), Error> {
        self.tables().beats += 1;
        Ok(())
    }

    fn lost(&self, _: &DataplaneConfig) -> BTreeMap<String, u32> {
        self.tables().lost.clone()
    }

    fn carry_probes(&mut self, settings: Option<&ProbeSettings>) -> Result<(), ProbeError> {
        let mut tables = self.tables();
        if let (Some(settings), Some(table)) = (settings, tables.mark_taken) {
            return Err(ProbeError::Taken { tag: settings.tag, table });
        }
        tables.carried = settings.cloned();
        Ok(())
    }

    fn carries_probes(&self, settings: Option<&ProbeSettings>) -> bool {
        self.tables().carried.as_ref() == settings
    }

    fn answerable(&self) -> Vec<(u32, IpAddr)> {
        Vec::new()
    }

    fn filters_answers(&self, _: u32, _: Ipv4Addr) -> Option<String> {
        None
    }

    fn attach_again(&mut self, settings: &DataplaneConfig) -> (Vec<Attached>, Result<(), AttachError>) {
        let mut tables = self.tables();
        // An interface with a number is there to be bound.
        tables.lost.retain(|_, index| *index == 0);
        let in_force = settings.interfaces.iter().filter(|one| !tables.lost.contains_key(&one.name));
        let gone = tables.lost.keys().next().cloned();
        let gone = gone.map(|name| AttachError::NoInterface { name, existing: String::new() });
        (in_force.map(|one| attached(&one.name)).collect(), gone.map_or(Ok(()), Err))
    }
}

pub(super) fn attached(interface: &str) -> Attached {
    Attached { interface: interface.into(), mode: "native" }
}
