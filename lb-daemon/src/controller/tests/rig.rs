//! A controller over tables in memory, with the test in the place of checks, next hops and clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use lb_common::{
    layout::{
        counter::{TargetCounters, VerdictCounters},
        vip::{Vip, VipKey},
    },
    maps::Tuning,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    config,
    controller::{
        Attached, Checks, Controller, Engine, Handle, InstallError, StartError, Wires, hop_targets, tuning::tuning,
    },
    dataplane::{Counters, Dataplane, Error, FlowCount, kernel::AttachError, memory::Memory, needs},
    health::{HealthView, Status},
    model::{Config, DataplaneConfig, Interface},
    nexthop::{self, NextHop},
    plan::{Capacity, Op, State, wanted::key},
};

/// Two VIPs over one checked pool of three, and one VIP over an unchecked pool.
pub(crate) const TEXT: &str = r#"
[dataplane]
interfaces = ["eth0"]
ring_size = 251

[pool.web]
backends = [
  { name = "web-1", address = "10.0.0.1" },
  { name = "web-2", address = "10.0.0.2" },
  { name = "web-3", address = "10.0.0.3" },
]
[pool.web.health]
type = "tcp"
timeout = "1s"

[pool.dns]
backends = [{ name = "dns-1", address = "10.0.1.1" }]
[pool.dns.health]
type = "none"

[[vip]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
pool = "web"

[[vip]]
name = "web-v6"
address = "2001:db8::10"
port = 80
protocol = "tcp"
pool = "web"

[[vip]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
pool = "dns"
"#;

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
    /// How long that takes.
    pub(crate) slow: Duration,
    /// Counters of verdicts and events in place of those that there are.
    pub(crate) told: Option<Counted>,
    /// What happens while the next op is applied.
    pub(crate) meanwhile: Option<Box<dyn FnOnce() + Send>>,
    /// Every op fails.
    pub(crate) broken: bool,
    /// Parameters of the program in force.
    pub(crate) tuning: Tuning,
    /// Those of the programs that were put in force, with the number of ops that had been asked for.
    pub(crate) retuned: Vec<(usize, Tuning)>,
    /// Interfaces that were asked for.
    pub(crate) bound: Vec<Vec<Interface>>,
    /// Interfaces that the program was lost from.
    pub(crate) lost: BTreeMap<String, u32>,
    /// A hash seed that no program can be loaded with.
    pub(crate) refused_seed: Option<u64>,
    /// Features that no program can be loaded with.
    pub(crate) refused_features: u32,
}

/// The engine's end of shared tables.
pub(crate) struct Fake(Arc<Mutex<Tables>>);

impl Fake {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap()
    }

    fn start(&self, tuning: &Tuning) {
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
        let needed = needs::features(&tables.memory.observe()?);
        assert_eq!(needed & !tables.tuning.features, 0, "the program cannot do what {op:?} asks of it");
        Ok(())
    }

    fn ring(&self, vip: &Vip) -> Vec<u16> {
        self.tables().memory.ring(vip)
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

    fn flows(&mut self) -> Result<FlowCount, Error> {
        self.tables().memory.flows()
    }
}

impl Engine for Fake {
    fn tuning(&self) -> Tuning {
        self.tables().tuning
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

    fn attach(&mut self, interfaces: &[Interface]) -> Result<Vec<Attached>, InstallError> {
        self.tables().bound.push(interfaces.to_vec());
        if interfaces.iter().any(|one| one.name == "nosuch") {
            return Err(InstallError("there is no such interface".into()));
        }
        Ok(interfaces.iter().map(|one| attached(&one.name)).collect())
    }

    fn lost(&self, _: &DataplaneConfig) -> BTreeMap<String, u32> {
        self.tables().lost.clone()
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

fn attached(interface: &str) -> Attached {
    Attached { interface: interface.into(), mode: "native" }
}

/// A running controller.
pub(crate) struct Rig {
    /// The way to it.
    pub(crate) handle: Handle,
    tables: Arc<Mutex<Tables>>,
    pub(crate) health: watch::Sender<Arc<HealthView>>,
    pub(crate) hops: watch::Sender<Arc<nexthop::Snapshot>>,
    /// Checks that it asked for.
    pub(crate) checks: watch::Receiver<Arc<Checks>>,
    /// Addresses that it asked next hops for.
    pub(crate) hop_targets: watch::Receiver<BTreeSet<IpAddr>>,
    task: JoinHandle<()>,
}

/// Room enough for what the tests configure.
pub(crate) const ROOMY: Capacity = Capacity {
    vips: 16,
    targets: 256,
    ring_blocks: 256,
    groups: 16,
    servers: 64,
    prefixes: 64,
    tunnel_sources: 8,
    own: 8,
};

/// The configuration of a text.
pub(crate) fn config(text: &str) -> Config {
    config::parse(text, "lb.toml").unwrap_or_else(|complaints| panic!("{complaints}"))
}

impl Rig {
    /// A controller over empty tables that has just begun; nothing was reported to it.
    pub(crate) fn new(text: &str) -> Self {
        Self::over(tables(ROOMY), text).unwrap()
    }

    /// A controller with next hops for all, and all checks passed.
    pub(crate) async fn serving(text: &str) -> Self {
        let rig = Self::new(text);
        rig.report_all(true);
        rig.settle().await;
        assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
        rig
    }

    fn over(tables: Arc<Mutex<Tables>>, text: &str) -> Result<Self, StartError> {
        let (checks_in, checks) = watch::channel(Arc::default());
        let (health, health_out) = watch::channel(Arc::default());
        let (targets_in, hop_targets) = watch::channel(BTreeSet::new());
        let (hops, hops_out) = watch::channel(Arc::default());
        let wires = Wires { checks: checks_in, health: health_out, hop_targets: targets_in, hops: hops_out };
        // As a daemon starts: with what the configuration needs, and what the tables do.
        let engine = Fake(Arc::clone(&tables));
        engine.start(&tuning(&config(text)));
        let (controller, handle) = Controller::new(engine, config(text), vec![attached("eth0")], wires)?;
        let task = tokio::spawn(controller.run());
        Ok(Self { handle, tables, health, hops, checks, hop_targets, task })
    }

    /// A controller over tables of these sizes, or why it does not begin.
    pub(crate) fn within(capacity: Capacity, text: &str) -> Result<Self, StartError> {
        Self::over(tables(capacity), text)
    }

    /// Ends this controller and begins another over the same tables.
    pub(crate) async fn restart(self, text: &str) -> Self {
        self.handle.stop().await;
        self.task.await.unwrap();
        Self::over(self.tables, text).unwrap()
    }

    /// The tables.
    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap()
    }

    /// Reports next hops for all that were asked for, and the same result for all checks.
    pub(crate) fn report_all(&self, up: bool) {
        self.resolve_all();
        let status = Status { up, last: "as the test says".into(), ..Status::default() };
        let view = self.checks.borrow().keys().map(|check| (*check, status.clone())).collect();
        self.health.send_replace(Arc::new(view));
    }

    /// Reports next hops for all that were asked for.
    pub(crate) fn resolve_all(&self) {
        let hop = |number: usize| NextHop {
            ifindex: 2,
            source_mac: [2, 0, 0, 0, 0, 1],
            mac: [2, 0, 0, 0, 1, u8::try_from(number).unwrap()],
            mtu: 1500,
            tags: [[0; 4]; 2],
            on_link: false,
        };
        let targets = hop_targets(&self.handle.snapshot().config);
        let hops = targets.into_iter().enumerate().map(|(number, address)| (address, Some(hop(number)))).collect();
        self.hops.send_replace(Arc::new(nexthop::Snapshot { hops, ..nexthop::Snapshot::default() }));
    }

    /// Reports that an address has no way.
    pub(crate) fn lose(&self, address: &str, why: nexthop::Unreachable) {
        let address = address.parse().unwrap();
        self.hops.send_modify(|snapshot| {
            let snapshot = Arc::make_mut(snapshot);
            snapshot.hops.insert(address, None);
            snapshot.reasons.insert(address, why);
        });
    }

    /// Reports a result of all checks of a backend.
    pub(crate) fn report(&self, backend: &str, up: bool) {
        let backend: IpAddr = backend.parse().unwrap();
        let status = Status { up, last: "as the test says".into(), ..Status::default() };
        let checks = self.checks.borrow().clone();
        self.health.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.extend(checks.keys().filter(|check| check.backend == backend).map(|check| (*check, status.clone())));
        });
    }

    /// Lets the controller take up what was reported.
    pub(crate) async fn settle(&self) {
        sleep(Duration::from_millis(50)).await;
    }

    /// Waits until a time since `start`.
    pub(crate) async fn until(&self, start: Instant, since: Duration) {
        tokio::time::sleep_until(start + since).await;
    }

    /// Key of a VIP, by its name.
    pub(crate) fn key(&self, vip: &str) -> VipKey {
        let snapshot = self.handle.snapshot();
        key(&snapshot.vips.iter().find(|view| view.name == vip).unwrap().service)
    }

    /// Targets that take new flows of a VIP, by the tables' rings: what a packet would meet.
    pub(crate) fn steered_to(&self, vip: &str) -> BTreeSet<u32> {
        let key = self.key(vip);
        let tables = self.tables();
        (0..251).filter_map(|slot| tables.memory.route(&key, slot)).map(|(id, _)| id).collect()
    }

    /// Number of the target of a VIP's backend.
    pub(crate) fn target(&self, vip: &str, backend: &str) -> u32 {
        let snapshot = self.handle.snapshot();
        let view = snapshot.vips.iter().find(|view| view.name == vip).unwrap();
        view.backends.iter().find(|view| view.name == backend).unwrap().target.unwrap()
    }

    /// Counts packets at a target, as the program does.
    pub(crate) fn count(&self, target: u32, packets: u64) {
        let mut tables = self.tables();
        let counters: &mut TargetCounters = tables.memory.target_counters(target).unwrap();
        counters.packets += packets;
    }
}

fn tables(capacity: Capacity) -> Arc<Mutex<Tables>> {
    Arc::new(Mutex::new(Tables {
        memory: Memory::new(capacity, 8),
        observed: 0,
        counted: 0,
        slow: Duration::ZERO,
        told: None,
        applied: 0,
        meanwhile: None,
        broken: false,
        tuning: Tuning::default(),
        retuned: Vec::new(),
        bound: Vec::new(),
        lost: BTreeMap::new(),
        refused_seed: None,
        refused_features: 0,
    }))
}
