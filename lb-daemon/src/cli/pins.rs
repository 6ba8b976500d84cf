//! What the pinned tables tell when no daemon does. They know addresses, not names.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::anyhow;
use lb_common::layout::vip::Vip as Value;

use super::Global;
use crate::{
    api::{
        answers::{AnswerError, Ground},
        client::ClientError,
        types::{Against, Backend, Condition, Interface, Preview, Stats, Status, Vip},
        view as answer,
    },
    controller::{
        beliefs,
        preview::Present,
        snapshot::VipView,
        totals::{Figures, Flows, Totals},
        tuning::tuning,
        view,
    },
    dataplane::{
        FlowCount,
        flows::Liveness,
        kernel::{Kernel, Live, OpenError, Pinned},
    },
    health::HealthView,
    model::Config,
    nexthop,
    plan::{RingCache, State, diff, lists::Lists, preview::ReadRing},
};

/// Asks the daemon; where none answers, reads the tables.
///
/// # Errors
/// When the daemon refuses, or none answers and nothing is pinned or it cannot be read.
pub(super) fn ask_or_read<T>(
    global: &Global,
    ask: impl FnOnce() -> Result<T, anyhow::Error>,
    read: impl FnOnce(&mut Tables) -> Result<T, anyhow::Error>,
) -> Result<T, anyhow::Error> {
    let no_daemon = match ask() {
        Err(error) if matches!(error.downcast_ref(), Some(ClientError::NoDaemon { .. })) => error,
        answer => return answer,
    };
    read(&mut in_place_of_daemon(global, &no_daemon)?)
}

/// Opens the tables where no daemon answers.
///
/// # Errors
/// When nothing is pinned, or it cannot be read.
pub(super) fn in_place_of_daemon(global: &Global, no_daemon: &anyhow::Error) -> Result<Tables, anyhow::Error> {
    Tables::open(global).map_err(|error| unreadable(global.socket(), error, no_daemon))
}

/// What a configuration would change against what is pinned, or, if nothing is, against nothing.
///
/// # Errors
/// When the tables cannot be read, or none could take it.
pub(super) fn preview(global: &Global, config: &Config) -> Result<Preview, anyhow::Error> {
    let (health, hops) = (HealthView::new(), nexthop::Snapshot::default());
    let foresee = |state: &State, ring: ReadRing, flows: &FlowCount| {
        let (health, hops) = (&health, &hops);
        let flow_entries = u32::try_from(flows.capacity).unwrap_or(u32::MAX);
        let flows = &flows.live_by_target;
        let present = Present { state, ring, flows, flow_entries, health, hops, running: None, features: None };
        present.foresee(config, &mut RingCache::default())
    };
    let mut pinned = match Kernel::open_existing(&global.pin_path) {
        Ok(pinned) => pinned,
        Err(OpenError::NothingPinned { .. }) => {
            let capacity = diff::needs(&beliefs::best_case(config, &Lists::of(config)));
            let none = FlowCount { capacity: config.dataplane.flow_table_entries.into(), ..FlowCount::default() };
            let preview = foresee(&State { capacity, ..State::default() }, &|_, _| Vec::new(), &none)?;
            return Ok(Preview { differs: true, against: Against::Nothing, ..preview });
        }
        Err(error) => return Err(error.into()),
    };
    let state = pinned.observe_lists()?;
    let flows = pinned.flows(Liveness::now(tuning(config).udp_idle));
    let ring = |ring_base, ring_slots| pinned.ring(&Value { ring_base, ring_slots, ..Value::default() });
    Ok(foresee(&state, &ring, &flows)?)
}

/// Says on stderr that an answer is from the tables.
pub(super) fn say_unmanaged(global: &Global) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(io::stderr(), "! {}", unmanaged(global));
}

/// That the tables answer, and what that means.
pub(super) fn unmanaged(global: &Global) -> String {
    let socket = global.socket().display();
    format!("this is read from the tables: no daemon answers on {socket}, so nobody checks backends")
}

/// Why neither a daemon nor the tables answer.
fn unreadable(socket: &Path, error: anyhow::Error, no_daemon: &anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(OpenError::NothingPinned { path }) => anyhow!(
            "nothing is loaded at {} and no daemon answers on {}; start one: `lb run --config FILE`",
            path.display(),
            socket.display()
        ),
        _ => error.context(format!("{no_daemon}, and its tables cannot be read")),
    }
}

/// What is pinned.
pub(super) struct Tables {
    pinned: Pinned,
    state: State,
    vips: Vec<VipView>,
    totals: Totals,
}

impl Tables {
    /// Reads what there is.
    ///
    /// # Errors
    /// When nothing is pinned, or it cannot be read.
    pub(super) fn open(global: &Global) -> Result<Self, anyhow::Error> {
        let pinned = Kernel::open_existing(&global.pin_path)?;
        let state = pinned.observe()?;
        let mut totals = Totals::default();
        totals.learn(&state);
        Ok(Self { vips: view::found(&state), pinned, state, totals })
    }

    /// The status as the tables have it, and why they were asked.
    ///
    /// # Errors
    /// When the links cannot be read.
    pub(super) fn status(&self, global: &Global, unmanaged: String) -> Result<Status, anyhow::Error> {
        let Self { vips, state, .. } = self;
        let attached = self.pinned.attached()?;
        let interface = |name: &str, mode: &str| Interface { name: name.into(), mode: mode.into() };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: None,
            uptime_seconds: None,
            state: Condition::Unmanaged,
            problems: vec![unmanaged],
            generation: None,
            in_force: None,
            differs_from_file: None,
            applied: None,
            config: None,
            pin_path: global.pin_path.display().to_string(),
            interfaces: attached.iter().map(|one| interface(&one.interface, one.hook.name())).collect(),
            features: None,
            vips: vips.len(),
            vips_without_backend: vips.iter().filter(|vip| vip.serving() == 0).map(|vip| vip.name.clone()).collect(),
            backends: vips.iter().map(|vip| vip.backends.len()).sum(),
            backends_serving: vips.iter().map(VipView::serving).sum(),
            last_reload: None,
            overrides: None,
            tables: answer::tables(view::used(state), state.capacity),
            confinement: None,
        })
    }

    /// An answer from the tables in use, with the parameters that the program in force was loaded with.
    ///
    /// # Errors
    /// When they cannot be read, which takes root, or the question makes no sense.
    pub(super) fn answer<T>(
        &self,
        global: &Global,
        work: impl FnOnce(&Ground<Live>) -> Result<T, AnswerError>,
    ) -> Result<T, anyhow::Error> {
        let tables = Live::open(&global.pin_path, None)?;
        let attached = self.pinned.attached()?;
        let attached = attached.iter().map(|one| one.interface.as_str()).collect();
        Ok(work(&Ground { tables: &tables, vips: &self.vips, attached })?)
    }

    /// Counters as the tables have them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn stats(&mut self) -> Result<Stats, anyhow::Error> {
        let flows = self.flows();
        let figures = self.figures()?;
        let mut stats = answer::stats(&self.vips, &figures, &flows);
        stats.flows.live = None;
        stats.flows.backends.iter_mut().for_each(|backend| backend.live = None);
        Ok(stats)
    }

    /// What is served, by address.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub(super) fn vips(&mut self) -> Result<Vec<Vip>, anyhow::Error> {
        let figures = self.figures()?;
        Ok(answer::vips(&self.vips, &figures))
    }

    /// Who serves, by address, without what only a configuration tells.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub(super) fn backends(&mut self) -> Result<Vec<Backend>, anyhow::Error> {
        let flows = self.flows();
        let unknown =
            |backend: Backend| Backend { admin_state: None, weight: None, share: None, live_flows: None, ..backend };
        let figures = self.figures()?;
        let left = answer::overrides::Left::of(&self.vips, &flows);
        Ok(self.vips.iter().flat_map(|vip| answer::backends(vip, &figures, &flows, &left)).map(unknown).collect())
    }

    /// Flows by address. Which of them go on is not known here: the program keeps to itself when UDP flows end.
    fn flows(&self) -> Flows {
        self.totals.flows(&self.pinned.flows(Liveness::now(u32::MAX)))
    }

    fn figures(&mut self) -> Result<Figures, anyhow::Error> {
        Ok(self.totals.figures(self.pinned.counters()?))
    }
}
