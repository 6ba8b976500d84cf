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

/// Target, state and age of something that is remembered.
pub type Remembered = (u32, FlowState, u32);

/// One frame of a case, and what must come of it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) frame: Vec<u8>,
    pub(super) headroom: usize,
    pub(super) verdict: Verdict,
    pub(super) ifindex: u32,
    pub(super) out: Vec<u8>,
    pub(super) targets: BTreeMap<u32, TargetCounters>,
    pub(super) events: BTreeMap<PathEvent, u64>,
    /// Each flow that is remembered afterwards, if it is told.
    pub(super) flows: Option<Vec<Remembered>>,
    /// The same of datagrams in fragments.
    pub(super) fragments: Option<Vec<Remembered>>,
}

impl Step {
    /// What the kernel must be told to do with the frame.
    pub(super) fn action(&self) -> Action {
        match self.verdict.action() {
            Action::Transmit if self.ifindex != 0 => Action::Redirect,
            action => action,
        }
    }
}

/// A named expectation of one frame or of several in a row. Verdicts' own counters and a target's packets and bytes are
/// expected without being told. What is added to a case is said of its last frame.
#[derive(Clone, Debug)]
pub struct Case {
    pub(super) name: &'static str,
    pub(super) given: Given,
    pub(super) steps: Vec<Step>,
}

impl Case {
    /// A frame that leaves as `out` under `verdict`.
    pub fn new(name: &'static str, given: &Given, frame: Vec<u8>, verdict: Verdict, out: Vec<u8>) -> Self {
        let step = Step {
            frame,
            headroom: 256,
            verdict,
            ifindex: 0,
            out,
            targets: BTreeMap::new(),
            events: BTreeMap::new(),
            flows: None,
            fragments: None,
        };
        Self { name, given: given.clone(), steps: vec![step] }
    }

    /// A frame that is passed or dropped under `verdict` without being touched.
    pub fn left_alone(name: &'static str, given: &Given, frame: impl Into<Vec<u8>>, verdict: Verdict) -> Self {
        let frame = frame.into();
        Self::new(name, given, frame.clone(), verdict, frame)
    }

    /// An echo request that is answered by `reply`.
    pub fn answered(name: &'static str, given: &Given, frame: &Frame, reply: &Frame) -> Self {
        Self::new(name, given, frame.build(), Verdict::EchoReplied, reply.build())
    }

    /// A frame that is sent to a target, in a tunnel that etherparse builds.
    pub fn forwarded(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Self {
        let out = given.sent(frame, target);
        let case = Self::new(name, given, frame.build(), Verdict::Forwarded, out);
        let bytes = frame.packet().len() as u64;
        case.counts(target, |counters| (counters.packets, counters.bytes) = (1, bytes))
    }

    /// The same for a frame of this DSCP and ECN.
    pub fn forwarded_as(name: &'static str, given: &Given, frame: &Frame, target: u32, class: u8) -> Self {
        Self::forwarded(name, given, &frame.clone().class(class), target)
    }

    /// Afterwards, what another case says of its frames.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.steps.extend(next.steps);
        self
    }

    /// The same case under another name.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The same case with a program that has these features only.
    #[must_use]
    pub fn with_features(self, features: u32) -> Self {
        Self { given: self.given.features(features), ..self }
    }

    fn last(&mut self) -> &mut Step {
        self.steps.last_mut().expect("at least one frame")
    }

    /// It leaves by this interface.
    #[must_use]
    pub fn leaves_by(mut self, ifindex: u32) -> Self {
        self.last().ifindex = ifindex;
        self
    }

    /// The driver left only so many bytes before the frame.
    #[must_use]
    pub fn headroom(mut self, bytes: usize) -> Self {
        self.last().headroom = bytes;
        self
    }

    /// What is counted at a target.
    #[must_use]
    pub fn counts(mut self, target: u32, count: impl FnOnce(&mut TargetCounters)) -> Self {
        count(self.last().targets.entry(target).or_default());
        self
    }

    /// A flow is created at a target.
    #[must_use]
    pub fn creates(self, target: u32) -> Self {
        self.counts(target, |counters| counters.flows_created = 1)
    }

    /// The same by a SYN.
    #[must_use]
    pub fn opens(self, target: u32) -> Self {
        let case = self.counts(target, |counters| (counters.flows_created, counters.syns) = (1, 1));
        case.event(PathEvent::MissSyn)
    }

    /// An event that is counted, once.
    #[must_use]
    pub fn event(mut self, event: PathEvent) -> Self {
        *self.last().events.entry(event).or_default() += 1;
        self
    }

    /// What is remembered afterwards: target, state and age of each flow.
    #[must_use]
    pub fn remembers(mut self, flows: &[Remembered]) -> Self {
        self.last().flows = Some(sorted(flows));
        self
    }

    /// The same of datagrams in fragments; the state is that of the table's entry.
    #[must_use]
    pub fn remembers_datagrams(mut self, datagrams: &[Remembered]) -> Self {
        self.last().fragments = Some(sorted(datagrams));
        self
    }

    /// The verdicts that are expected.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.steps.iter().map(|step| step.verdict)
    }

    /// The events that are expected.
    pub fn events(&self) -> impl Iterator<Item = PathEvent> {
        self.steps.iter().flat_map(|step| step.events.keys().copied())
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

fn sorted(entries: &[Remembered]) -> Vec<Remembered> {
    let mut entries = entries.to_vec();
    entries.sort_unstable();
    entries
}
