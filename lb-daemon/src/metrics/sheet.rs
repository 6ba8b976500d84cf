//! One reading of everything, kept as figures: of a hundred thousand backends they take a fifth of what their text does.

use std::sync::Arc;

use lb_common::layout::counter::TargetCounters;
use prometheus::{
    Registry,
    proto::{Metric, MetricFamily},
};

use super::{
    collect::Collected,
    families::{self as f, Family},
};
use crate::{
    api::{types::Effect, view::effect},
    controller::{
        snapshot::{BackendView, Snapshot, VipView},
        totals::{Figures, Flows},
    },
};

/// The figures of one moment.
pub(super) struct Sheet {
    /// Families that are not of VIPs, sorted by name.
    pub(super) plain: Vec<MetricFamily>,
    /// By name.
    pub(super) vips: Vec<Vip>,
    /// By VIP and name.
    pub(super) backends: Vec<Backend>,
}

/// Figures of a VIP.
pub(super) struct Vip {
    name: Arc<str>,
    counted: TargetCounters,
    changed_slots: u64,
    up: bool,
    panics: bool,
    tracked_slots: u32,
}

/// Figures of a backend of a VIP.
pub(super) struct Backend {
    vip: Arc<str>,
    name: Box<str>,
    counted: TargetCounters,
    ejections: u64,
    entries: u64,
    weight: u32,
    up: bool,
    effect: Effect,
}

/// A family of a sheet's rows, and what a row says in it.
pub(super) type Column<R> = (Family, fn(&R) -> u64);

/// Families of VIPs.
pub(super) const OF_VIPS: [Column<Vip>; 7] = [
    (f::VIP_UP, |vip| vip.up.into()),
    (f::VIP_PANIC, |vip| vip.panics.into()),
    (f::VIP_PACKETS, |vip| vip.counted.packets),
    (f::VIP_BYTES, |vip| vip.counted.bytes),
    (f::VIP_FLOWS, |vip| vip.counted.flows_created),
    (f::RING_CHANGED, |vip| vip.changed_slots),
    (f::TRACKED_SLOTS, |vip| vip.tracked_slots.into()),
];

/// Families of backends, but for [`f::BACKEND_STATE`], in which each has a sample for each state.
pub(super) const OF_BACKENDS: [Column<Backend>; 10] = [
    (f::BACKEND_PACKETS, |backend| backend.counted.packets),
    (f::BACKEND_BYTES, |backend| backend.counted.bytes),
    (f::BACKEND_FLOWS, |backend| backend.counted.flows_created),
    (f::BACKEND_SYNS, |backend| backend.counted.syns),
    (f::BACKEND_SYN_RETRANSMITS, |backend| backend.counted.syn_retransmits),
    (f::BACKEND_HANDSHAKES, |backend| backend.counted.handshakes),
    (f::BACKEND_EJECTIONS, |backend| backend.ejections),
    (f::BACKEND_WEIGHT, |backend| backend.weight.into()),
    (f::BACKEND_UP, |backend| backend.up.into()),
    (f::BACKEND_ENTRIES, |backend| backend.entries),
];

impl Sheet {
    /// What is told of this reading, and what other parts of the daemon count of themselves.
    pub(super) fn new(
        snapshot: &Snapshot,
        figures: &Figures,
        flows: &Flows,
        counters: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(Collected::new(snapshot, figures, flows)?))?;
        let mut vips = Vec::with_capacity(snapshot.vips.len());
        let mut backends = Vec::with_capacity(snapshot.vips.iter().map(|vip| vip.backends.len()).sum());
        for view in &snapshot.vips {
            let vip = Vip::new(view, figures);
            backends.extend(view.backends.iter().map(|backend| Backend::new(&vip, view, backend, figures, flows)));
            vips.push(vip);
        }
        vips.sort_by(|a, b| a.name.cmp(&b.name));
        backends.sort_by(|a, b| (&a.vip, &a.name).cmp(&(&b.vip, &b.name)));
        Ok(Self { plain: [registry.gather(), counters.gather()].concat(), vips, backends })
    }

    /// How many samples it makes, those of plain families apart, of which there are few.
    pub(super) fn samples(&self) -> usize {
        self.vips.len() * OF_VIPS.len() + self.backends.len() * (OF_BACKENDS.len() + Effect::ALL.len())
    }
}

impl Vip {
    fn new(view: &VipView, figures: &Figures) -> Self {
        Self {
            name: view.name.as_str().into(),
            counted: figures.vips.get(&view.service).copied().unwrap_or_default(),
            changed_slots: figures.changed_slots.get(&view.service).copied().unwrap_or(0),
            up: view.is_up(),
            panics: view.panic().is_some(),
            tracked_slots: view.tracked_slots.unwrap_or(0),
        }
    }

    /// Its sample in a family.
    pub(super) fn metric(&self, (family, value): Column<Self>) -> Metric {
        family.sample(&[&self.name], value(self))
    }
}

impl Backend {
    fn new(vip: &Vip, view: &VipView, backend: &BackendView, figures: &Figures, flows: &Flows) -> Self {
        let pair = (view.service, backend.address);
        // Names are unique in a pool, and a source route may lead to another.
        let name = if backend.pool == view.pool {
            backend.name.as_str().into()
        } else {
            format!("{}/{}", backend.pool, backend.name).into()
        };
        Self {
            vip: Arc::clone(&vip.name),
            name,
            counted: figures.backends.get(&pair).copied().unwrap_or_default(),
            ejections: figures.ejections.get(&pair).copied().unwrap_or(0),
            entries: flows.backends.get(&pair).copied().unwrap_or(0),
            weight: backend.weight,
            up: backend.up == Some(true),
            effect: effect(backend.effect),
        }
    }

    /// Its sample in a family.
    pub(super) fn metric(&self, (family, value): Column<Self>) -> Metric {
        family.sample(&[&self.vip, &self.name], value(self))
    }

    /// Its samples in [`f::BACKEND_STATE`], by name of the state.
    pub(super) fn states(&self) -> impl Iterator<Item = Metric> {
        let mut states = Effect::ALL;
        states.sort_by_key(|state| state.name());
        let of = |state: Effect| {
            f::BACKEND_STATE.sample(&[&self.vip, &self.name, state.name()], (state == self.effect).into())
        };
        states.into_iter().map(of)
    }
}

#[cfg(test)]
impl Sheet {
    /// So many VIPs of so many backends, each of which counted its own number.
    pub(super) fn of(vips: usize, backends: usize) -> Self {
        let plain = |name: &str| {
            let mut family = Family { help: "Told once.", ..f::GENERATION }.with(vec![f::GENERATION.sample(&[], 1)]);
            family.set_name(name.into());
            family
        };
        let mut sheet = Self { plain: vec![plain("lb_a"), plain("lb_z")], vips: Vec::new(), backends: Vec::new() };
        for vip in 0..vips {
            let counted = TargetCounters { packets: vip as u64, ..TargetCounters::default() };
            let name: Arc<str> = format!("vip-{vip:04}").into();
            for backend in 0..backends {
                let counted = TargetCounters { packets: (vip * backends + backend) as u64, ..counted };
                let (vip, name) = (Arc::clone(&name), format!("backend-{backend:03}").into());
                let effect = Effect::ALL[backend % 3];
                sheet.backends.push(Backend {
                    vip,
                    name,
                    counted,
                    ejections: 0,
                    entries: 0,
                    weight: 100,
                    up: true,
                    effect,
                });
            }
            sheet.vips.push(Vip { name, counted, changed_slots: 0, up: true, panics: false, tracked_slots: 0 });
        }
        sheet
    }
}
