//! A case: what is given, what comes in, what must come of it.

use std::collections::BTreeMap;

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters},
        flow::FlowState,
    },
    verdict::{Action, Verdict},
};

use super::{frame::Frame, given::Given};

/// Interface that frames come in by: the kernel takes the loopback's, whose number is 1, for a test run's.
pub const INGRESS: u32 = 1;

/// A named expectation. Verdicts' own counters and a target's packets and bytes are expected without being told.
#[derive(Clone, Debug)]
pub struct Case {
    pub(super) name: &'static str,
    pub(super) given: Given,
    pub(super) frame: Vec<u8>,
    pub(super) headroom: usize,
    pub(super) verdict: Verdict,
    pub(super) ifindex: u32,
    pub(super) out: Vec<u8>,
    pub(super) targets: BTreeMap<u32, TargetCounters>,
    pub(super) events: BTreeMap<PathEvent, u64>,
    /// Target, state and age of each flow that is remembered afterwards, if it is told.
    pub(super) flows: Option<Vec<(u32, FlowState, u32)>>,
}

impl Case {
    fn new(name: &'static str, given: &Given, frame: Vec<u8>, verdict: Verdict, out: Vec<u8>) -> Self {
        let (targets, events) = (BTreeMap::new(), BTreeMap::new());
        let given = given.clone();
        Self { name, given, frame, headroom: 256, verdict, ifindex: 0, out, targets, events, flows: None }
    }

    /// A frame that is passed or dropped under `verdict` without being touched.
    pub fn left_alone(name: &'static str, given: &Given, frame: impl Into<Vec<u8>>, verdict: Verdict) -> Self {
        let frame = frame.into();
        Self::new(name, given, frame.clone(), verdict, frame)
    }

    /// A frame that is answered by `reply`.
    pub fn answered(name: &'static str, given: &Given, frame: &Frame, reply: &Frame) -> Self {
        Self::new(name, given, frame.build(), Verdict::EchoReplied, reply.build())
    }

    /// A frame that is sent to a target, in a tunnel that etherparse builds.
    pub fn forwarded(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Self {
        Self::forwarded_as(name, given, frame, target, 0)
    }

    /// The same for a frame of this DSCP and ECN.
    pub fn forwarded_as(name: &'static str, given: &Given, frame: &Frame, target: u32, class: u8) -> Self {
        let frame = frame.clone().class(class);
        let out = given.tunnel(&frame, class, target).wrap(&frame);
        let case = Self::new(name, given, frame.build(), Verdict::Forwarded, out);
        let bytes = frame.packet().len() as u64;
        case.counts(target, |counters| (counters.packets, counters.bytes) = (1, bytes))
    }

    /// It leaves by this interface.
    #[must_use]
    pub fn leaves_by(mut self, ifindex: u32) -> Self {
        self.ifindex = ifindex;
        self
    }

    /// The driver left only so many bytes before the frame.
    #[must_use]
    pub fn headroom(mut self, bytes: usize) -> Self {
        self.headroom = bytes;
        self
    }

    /// What is counted at a target.
    #[must_use]
    pub fn counts(mut self, target: u32, count: impl FnOnce(&mut TargetCounters)) -> Self {
        count(self.targets.entry(target).or_default());
        self
    }

    /// An event that is counted, once.
    #[must_use]
    pub fn event(mut self, event: PathEvent) -> Self {
        self.events.insert(event, 1);
        self
    }

    /// What is remembered afterwards: target, state and age of each flow.
    #[must_use]
    pub fn remembers(mut self, flows: &[(u32, FlowState, u32)]) -> Self {
        let mut flows = flows.to_vec();
        flows.sort_unstable();
        self.flows = Some(flows);
        self
    }

    /// The verdict that is expected.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the kernel must be told to do with the frame.
    pub(super) fn action(&self) -> Action {
        match self.verdict.action() {
            Action::Transmit if self.ifindex != 0 => Action::Redirect,
            action => action,
        }
    }
}
