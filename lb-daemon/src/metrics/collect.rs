//! From a snapshot and counters to metric families.

use std::{collections::HashMap, mem, sync::Mutex, time::UNIX_EPOCH};

use lb_common::{
    layout::counter::{PathEvent, TargetCounters},
    verdict::Action,
};
use prometheus::{
    core::{Collector, Desc},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::families::{self as f, Family};
use crate::{
    api::{
        types::Effect,
        view::{effect, path_events, used_states, verdicts},
    },
    controller::{
        features,
        snapshot::{BackendView, Snapshot, VipView},
        totals::{Figures, Flows},
    },
};

/// One reading of everything, as a collector for one gathering.
pub(super) struct Collected {
    descriptions: Vec<Desc>,
    /// Handed out once: a copy of some ten thousand samples would double what a scrape takes.
    families: Mutex<Vec<MetricFamily>>,
}

impl Collected {
    /// Turns one reading into metric families.
    pub(super) fn new(snapshot: &Snapshot, figures: &Figures, flows: &Flows) -> Result<Self, prometheus::Error> {
        let describe = |family: &Family| {
            let labels = family.labels.iter().map(ToString::to_string).collect();
            Desc::new(family.name.into(), family.help.into(), labels, HashMap::new())
        };
        let descriptions = f::ALL.iter().map(describe).collect::<Result<_, _>>()?;
        let mut sheet = Sheet::default();
        sheet.daemon(snapshot);
        sheet.verdicts(figures);
        sheet.flow_table(figures, flows);
        for vip in &snapshot.vips {
            sheet.vip(vip, figures);
            for backend in &vip.backends {
                sheet.backend(vip, backend, figures, flows);
            }
        }
        Ok(Self { descriptions, families: Mutex::new(sheet.families()) })
    }
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families.lock().map(|mut families| mem::take(&mut *families)).unwrap_or_default()
    }
}

/// Samples by metric, in the order in which metrics first appear.
#[derive(Default)]
struct Sheet {
    metrics: Vec<(Family, Vec<Metric>)>,
}

impl Sheet {
    /// Adds a sample; `labels` are the values of the family's labels, in their order.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles; beyond 2^53 the last digits go")]
    fn add(&mut self, family: Family, labels: &[&str], value: u64) {
        self.add_exact(family, labels, value as f64);
    }

    /// As [`Sheet::add`], for what is no whole number.
    fn add_exact(&mut self, family: Family, labels: &[&str], value: f64) {
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(family.labels.iter().zip(labels).map(pair).collect());
        if family.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        match self.metrics.iter_mut().find(|(known, _)| known.name == family.name) {
            Some((_, metrics)) => metrics.push(metric),
            None => self.metrics.push((family, vec![metric])),
        }
    }

    fn families(self) -> Vec<MetricFamily> {
        let finish = |(family, metrics): (Family, Vec<Metric>)| {
            let mut finished = MetricFamily::default();
            finished.set_name(family.name.into());
            finished.set_help(family.help.into());
            finished.set_field_type(family.kind);
            finished.set_metric(metrics);
            finished
        };
        self.metrics.into_iter().map(finish).collect()
    }

    fn daemon(&mut self, snapshot: &Snapshot) {
        self.add(f::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        self.add(f::GENERATION, &[], snapshot.in_force.about.number);
        self.add(f::UNCONFIRMED, &[], snapshot.in_force.pending.is_some().into());
        self.add(f::DIFFERS_FROM_FILE, &[], snapshot.in_force.differs_from_file.into());
        self.add(f::RELOAD_SUCCESSFUL, &[], snapshot.last_reload.refused.is_none().into());
        let since = snapshot.last_reload.succeeded_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.add_exact(f::RELOAD_TIMESTAMP, &[], since.as_secs_f64());
        self.add(f::APPLY_FAILING, &[], snapshot.failing.is_some().into());
        self.add(f::OVERRIDES, &[], snapshot.overrides.len() as u64);
        for attached in &snapshot.attached {
            self.add(f::ATTACHED, &[&attached.interface, attached.mode], 1);
        }
        for (feature, on) in features::all(snapshot.features) {
            self.add(f::FEATURE, &[feature], on.into());
        }
    }

    fn verdicts(&mut self, figures: &Figures) {
        for (verdict, packets, bytes) in verdicts(figures) {
            self.add(f::PACKETS, &[verdict.label()], packets);
            self.add(f::VERDICT_BYTES, &[verdict.label()], bytes);
            if matches!(verdict.action(), Action::Drop | Action::Aborted) {
                self.add(f::DROPPED, &[verdict.label()], packets);
            }
        }
    }

    fn flow_table(&mut self, figures: &Figures, flows: &Flows) {
        self.add(f::FLOW_CAPACITY, &[], flows.capacity);
        for (state, entries) in used_states(&flows.by_state) {
            self.add(f::FLOW_ENTRIES, &[state.name()], entries);
        }
        self.add(f::FLOW_LIVE, &[], flows.live);
        self.add(f::FLOW_LOOKUPS, &["hit"], figures.hits);
        for (event, count) in path_events(figures) {
            match event {
                PathEvent::MissSyn | PathEvent::MissTcp | PathEvent::MissUdp | PathEvent::Expired => {
                    self.add(f::FLOW_LOOKUPS, &[event.name()], count);
                }
                PathEvent::Moved => {
                    self.add(f::FLOW_LOOKUPS, &[event.name()], count);
                    self.add(f::FLOWS_MOVED, &[], count);
                }
                PathEvent::Evicted => self.add(f::FLOW_EVICTIONS, &[], count),
                PathEvent::NotRemembered => self.add(f::FLOWS_NOT_REMEMBERED, &[], count),
                PathEvent::FragmentFirst
                | PathEvent::FragmentFollowed
                | PathEvent::FragmentLate
                | PathEvent::IcmpSteered
                | PathEvent::ServerIdRouted
                | PathEvent::ServerIdUnknown
                | PathEvent::ServerIdNone
                | PathEvent::SourceRouted
                | PathEvent::Resteered => self.add(f::PATH_EVENTS, &[event.name()], count),
            }
        }
    }

    fn vip(&mut self, vip: &VipView, figures: &Figures) {
        let counted = figures.vips.get(&vip.service).copied().unwrap_or_default();
        let labels = [vip.name.as_str()];
        self.add(f::VIP_PACKETS, &labels, counted.packets);
        self.add(f::VIP_BYTES, &labels, counted.bytes);
        self.add(f::VIP_FLOWS, &labels, counted.flows_created);
        self.add(f::RING_CHANGED, &labels, figures.changed_slots.get(&vip.service).copied().unwrap_or(0));
    }

    fn backend(&mut self, vip: &VipView, backend: &BackendView, figures: &Figures, flows: &Flows) {
        let pair = (vip.service, backend.address);
        let counted: TargetCounters = figures.backends.get(&pair).copied().unwrap_or_default();
        // Names are unique in a pool, and a source route may lead to another.
        let apart;
        let name = if backend.pool == vip.pool {
            &backend.name
        } else {
            apart = format!("{}/{}", backend.pool, backend.name);
            &apart
        };
        let labels = [vip.name.as_str(), name.as_str()];
        self.add(f::BACKEND_PACKETS, &labels, counted.packets);
        self.add(f::BACKEND_BYTES, &labels, counted.bytes);
        self.add(f::BACKEND_FLOWS, &labels, counted.flows_created);
        self.add(f::BACKEND_SYNS, &labels, counted.syns);
        self.add(f::BACKEND_SYN_RETRANSMITS, &labels, counted.syn_retransmits);
        self.add(f::BACKEND_HANDSHAKES, &labels, counted.handshakes);
        self.add(f::BACKEND_WEIGHT, &labels, backend.weight.into());
        self.add(f::BACKEND_UP, &labels, (backend.up == Some(true)).into());
        self.add(f::BACKEND_ENTRIES, &labels, flows.backends.get(&pair).copied().unwrap_or(0));
        for state in Effect::ALL {
            let holds = state == effect(backend.effect);
            self.add(f::BACKEND_STATE, &[labels[0], labels[1], state.name()], holds.into());
        }
    }
}
