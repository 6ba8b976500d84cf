//! What would become of a packet, and why: the packet's way itself, run on the host over the tables in use.
//!
//! [`trace`] walks [`lb_xdp::path::run`], the very code that forwards, over copies of what it looks up, so nothing in the
//! kernel changes; see `docs/adr/0013-explain-on-the-host.md`. What the copies were and what the way made of them is the
//! [`Trace`]. Pure but for the look-ups themselves.

mod copies;
mod limits;
mod reading;
mod recorder;
mod remembered;
pub mod ring;
mod steering;
pub mod tuple;

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters},
        target::Target,
    },
    verdict::{Action, Verdict},
};
use lb_xdp::{
    host::{HostFrame, MAX_LEN},
    path::{self, Exit},
};

use self::recorder::Recorder;
pub use self::{
    limits::{Limit, LimitKind},
    reading::{Reading, Through},
    remembered::{Remembered, find as find_flow},
    steering::{Found, Group, History, Ring, Rule, Server},
};
use crate::dataplane::{Error, lookups::Lookups};

/// Longest frame that is looked at, in bytes.
pub const LONGEST: usize = MAX_LEN;

/// A packet's way, step by step. A step that it did not take is empty.
#[derive(Clone, Debug)]
pub struct Trace {
    /// How the frame leaves.
    pub exit: Exit,
    /// What becomes of it then.
    pub action: Action,
    /// The frame as it leaves.
    pub out: Vec<u8>,
    /// How it was read.
    pub reading: Reading,
    /// What has its destination among the VIPs.
    pub found: Found,
    /// What the access lists that were asked said.
    pub access: Vec<Rule>,
    /// How the limits stood that are for it.
    pub limits: Vec<Limit>,
    /// The server ID that it bears.
    pub server: Option<Server>,
    /// What the flow table has of its flow.
    pub flow: Option<Remembered>,
    /// What is remembered of its datagram, of which it is a fragment.
    pub fragment: Option<Remembered>,
    /// The slot of the ring that decided.
    pub ring: Option<Ring>,
    /// The target that it was to be sent to.
    pub target: Option<(u32, Target)>,
    /// What befell it on its way, as it would be counted.
    pub events: Vec<PathEvent>,
    /// What would be counted at targets.
    pub counted: Vec<(u32, TargetCounters)>,
}

/// Follows a frame through the tables as they are at this moment.
///
/// # Errors
/// When a table cannot be read.
pub fn trace<L: Lookups>(tables: &L, mut frame: HostFrame) -> Result<Trace, Error> {
    let came = frame.clone();
    let recorder = Recorder::new(tables);
    let exit = path::run(&mut frame, &recorder);
    let notes = recorder.notes();
    // What follows asks once more, with functions of the same code, and gets the same copies.
    let reading = reading::read(&came, &recorder);
    let found = steering::find(&reading, &recorder);
    let target = notes.last_target.filter(|_| was_sent(exit.verdict));
    let target = target.and_then(|id| recorder.targets.iter().find(|(of, _)| **of == id));
    let trace = Trace {
        exit,
        action: action(exit),
        out: frame.bytes().to_vec(),
        access: steering::access(&recorder)?,
        limits: limits::of(&reading, &found, &recorder),
        server: steering::server(&came, &reading, &found, &recorder),
        flow: remembered::flow(&reading, &recorder),
        fragment: remembered::fragment(&reading, &recorder),
        ring: steering::ring(&reading, &found, &recorder)?,
        target: target.and_then(|(id, target)| Some((*id, (*target)?))),
        events: notes.events,
        counted: notes.counted,
        reading,
        found,
    };
    match recorder.into_fault() {
        Some(error) => Err(error),
        None => Ok(trace),
    }
}

/// The action of an exit, as the program takes it.
fn action(exit: Exit) -> Action {
    match exit.verdict.action() {
        Action::Transmit | Action::Redirect if exit.ifindex != 0 => Action::Redirect,
        Action::Redirect => Action::Transmit,
        action => action,
    }
}

/// Whether a target had been decided on.
const fn was_sent(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Forwarded
            | Verdict::Local
            | Verdict::TooBig
            | Verdict::TooBigAnswered
            | Verdict::TooBigLimited
            | Verdict::NoHeadroom
            | Verdict::CongestionLost
    )
}
