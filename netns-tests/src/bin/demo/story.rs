//! What the demo prints: numbered steps, facts, and checks that hold or don't.

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
    time::Instant,
};

/// The demo's print-out and its score.
#[derive(Debug)]
pub(crate) struct Story {
    start: Instant,
    step: Cell<u32>,
    held: Cell<u32>,
    broken: RefCell<Vec<String>>,
}

impl Story {
    pub(crate) fn begin() -> Self {
        Self { start: Instant::now(), step: Cell::new(0), held: Cell::new(0), broken: RefCell::default() }
    }

    /// Opens the next step.
    pub(crate) fn step(&self, title: impl Display) {
        self.step.set(self.step.get() + 1);
        println!("\n{}. {title}", self.step.get());
    }

    /// Says whether something is as it should be.
    pub(crate) fn check(&self, holds: bool, claim: impl Display) {
        if holds {
            self.held.set(self.held.get() + 1);
            println!("   ok    {claim}");
        } else {
            self.broken.borrow_mut().push(format!("step {}: {claim}", self.step.get()));
            println!("   FAIL  {claim}");
        }
    }

    /// Claims that did not hold.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.broken.borrow().clone()
    }

    /// The last line.
    pub(crate) fn end(&self) -> String {
        let (held, broken) = (self.held.get(), self.broken.borrow().len());
        let seconds = self.start.elapsed().as_secs_f32();
        match broken {
            0 => format!("Every step held: {held} checks in {seconds:.1} s."),
            _ => format!("{broken} of {} checks did not hold.", held as usize + broken),
        }
    }
}

/// Tells something, line by line.
pub(crate) fn tell(text: impl Display) {
    tell_after("", text);
}

/// Tells something, each line after `mark`.
pub(crate) fn tell_after(mark: &str, text: impl Display) {
    for line in text.to_string().lines() {
        println!("   {mark}{line}");
    }
}
