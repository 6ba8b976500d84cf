//! An input: a scene, then steps of [`STEP_BYTES`] each.

use std::sync::atomic::Ordering::Relaxed;

use lb_common::layout::{
    flow::{Bucket, FlowEntry, TIME_MASK, TIME_SHIFT, Word},
    target::Target,
};
use lb_xdp::host::HostTables;

use crate::{
    packet::{self, Recipe},
    scene::{SCENE_BYTES, Scene},
};

/// Bytes of a step.
pub const STEP_BYTES: usize = 40;
/// Steps that are taken; what follows is ignored.
pub const MAX_STEPS: usize = 16;

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame comes in.
    Frame(Vec<u8>),
    /// Time passes: all that is remembered gets older by so many units of 2^32 ns.
    Age(u32),
    /// A target changes.
    Target(u32, Change),
}

/// What becomes of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No packet may be sent there any more.
    Down,
    /// It is up again.
    Up,
    /// It takes no new flows.
    Drain,
}

/// What a fuzzer's bytes mean.
#[derive(Clone, Debug)]
pub struct Input {
    /// What the tables hold at first.
    pub scene: Scene,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Input {
    /// Reads bytes, of which any mean something.
    pub fn read(bytes: &[u8]) -> Self {
        let (scene, steps) = bytes.split_at_checked(SCENE_BYTES).unwrap_or((bytes, &[]));
        let steps = steps.chunks(STEP_BYTES).take(MAX_STEPS).map(Step::read).collect();
        Self { scene: Scene::read(scene), steps }
    }
}

impl Step {
    fn read(bytes: &[u8]) -> Self {
        let mut all = [0; STEP_BYTES];
        for (place, byte) in all.iter_mut().zip(bytes) {
            *place = *byte;
        }
        let [kind, first, second, ..] = all;
        match kind & 0x1f {
            0x1f => Self::Age([1, 7, 8, 64][usize::from(first & 3)]),
            0x1e => {
                let change = [Change::Down, Change::Up, Change::Drain][usize::from(second) % 3];
                Self::Target(1 + u32::from(first) % 33, change)
            }
            _ => Self::Frame(packet::build(&Recipe::new(all))),
        }
    }

    /// Does to tables what the step says, unless it is a frame.
    pub fn change(&self, tables: &mut HostTables) {
        match self {
            Self::Frame(_) => {}
            Self::Age(units) => age(tables, *units),
            Self::Target(id, change) => {
                let target = &mut tables.targets[*id as usize];
                match change {
                    Change::Down => target.serves = 0,
                    Change::Up => (target.serves, target.flags) = (target.vip, target.flags & !Target::DRAINING),
                    Change::Drain => target.flags |= Target::DRAINING,
                }
            }
        }
    }
}

/// Makes all that is remembered older. The clock itself cannot be set, the kernel's least of all.
fn age(tables: &HostTables, units: u32) {
    let older = |word: &Word| {
        let entry = FlowEntry(word.load(Relaxed));
        if !entry.is_empty() {
            word.store(entry.touched(entry.time().wrapping_sub(units) & TIME_MASK, entry.state()).0, Relaxed);
        }
    };
    let each = |buckets: &[Bucket]| buckets.iter().flat_map(|bucket| &bucket.entries).for_each(older);
    each(&tables.flows);
    each(&tables.fragments);
    let earlier = |word: &Word| word.store(word.load(Relaxed).saturating_sub(u64::from(units) << TIME_SHIFT), Relaxed);
    tables.vip_limits.iter().chain(&tables.too_big_limits).for_each(earlier);
    for entry in tables.sources.iter().flat_map(|line| &line.entries) {
        earlier(&entry.packets);
        earlier(&entry.flows);
    }
}

/// What an input means, in words.
pub fn explain(bytes: &[u8]) -> String {
    let input = Input::read(bytes);
    let mut text =
        format!("instance {} of the program, scene {:02x?}\n", input.scene.variant(), bytes.get(..SCENE_BYTES));
    for (number, step) in input.steps.iter().enumerate() {
        let line = match step {
            Step::Frame(frame) => format!("{} bytes: {}", frame.len(), hex(frame)),
            other => format!("{other:?}"),
        };
        text = text + "step " + &number.to_string() + ": " + &line + "\n";
    }
    text
}

/// Bytes as other tools read them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
