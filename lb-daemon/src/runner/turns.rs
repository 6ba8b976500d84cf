//! Programs that are the same run one after the other: one that nobody can end holds up itself, and takes no more places.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use tokio::sync::watch;

use super::Program;

/// What is run, and with which environment. That of a check has its VIP, its backend and its name.
type Same = (Vec<String>, BTreeMap<String, String>);

/// Programs of which something is left, and whether it was told already how they ended: those that were killed, and that the
/// kernel cannot end yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<watch::Sender<BTreeMap<Same, bool>>>);

/// A program's turn. It is over when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    same: Same,
    turns: Turns,
}

impl Turns {
    /// Waits until nothing is left of the same program.
    pub(super) async fn wait(&self, program: &Program) -> Turn {
        let same = same(program);
        let mut running = self.0.subscribe();
        loop {
            let mut free = false;
            self.0.send_if_modified(|running| {
                if let Entry::Vacant(place) = running.entry(same.clone()) {
                    place.insert(false);
                    free = true;
                }
                false
            });
            if free {
                return Turn { same, turns: self.clone() };
            }
            // The sender is there as long as this is.
            let _ = running.wait_for(|running| !running.contains_key(&same)).await;
        }
    }

    /// Whether it was told how the same program ended, and it has not ended yet.
    pub(super) fn lingers(&self, program: &Program) -> bool {
        self.0.borrow().get(&same(program)).is_some_and(|told| *told)
    }
}

impl Turn {
    /// It is told how the program ended, before it has.
    pub(super) fn is_told(&self) {
        self.turns.0.send_if_modified(|running| {
            running.entry(self.same.clone()).and_modify(|told| *told = true);
            false
        });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.send_if_modified(|running| running.remove(&self.same).is_some());
    }
}

fn same(program: &Program) -> Same {
    (program.argv.clone(), program.env.clone())
}
