//! What the pinned tables tell when no daemon does. They know addresses, not names.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::anyhow;
use lb_common::layout::vip::Vip as Value;
use serde::de::DeserializeOwned;

use super::{Global, ask};
use crate::{
    api::{
        answers::{AnswerError, Ground},
        types::{Against, Backend, BackendQuery, Condition, Interface, Preview, Stats, Status, Vip},
        view as answer,
    },
    controller::{
        UnderWay, beliefs, chain, engine,
        preview::{Present, overrides},
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
    model::{Config, overrides::Overrides},
    nexthop,
    plan::{RingCache, State, diff, lists::Lists, preview::ReadRing},
    state::{self, Folder},
};

/// Gets a resource from the daemon; where none answers, says so and reads the same off the tables.
///
/// # Errors
/// As [`ask_or_read`].
pub(super) fn get_or_read<T: DeserializeOwned>(
    global: &Global,
    path: &str,
    read: impl FnOnce(&mut Tables) -> Result<T, anyhow::Error>,
) -> Result<T, anyhow::Error> {
    ask_or_read(
        global,
        || ask::get(global, path),
        |tables| {
            say_unmanaged(global);
            read(tables)
        },
    )
}

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
        Err(error) if ask::found_no_daemon(&error) => error,
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

/// What a daemon that starts with a configuration would change of what is pinned, or, if nothing is, of nothing: with the
/// operators' overrides that it would find.
///
/// # Errors
/// When it names an interface that does not exist, the tables cannot be read, or none could take it.
pub(super) fn preview(global: &Global, config: &Config) -> Result<Preview, anyhow::Error> {
    engine::require(&config.dataplane.interfaces)?;
    let kept = state::overrides::read(&Folder::of(&config.daemon.state_dir, &global.pin_path));
    let kept = kept.unwrap_or_else(|error| {
        // Whoever closed stderr does not want to know.
        let _ = writeln!(
            io::stderr(),
            "! the operators' overrides cannot be read, so they do not count: {}",
            chain(&error)
        );
        Overrides::default()
    });
    let config = kept.apply(config);
    let told = against_tables(global, &config)?;
    Ok(Preview { overrides: overrides(&kept, &config), ..told })
}

/// The same for what is in force in the end.
fn against_tables(global: &Global, config: &Config) -> Result<Preview, anyhow::Error> {
    let (health, hops) = (HealthView::new(), nexthop::Snapshot::default());
    let foresee = |state: &State, ring: ReadRing, flows: &FlowCount| {
        let (health, hops) = (&health, &hops);
        let flow_entries = u32::try_from(flows.capacity).unwrap_or(u32::MAX);
        let flows = &flows.live_by_target;
        let (running, features, has_runner, under_way) = (None, None, false, &UnderWay::new());
        let present =
            Present { state, ring, flows, flow_entries, health, hops, running, features, under_way, has_runner };
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
        // What checks found is known to daemons alone.
        let (all, health) = (BackendQuery::default(), HealthView::new());
        Ok(self
            .vips
            .iter()
            .flat_map(|vip| answer::backends(vip, &all, &figures, &flows, &left, &health))
            .map(unknown)
            .collect())
    }

    /// Flows by address. Which of them go on is not known here: the program keeps to itself when UDP flows end.
    fn flows(&self) -> Flows {
        self.totals.flows(&self.pinned.flows(Liveness::now(u32::MAX)))
    }

    fn figures(&mut self) -> Result<Figures, anyhow::Error> {
        Ok(self.totals.figures(self.pinned.counters()?))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        cli::Output,
        config::parse,
        model::overrides::{BackendName, BackendOrder, Given, Order},
    };

    const TEXT: &str = r#"
[dataplane]
interfaces = ["lo"]
ring_size = 251
[pool.web]
backends = [{ name = "web-1", address = "10.0.0.1" }, { name = "web-2", address = "10.0.0.2" }]
health.type = "none"
[[vip]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
pool = "web"
"#;

    #[test]
    fn a_plan_without_a_daemon_counts_the_overrides_that_one_would_find() {
        let top = tempfile::tempdir().unwrap();
        let pin_path = top.path().join("pins");
        let global = Global { pin_path: pin_path.clone(), api: None, output: Output::Table, verbose: 0 };
        let config = |text: &str| {
            let mut config = parse(text, "lb.toml").unwrap();
            config.daemon.state_dir = top.path().to_owned();
            config
        };
        let shares = |preview: &Preview| -> Vec<(String, f64)> {
            preview.vips[0].backends.iter().map(|one| (one.name.clone(), one.share_after)).collect()
        };
        let told = preview(&global, &config(TEXT)).unwrap();
        assert!(told.overrides.is_empty() && shares(&told).iter().all(|(_, share)| *share > 0.4), "{told:?}");

        let mut kept = Overrides::default();
        let order = Order::Backend(BackendName { pool: "web".into(), name: "web-1".into() }, BackendOrder::Disable);
        kept.take(&order, &config(TEXT), Given { at: SystemTime::now(), uid: None });
        let folder = Folder::of(top.path(), &pin_path);
        state::overrides::write(&folder, &kept).unwrap();
        let told = preview(&global, &config(TEXT)).unwrap();
        assert_eq!(told.overrides, ["backend web/web-1: disabled"]);
        let expected = [("web-1", 0.0), ("web-2", 1.0)].map(|(name, share)| (name.to_owned(), share));
        assert_eq!(shares(&told), expected);

        std::fs::write(folder.path().join("overrides.json"), "damaged").unwrap();
        assert!(preview(&global, &config(TEXT)).unwrap().overrides.is_empty(), "as a daemon starts");
        let error = chain(&*preview(&global, &config(&TEXT.replace("\"lo\"", "\"lbx-none\""))).unwrap_err());
        let words =
            "cannot put program and tables in force with the new settings: there is no interface lbx-none; there are: ";
        assert!(error.starts_with(words), "{error}");
    }
}
