//! The program over the tables: replaced when a configuration needs another.
//!
//! An instance has the features that were asked for when it was loaded. Before ops are applied one is in force that has
//! those of the tables as they are and as they will be; afterwards, if that is less, one that has the latter alone.

use lb_common::maps::Tuning;
use tracing::{error, info, warn};

use super::{
    Controller,
    change::Change,
    commands::Refusal,
    engine::{Engine, InstallError, grip},
    features::names,
    tuning::{either, needed},
    work::chain,
};
use crate::{
    dataplane::{cpus, needs, settle::Trackers},
    model::Config,
    plan::Room,
};

/// Logs which tables are to be made anew in another size, and the memory for that.
pub fn grows(from: &Room, to: &Room) {
    let bytes = cpus::growth(from, to);
    if !bytes.is_empty() {
        let tables = bytes.keys().copied().collect::<Vec<_>>().join(" ");
        info!(tables, bytes = bytes.values().sum::<u64>(), "making tables of another size");
    }
}

impl<E: Engine> Controller<E> {
    /// Puts a program in force that does for the running configuration and for `asked`, on the interfaces of the latter, over
    /// tables that have `room` for it; the one of before if that fails.
    pub(super) fn install(&mut self, asked: &Config, change: Change, room: &Room) -> Result<(), Refusal> {
        let before = self.engine.tuning();
        let between = either(&before, &self.tuning(asked));
        let installed = self.put_in_force(&between, asked, change).and_then(|()| self.make_room(room));
        if let Err(refusal) = installed {
            let running = self.config.clone();
            if let Err(error) = self.put_in_force(&before, &running, change) {
                error!(error = chain(&error), "the settings before the reload could not be restored");
            }
            return Err(refusal.into());
        }
        if change.forgets_flows {
            warn!("hash_seed changed: flows that were known are steered anew");
        }
        Ok(())
    }

    fn put_in_force(&mut self, tuning: &Tuning, config: &Config, change: Change) -> Result<(), InstallError> {
        self.retune(tuning)?;
        if change.rebinds {
            self.attached = self.engine.attach(&config.dataplane.interfaces)?;
            info!(interfaces = self.attached.len(), "attached as the file says");
        }
        if change.regrips {
            let grip = grip(&config.daemon);
            self.engine.keep_by(grip)?;
            info!(?grip, "what becomes of packets without the daemon has changed");
        }
        Ok(())
    }

    /// Has tables in force that are large enough.
    pub(super) fn make_room(&mut self, room: &Room) -> Result<(), InstallError> {
        let before = self.engine.room();
        if *room == before {
            return Ok(());
        }
        grows(&before, room);
        self.engine.resize(room)?;
        let after = self.engine.room();
        self.state.capacity = after.capacity;
        if after.flow_entries < before.flow_entries {
            // Strays for which there was no room are counted nowhere: slots wait as after a restart.
            self.trackers = Trackers::default();
        }
        info!(flow_table_entries = after.flow_entries, "tables replaced; flows and counters are kept");
        Ok(())
    }

    /// Has a program in force that reads the tables rightly before and after ops that bring them to the configuration.
    pub(super) fn widen(&mut self) -> Result<(), InstallError> {
        let wanted = self.tuning(&self.config);
        self.retune(&either(&self.engine.tuning(), &wanted))
    }

    /// Has a program in force that can do just what the configuration and the tables ask for.
    pub(super) fn narrow(&mut self) -> Result<(), InstallError> {
        self.retune(&self.tuning(&self.config))
    }

    fn retune(&mut self, tuning: &Tuning) -> Result<(), InstallError> {
        let before = self.engine.tuning();
        if *tuning == before {
            return Ok(());
        }
        self.engine.retune(tuning)?;
        let features = names(tuning.features).join(" ");
        if tuning.features == before.features {
            info!(features, "program replaced by one with other parameters");
        } else {
            info!(features, before = names(before.features).join(" "), "program replaced");
        }
        Ok(())
    }

    /// Parameters of the program that suit a configuration, the interfaces that there are, and what the tables still hold
    /// of another configuration.
    fn tuning(&self, config: &Config) -> Tuning {
        let running = self.engine.tuning();
        let held = Tuning { features: running.features & needs::features(&self.state), ..running };
        either(&held, &needed(config, &self.reports.hops))
    }
}
