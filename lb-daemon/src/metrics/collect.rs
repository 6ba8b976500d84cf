//! From a snapshot and counters to metric families, but for those of VIPs.

use std::{collections::HashMap, mem, sync::Mutex, time::UNIX_EPOCH};

use lb_common::{layout::counter::PathEvent, verdict::Action};
use prometheus::{
    core::{Collector, Desc},
    proto::{Metric, MetricFamily},
};

use super::families::{self as f, Family};
use crate::{
    api::view::{path_events, used_states, verdicts},
    controller::{
        features,
        snapshot::Snapshot,
        totals::{Figures, Flows},
    },
};

/// One reading of everything, as a collector for one gathering.
pub(super) struct Collected {
    descriptions: Vec<Desc>,
    /// Handed out once.
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
        let mut samples = Samples::default();
        samples.daemon(snapshot);
        samples.verdicts(figures);
        samples.flow_table(figures, flows);
        Ok(Self { descriptions, families: Mutex::new(samples.families()) })
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
struct Samples {
    metrics: Vec<(Family, Vec<Metric>)>,
}

impl Samples {
    /// Adds a sample; `labels` are the values of the family's labels, in their order.
    fn add(&mut self, family: Family, labels: &[&str], value: u64) {
        self.put(family, family.sample(labels, value));
    }

    /// As [`Samples::add`], for what is no whole number.
    fn add_exact(&mut self, family: Family, labels: &[&str], value: f64) {
        self.put(family, family.sample_exact(labels, value));
    }

    fn put(&mut self, family: Family, metric: Metric) {
        match self.metrics.iter_mut().find(|(known, _)| known.name == family.name) {
            Some((_, metrics)) => metrics.push(metric),
            None => self.metrics.push((family, vec![metric])),
        }
    }

    fn families(self) -> Vec<MetricFamily> {
        self.metrics.into_iter().map(|(family, metrics)| family.with(metrics)).collect()
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
        let silent = snapshot.vips.iter().flat_map(|vip| &vip.backends).filter(|backend| backend.silent).count();
        self.add(f::AGENTS_SILENT, &[], silent as u64);
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
                | PathEvent::Resteered
                | PathEvent::StrayLost => self.add(f::PATH_EVENTS, &[event.name()], count),
            }
        }
    }
}
