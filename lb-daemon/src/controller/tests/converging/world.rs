//! A controller and what is true around it: what checks and next hops would find, and what operators ordered.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::{
    controller::tests::rig::{PIN_PATH, Rig, config},
    health::Standing,
    model::overrides::{BackendName, BackendOrder, Order, StateOverride},
    nexthop::{self, NextHop},
    state::Folder,
};

/// Backends that there are.
const BACKENDS: u8 = 6;
/// Names of the pools, which may share backends.
const POOLS: [&str; 2] = ["a", "b"];
/// Addresses of the VIPs, with their ports.
const VIPS: [(&str, u16); 4] = [("192.0.2.10", 80), ("192.0.2.10", 81), ("2001:db8::10", 80), ("198.51.100.0/24", 80)];

/// Backends of a pool: weight and state by number.
type Backends = BTreeMap<u8, (u32, &'static str)>;

/// A configuration, in short.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// For each pool whether it is checked, and its backends.
    pools: [(bool, Backends); 2],
    /// By number in [`VIPS`].
    vips: BTreeMap<usize, VipSpec>,
    deny: bool,
}

/// A VIP, in short.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for a key of the file")]
struct VipSpec {
    pool: usize,
    gue: bool,
    routes: bool,
    deny: bool,
    drops: bool,
    server_ids: bool,
    panic: u8,
}

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A configuration is put in force.
    Config(Arc<Spec>),
    /// Checks of a backend pass or fail from now on.
    Up(u8, bool),
    /// A backend is reached by this way, or by none.
    Way(u8, Option<u8>),
    /// An operator orders.
    Order(Order),
    /// The daemon ends and starts again.
    Restart,
    /// The op after so many others fails.
    Fail(usize),
}

pub(super) struct World {
    pub(super) rig: Rig,
    _folder: TempDir,
    text: String,
    up: BTreeMap<IpAddr, bool>,
    ways: BTreeMap<IpAddr, Option<u8>>,
}

impl World {
    /// A controller that has served this configuration for a while.
    pub(super) async fn begin(spec: &Spec) -> Self {
        let backends = || (0..BACKENDS).map(address);
        let up = backends().map(|address| (address, true)).collect();
        let ways = backends().map(|address| (address, Some(1))).collect();
        Self::of(spec.text(), up, ways).await
    }

    async fn of(text: String, up: BTreeMap<IpAddr, bool>, ways: BTreeMap<IpAddr, Option<u8>>) -> Self {
        let folder = TempDir::new().unwrap();
        let rig = Rig::kept(&text, Folder::of(folder.path(), Path::new(PIN_PATH)));
        let world = Self { rig, _folder: folder, text, up, ways };
        world.tell();
        world.rig.settle().await;
        world
    }

    /// A controller over empty tables, of which the same is true.
    pub(super) async fn afresh(&self) -> Self {
        let world = Self::of(self.text.clone(), self.up.clone(), self.ways.clone()).await;
        let overrides = self.rig.handle.snapshot().overrides.clone();
        for (name, given) in &overrides.backends {
            let weight = given.weight.map(|weight| BackendOrder::Weigh(Some(weight)));
            let state = given.state.map(|state| match state {
                StateOverride::Active => BackendOrder::Enable,
                _ => BackendOrder::Disable,
            });
            for order in weight.into_iter().chain(state) {
                // What the configuration does not have is no matter.
                let _ = world.rig.handle.order(Order::Backend(name.clone(), order), None).await;
            }
        }
        for name in overrides.vips.keys() {
            let _ = world.rig.handle.order(Order::DisableVip(name.clone()), None).await;
        }
        world.tell();
        world.rig.settle().await;
        world
    }

    /// Returns whether the step left something to be tried again.
    pub(super) async fn take(&mut self, step: &Step) -> bool {
        match step {
            Step::Config(spec) => {
                self.text = spec.text();
                return self.rig.reload(config(&self.text)).await.unwrap().pending.is_some();
            }
            Step::Up(backend, up) => drop(self.up.insert(address(*backend), *up)),
            Step::Way(backend, way) => drop(self.ways.insert(address(*backend), *way)),
            // One that names what there is not is refused.
            Step::Order(order) => drop(self.rig.handle.order(order.clone(), None).await),
            Step::Restart => self.rig.begin_anew(&self.text).await,
            Step::Fail(after) => self.rig.tables().memory.fail_after(*after),
        }
        false
    }

    /// No op fails any more.
    pub(super) fn heal(&self) {
        self.rig.tables().memory.fail_after(1_000_000);
    }

    /// Reports what is true of all that the controller asked for.
    pub(super) fn tell(&self) {
        let standing = |up| Standing { up, ..Standing::default() };
        let checks = self.rig.checks.borrow().clone();
        let view = checks.keys().map(|member| (*member, standing(self.up[&member.backend]))).collect();
        self.rig.health.send_replace(Arc::new(view));
        let targets = self.rig.hop_targets.borrow().clone();
        let hops = targets.into_iter().map(|address| (address, self.ways[&address].map(hop))).collect();
        self.rig.hops.send_replace(Arc::new(nexthop::Snapshot { hops, ..nexthop::Snapshot::default() }));
    }
}

fn address(backend: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, backend + 1).into()
}

fn hop(way: u8) -> NextHop {
    let mac = [2, 0, 0, 0, 1, way];
    NextHop { ifindex: 2, source_mac: [2; 6], mac, mtu: 1500, tags: [[0; 4]; 2], on_link: false }
}

impl Spec {
    /// Two that differ in nearly all.
    pub(super) fn sample(which: u8) -> Self {
        let pool = |from: u8| (0..3).map(|number| (from + number, (u32::from(number) + 1, "active"))).collect();
        let vip = |pool, routes| VipSpec {
            pool,
            routes,
            gue: which == 1,
            deny: which == 1,
            drops: which == 0,
            server_ids: routes,
            panic: 0,
        };
        let number = usize::from(which);
        Self {
            pools: [(true, pool(which)), (false, pool(3 - which))],
            vips: [(number, vip(0, true)), (2, vip(1, which == 1)), (3, vip(number, false))].into(),
            deny: which == 0,
        }
    }

    fn text(&self) -> String {
        let deny = |deny| if deny { "deny = [\"203.0.113.0/25\"]\n" } else { "" };
        let mut text = format!("[dataplane]\ninterfaces = [\"eth0\"]\nring_size = 251\n{}", deny(self.deny));
        for (name, (checked, backends)) in POOLS.iter().zip(&self.pools) {
            writeln!(text, "[pool.{name}]\nbackends = [").unwrap();
            for (number, (weight, state)) in backends {
                let (address, id) = (address(*number), u32::from(*number) + 1);
                write!(text, "{{ name = \"{name}-{number}\", address = \"{address}\", weight = {weight}, ").unwrap();
                writeln!(text, "state = \"{state}\", server_id = {id} }},").unwrap();
            }
            let check = if *checked { "type = \"tcp\"\ntimeout = \"1s\"" } else { "type = \"none\"" };
            writeln!(text, "]\n[pool.{name}.health]\n{check}").unwrap();
        }
        for (number, vip) in &self.vips {
            let (address, port) = VIPS[*number];
            let (pool, other) = (POOLS[vip.pool], POOLS[1 - vip.pool]);
            write!(text, "[[vip]]\nname = \"v{number}\"\naddress = \"{address}\"\nport = {port}\nprotocol = \"tcp\"\n")
                .unwrap();
            write!(text, "pool = \"{pool}\"\npanic_threshold = \"{}%\"\n{}", vip.panic, deny(vip.deny)).unwrap();
            let keys = [
                (vip.gue, "encap = \"gue\""),
                (vip.drops, "unknown_port = \"drop\""),
                (vip.server_ids, "tcp_server_id = true"),
            ];
            keys.iter().filter(|(set, _)| *set).for_each(|(_, key)| writeln!(text, "{key}").unwrap());
            if vip.routes {
                writeln!(text, "source_routes = [{{ source = \"203.0.113.0/24\", pool = \"{other}\" }}]").unwrap();
            }
        }
        text
    }
}

fn any_pool() -> impl Strategy<Value = (bool, Backends)> {
    let state = prop_oneof![6 => Just("active"), 1 => Just("drain"), 1 => Just("disabled")];
    (any::<bool>(), prop::collection::btree_map(0..BACKENDS, (0_u32..4, state), 1..5))
}

fn any_vip() -> impl Strategy<Value = VipSpec> {
    let rarely = || prop::bool::weighted(0.2);
    let panic = prop_oneof![3 => Just(0_u8), 1 => Just(60)];
    (0..2_usize, rarely(), prop::bool::weighted(0.4), rarely(), rarely(), rarely(), panic).prop_map(
        |(pool, gue, routes, deny, drops, server_ids, panic)| VipSpec {
            pool,
            gue,
            routes,
            deny,
            drops,
            server_ids,
            panic,
        },
    )
}

pub(super) fn any_spec() -> impl Strategy<Value = Spec> {
    let vips = prop::collection::btree_map(0..VIPS.len(), any_vip(), 1..=VIPS.len());
    (any_pool(), any_pool(), vips, prop::bool::weighted(0.2)).prop_map(|(a, b, vips, deny)| Spec {
        pools: [a, b],
        vips,
        deny,
    })
}

fn any_order() -> impl Strategy<Value = Order> {
    let order = prop_oneof![
        Just(BackendOrder::Enable),
        Just(BackendOrder::Disable),
        prop::option::of(0_u32..5).prop_map(BackendOrder::Weigh),
    ];
    let backend = (prop::sample::select(POOLS.to_vec()), 0..BACKENDS, order).prop_map(|(pool, number, order)| {
        Order::Backend(BackendName { pool: pool.into(), name: format!("{pool}-{number}") }, order)
    });
    let vip = (0..VIPS.len(), any::<bool>()).prop_map(|(number, disable)| {
        let name = format!("v{number}");
        if disable { Order::DisableVip(name) } else { Order::EnableVip(name) }
    });
    prop_oneof![3 => backend, 1 => vip]
}

/// Any step; one that makes an op fail only if `fails`.
pub(super) fn any_step(fails: bool) -> impl Strategy<Value = Step> {
    let fail = if fails { (0_usize..40).prop_map(Step::Fail).boxed() } else { Just(Step::Restart).boxed() };
    prop_oneof![
        3 => any_spec().prop_map(|spec| Step::Config(Arc::new(spec))),
        4 => (0..BACKENDS, any::<bool>()).prop_map(|(backend, up)| Step::Up(backend, up)),
        2 => (0..BACKENDS, prop::option::weighted(0.7, 1_u8..4)).prop_map(|(backend, way)| Step::Way(backend, way)),
        3 => any_order().prop_map(Step::Order),
        1 => fail,
        1 => Just(Step::Restart),
    ]
}
