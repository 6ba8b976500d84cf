//! What was counted, on either side.

use std::collections::BTreeMap;

use lb_common::{
    layout::counter::{PathEvent, TargetCounters, VerdictCounters},
    verdict::Verdict,
};
use lb_daemon::dataplane::Counters;
use lb_xdp::host::HostTables;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// By target.
    pub targets: BTreeMap<u32, TargetCounters>,
    /// By verdict.
    pub verdicts: BTreeMap<Verdict, VerdictCounters>,
    /// By event.
    pub events: BTreeMap<PathEvent, u64>,
}

impl Counted {
    /// What tables in memory counted since they were made.
    pub fn by_host(tables: &HostTables) -> Self {
        Self::between(&Counters::default(), &read(tables))
    }

    /// What was counted from one reading to the next.
    pub fn between(before: &Counters, after: &Counters) -> Self {
        let earlier = |id: &u32| before.targets.get(id).copied().unwrap_or_default();
        let targets = after.targets.iter().map(|(id, now)| (*id, target_difference(now, &earlier(id))));
        let verdicts = Verdict::ALL.iter().zip(&after.verdicts).map(|(verdict, now)| {
            let earlier = before.verdicts.get(*verdict as usize).copied().unwrap_or_default();
            let (packets, bytes) = (now.packets - earlier.packets, now.bytes - earlier.bytes);
            (*verdict, VerdictCounters { packets, bytes })
        });
        let events = PathEvent::ALL.iter().zip(&after.path).map(|(event, now)| {
            let earlier = before.path.get(*event as usize).copied().unwrap_or_default();
            (*event, now - earlier)
        });
        Self {
            targets: targets.filter(|(_, counters)| *counters != TargetCounters::default()).collect(),
            verdicts: verdicts.filter(|(_, counters)| *counters != VerdictCounters::default()).collect(),
            events: events.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

fn target_difference(now: &TargetCounters, before: &TargetCounters) -> TargetCounters {
    TargetCounters {
        packets: now.packets - before.packets,
        bytes: now.bytes - before.bytes,
        flows_created: now.flows_created - before.flows_created,
        flows_moved: now.flows_moved - before.flows_moved,
        syns: now.syns - before.syns,
        syn_retransmits: now.syn_retransmits - before.syn_retransmits,
        handshakes: now.handshakes - before.handshakes,
        fins: now.fins - before.fins,
        rsts: now.rsts - before.rsts,
    }
}

/// Reads the counters of tables in memory.
pub(super) fn read(tables: &HostTables) -> Counters {
    let targets = (0..).zip(tables.target_counters.borrow().iter().copied()).collect();
    let (verdicts, path) = (tables.verdict_counters.borrow().clone(), tables.path_counters.borrow().clone());
    Counters { targets, verdicts, path }
}
