//! A controller over tables in memory, with the test in the place of checks, next hops and clock.

mod engine;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use lb_common::{
    layout::{counter::TargetCounters, vip::VipKey},
    maps::Tuning,
};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

pub(crate) use self::engine::{Counted, Tables};
use self::engine::{Fake, attached};
use crate::{
    config::{self, Bundle},
    controller::{
        Asked, By, Controller, Handle, ReloadError, Reloaded, StartError, Terms, Wires, history::History, hop_targets,
        overrides::Keeper, tuning::tuning,
    },
    dataplane::memory::Memory,
    health::{Checks, Ejections, HealthView, Hindered, Standing},
    model::Config,
    nexthop::{self, NextHop},
    plan::{Capacity, wanted::key},
    state::{Author, Folder, Origin},
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
probe = "direct"
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

/// A running controller.
pub(crate) struct Rig {
    /// The way to it.
    pub(crate) handle: Handle,
    tables: Arc<Mutex<Tables>>,
    /// Where it keeps what must outlive it.
    folder: Option<Folder>,
    pub(crate) health: watch::Sender<Arc<HealthView>>,
    pub(crate) hops: watch::Sender<Arc<nexthop::Snapshot>>,
    /// Checks that it asked for.
    pub(crate) checks: watch::Receiver<Arc<Checks>>,
    /// Who is ejected.
    pub(crate) ejections: watch::Receiver<Arc<Ejections>>,
    /// Addresses that it asked next hops for.
    pub(crate) hop_targets: watch::Receiver<BTreeSet<IpAddr>>,
    /// Checks that cannot be made.
    pub(crate) hindered: watch::Sender<Arc<Hindered>>,
    /// Whether the process that runs programs is gone.
    pub(crate) runner_gone: watch::Sender<bool>,
    /// Where the controller keeps what outlives it.
    pub(crate) state_dir: Arc<TempDir>,
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

/// Where the tables are said to be pinned.
pub(crate) const PIN_PATH: &str = "/sys/fs/bpf/none";

fn state_dir() -> Arc<TempDir> {
    Arc::new(TempDir::new().unwrap())
}

fn bundle(text: &str) -> Bundle {
    Bundle::of("/etc/lb.toml", text)
}

/// The configuration of a text.
pub(crate) fn config(text: &str) -> Config {
    config::parse(text, "lb.toml").unwrap_or_else(|complaints| panic!("{complaints}"))
}

impl Rig {
    /// A controller over empty tables that has just begun; nothing was reported to it.
    pub(crate) fn new(text: &str) -> Self {
        Self::over(tables(ROOMY), state_dir(), text, None).unwrap()
    }

    /// The same, which keeps its overrides in a folder.
    pub(crate) fn kept(text: &str, folder: Folder) -> Self {
        Self::over(tables(ROOMY), state_dir(), text, Some(folder)).unwrap()
    }

    /// A controller with next hops for all, and all checks passed.
    pub(crate) async fn serving(text: &str) -> Self {
        Self::new(text).served().await
    }

    /// The same once next hops are known for all, and all checks are passed.
    pub(crate) async fn served(self) -> Self {
        self.report_all(true);
        self.settle().await;
        assert_eq!(self.handle.snapshot().problems(), Vec::<String>::new());
        self
    }

    fn over(
        tables: Arc<Mutex<Tables>>,
        state_dir: Arc<TempDir>,
        text: &str,
        folder: Option<Folder>,
    ) -> Result<Self, StartError> {
        let (checks_in, checks) = watch::channel(Arc::default());
        let (health, health_out) = watch::channel(Arc::default());
        let (targets_in, hop_targets) = watch::channel(BTreeSet::new());
        let (hops, hops_out) = watch::channel(Arc::default());
        let (ways, _) = watch::channel(Arc::default());
        let (gone, runner_gone) = watch::channel(false);
        let (hindered_in, hindered) = watch::channel(Arc::default());
        let (ejections_in, ejections) = watch::channel(Arc::default());
        let wires = Wires {
            checks: checks_in,
            ways,
            health: health_out,
            hindered,
            ejections: ejections_in,
            hop_targets: targets_in,
            hops: hops_out,
            has_runner: config(text).needs_runner().is_some(),
            runner_gone,
        };
        // As a daemon starts: with what the configuration needs, and what the tables do.
        let keeper = folder.clone().map(Keeper::restore).unwrap_or_default();
        let engine = Fake(Arc::clone(&tables));
        let (history, config) = History::begin(state_dir.path(), Path::new(PIN_PATH), &bundle(text), config(text));
        engine.start(&tuning(&config));
        let (controller, handle) = Controller::new(engine, config, history, vec![attached("eth0")], keeper, wires)?;
        let task = tokio::spawn(controller.run());
        Ok(Self {
            handle,
            tables,
            folder,
            health,
            hops,
            checks,
            ejections,
            hop_targets,
            hindered: hindered_in,
            runner_gone: gone,
            state_dir,
            task,
        })
    }

    /// Reloads this configuration; its texts are made up.
    pub(crate) async fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        let bundle = bundle(&format!("{config:?}"));
        let by = By { file_digest: Some(bundle.digest()), ..By::default() };
        self.handle.change(Asked { config, bundle, by, origin: Origin::Reload, terms: Terms::default() }).await
    }

    /// Applies this text, while the file says something else.
    pub(crate) async fn apply(&self, text: &str, confirm: Option<Duration>) -> Result<Reloaded, ReloadError> {
        self.apply_on(text, Terms { confirm, ..Terms::default() }).await
    }

    /// The same, on such terms.
    pub(crate) async fn apply_on(&self, text: &str, terms: Terms) -> Result<Reloaded, ReloadError> {
        let by = By { author: Author { uid: Some(7), name: Some("ada".into()) }, ..By::default() };
        let (config, bundle) = (config(text), bundle(text));
        self.handle.change(Asked { config, bundle, by, origin: Origin::Apply, terms }).await
    }

    /// A controller over tables of these sizes, or why it does not begin.
    pub(crate) fn within(capacity: Capacity, text: &str) -> Result<Self, StartError> {
        Self::over(tables(capacity), state_dir(), text, None)
    }

    /// Ends this controller and begins another over the same tables.
    pub(crate) async fn restart(mut self, text: &str) -> Self {
        self.begin_anew(text).await;
        self
    }

    /// The same, in place.
    pub(crate) async fn begin_anew(&mut self, text: &str) {
        self.handle.stop().await;
        (&mut self.task).await.unwrap();
        let (tables, state_dir) = (Arc::clone(&self.tables), Arc::clone(&self.state_dir));
        *self = Self::over(tables, state_dir, text, self.folder.clone()).unwrap();
    }

    /// The same, but the controller dies wherever it is.
    pub(crate) async fn crash(self, text: &str) -> Self {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        Self::over(self.tables, self.state_dir, text, self.folder).unwrap()
    }

    /// The tables.
    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap()
    }

    /// Reports next hops for all that were asked for, and the same result for all checks.
    pub(crate) fn report_all(&self, up: bool) {
        self.resolve_all();
        let standing = Standing { up, reason: "as the test says".into(), ..Standing::default() };
        let view = self.checks.borrow().keys().map(|member| (*member, standing.clone())).collect();
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
        self.report_as(backend, &Standing { up, reason: "as the test says".into(), ..Standing::default() });
    }

    /// Reports this of a backend, by its address, for all VIPs.
    pub(crate) fn report_as(&self, backend: &str, standing: &Standing) {
        let backend: IpAddr = backend.parse().unwrap();
        let checks = self.checks.borrow().clone();
        self.health.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.extend(
                checks.keys().filter(|member| member.backend == backend).map(|member| (*member, standing.clone())),
            );
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
        flows_counted: 0,
        slow: Duration::ZERO,
        told: None,
        applied: 0,
        meanwhile: None,
        broken: false,
        uncountable: false,
        tuning: Tuning::default(),
        retuned: Vec::new(),
        bound: Vec::new(),
        grips: Vec::new(),
        beats: 0,
        lost: BTreeMap::new(),
        refused_seed: None,
        refused_features: 0,
        flow_entries: 1_048_576,
        resized: Vec::new(),
        carried: None,
        mark_taken: None,
        no_memory: false,
        ahead: 0,
    }))
}
