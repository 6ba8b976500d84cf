//! What `lb explain` said before the program ran, against what the program did.

use std::collections::BTreeMap;

use lb_common::{
    layout::{
        counter::{TargetCounters, VerdictCounters},
        flow::FlowEntry,
    },
    verdict::Verdict,
};
use lb_daemon::explain::{History, Remembered, Trace};

use super::{Counted, Outcome, Step, action};

/// What differs.
pub(super) fn faults(told: &Trace, ran: &Outcome, step: &Step) -> Vec<String> {
    let mut faults = Vec::new();
    if (told.action, action(told.exit)) != (ran.action, ran.action) {
        faults.push(format!("action {}, not {}", told.action.name(), ran.action.name()));
    }
    if told.exit.ifindex != step.ifindex {
        faults.push(format!("by interface {}, not {}", told.exit.ifindex, step.ifindex));
    }
    if told.out != ran.frame {
        faults.push(format!("another frame: {:02x?}, not {:02x?}", told.out, ran.frame));
    }
    let counted = counted(told, step);
    if counted != ran.counted {
        faults.push(format!("counts {counted:#?}, not {:#?}", ran.counted));
    }
    let sent = ran.counted.targets.iter().find(|(_, counters)| counters.packets > 0).map(|(id, _)| *id);
    if sent.is_some() && told.target.map(|(id, _)| id) != sent {
        faults.push(format!("target {:?}, not {sent:?}", told.target));
    }
    // A slot's target is the one that it was sent to, if a ring decided; or the one that it had, or what is remembered.
    if let (Some(ring), Some(sent)) = (&told.ring, sent) {
        let previous = match ring.history {
            Some(History::Tracked(previous)) => Some(previous),
            _ => None,
        };
        let remembered = told.flow.as_ref().and_then(|flow| flow.before).filter(|_| previous.is_some());
        if ![ring.target, previous, remembered.map(FlowEntry::target)].contains(&Some(sent)) {
            faults.push(format!("the ring's {ring:?}, or what is remembered, not {sent}"));
        }
    }
    for (what, told, ran) in [("flow", &told.flow, &ran.flows), ("datagram", &told.fragment, &ran.fragments)] {
        faults.extend(told.as_ref().and_then(|told| forgotten(told, ran)).map(|fault| format!("{what}: {fault}")));
    }
    faults
}

/// What would be counted.
fn counted(told: &Trace, step: &Step) -> Counted {
    let mut counted = Counted::default();
    for (id, counters) in &told.counted {
        let sum: &mut TargetCounters = counted.targets.entry(*id).or_default();
        sum.packets += counters.packets;
        sum.bytes += counters.bytes;
        sum.flows_created += counters.flows_created;
        sum.flows_moved += counters.flows_moved;
        sum.syns += counters.syns;
        sum.syn_retransmits += counters.syn_retransmits;
        sum.handshakes += counters.handshakes;
        sum.fins += counters.fins;
        sum.rsts += counters.rsts;
    }
    for event in &told.events {
        *counted.events.entry(*event).or_default() += 1;
    }
    let verdict = told.exit.verdict;
    if verdict != Verdict::Forwarded {
        let counters = VerdictCounters { packets: 1, bytes: step.frame.len() as u64 };
        counted.verdicts.insert(verdict, counters);
    }
    counted
}

/// Whether the table holds something else than was told.
fn forgotten(told: &Remembered, table: &BTreeMap<(usize, u32), super::Remembered>) -> Option<String> {
    let tag = told.after.or(told.before)?.tag();
    let found = table.get(&(told.bucket as usize, tag)).map(|(target, state, _)| (*target, *state as u32));
    let said = told.after.map(|entry| (entry.target(), entry.state()));
    (found != said).then(|| format!("{said:?}, not {found:?}"))
}
