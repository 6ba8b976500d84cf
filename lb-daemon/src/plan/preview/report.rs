//! What a preview says. It goes over the socket as it is: fields are only ever added.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a configuration would change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// Whether anything would be written to the tables, or is set otherwise.
    pub differs: bool,
    /// What the configuration is compared with.
    pub against: Against,
    /// VIPs that come.
    pub vips_added: usize,
    /// VIPs that go.
    pub vips_removed: usize,
    /// VIPs that stay and are not as before.
    pub vips_changed: usize,
    /// Writes to the tables.
    pub writes: usize,
    /// Slots of all rings, and those that lead to another backend.
    pub slots: Moved,
    /// Live flows of all VIPs, and those that lose their backend.
    pub flows: Moved,
    /// The VIPs that come, go or change, by name.
    pub vips: Vec<VipChange>,
    /// The pools that come, go, or are checked otherwise, by name.
    pub pools: Vec<PoolChange>,
    /// What is set otherwise for all VIPs, or for the daemon.
    pub settings: Vec<Setting>,
    /// Features that the program gains.
    pub features_added: Vec<String>,
    /// Features that it loses.
    pub features_removed: Vec<String>,
    /// Tables that are made anew in another size.
    pub tables: Vec<TableGrowth>,
    /// Bytes that they take in all. Those of now are free again afterwards.
    pub memory_bytes: u64,
    /// Settings that need more than a reload.
    pub restart: Vec<Restart>,
    /// Overrides by operators, which stay in force and are part of what is compared.
    pub overrides: Vec<String>,
    /// What is taken for granted because nobody knows it yet.
    pub assumptions: Vec<String>,
}

/// What a configuration would change, in numbers
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Outline {
    /// Whether anything would be written to the tables, or is set otherwise.
    pub differs: bool,
    /// VIPs that come.
    pub vips_added: usize,
    /// VIPs that go.
    pub vips_removed: usize,
    /// VIPs that stay and are not as before.
    pub vips_changed: usize,
    /// Slots of all rings, and those that lead to another backend.
    pub slots: Moved,
    /// Live flows of all VIPs, and those that lose their backend; absent if none can, as they are not counted then.
    pub flows: Option<Moved>,
}

impl Preview {
    /// The same in numbers.
    pub fn outline(&self) -> Outline {
        let &Self { differs, vips_added, vips_removed, vips_changed, slots, flows, .. } = self;
        Outline { differs, vips_added, vips_removed, vips_changed, slots, flows: Some(flows) }
    }
}

/// What a configuration is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// The daemon's configuration and tables.
    #[default]
    Daemon,
    /// Pinned tables without a daemon, which know addresses and no names.
    Tables,
    /// Nothing is loaded.
    Nothing,
}

/// How many of all move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Moved {
    /// All there are now.
    pub total: u64,
    /// Those that move.
    pub moved: u64,
    /// Their share, 0 to 1.
    pub share: f64,
}

impl Moved {
    /// So many of all.
    pub fn new(moved: u64, total: u64) -> Self {
        // Both are counts of slots or flows, far below 2^52.
        #[expect(clippy::cast_precision_loss, reason = "counts of slots and flows are far below 2^52")]
        let share = if total == 0 { 0.0 } else { moved as f64 / total as f64 };
        Self { total, moved, share }
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self::new(self.moved + other.moved, self.total + other.total)
    }
}

/// What becomes of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// It stays and is not as before.
    Changed,
    /// It stays as it is.
    #[default]
    Unchanged,
}

/// A value that is set otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Its key in the file.
    pub key: String,
    /// Its value now.
    pub from: String,
    /// Its new value.
    pub to: String,
}

/// A VIP that comes, goes or changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VipChange {
    /// Its name, the new one if it gets another; its service where only the tables know it.
    pub name: String,
    /// What it serves.
    pub service: String,
    /// What becomes of it.
    pub change: Change,
    /// What is set otherwise.
    pub settings: Vec<Setting>,
    /// Slots of its ring and of its groups' rings, and those that lead to another backend.
    pub slots: Moved,
    /// Its live flows, and those that lose their backend.
    pub flows: Moved,
    /// Its backends of before and after.
    pub backends: Vec<BackendChange>,
    /// The rings of its source routes, where they change.
    pub routes: Vec<RouteChange>,
}

/// A backend of a VIP that changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackendChange {
    /// Its pool; empty where only the tables know it.
    pub pool: String,
    /// Its name; its address where only the tables know it.
    pub name: String,
    /// Its address, the new one if it gets another.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// What becomes of it.
    pub change: Change,
    /// What is set otherwise.
    pub settings: Vec<Setting>,
    /// What it takes now: `serving`, `draining` or `down`; absent if it comes.
    pub state_before: Option<String>,
    /// What it takes then; absent if it goes.
    pub state_after: Option<String>,
    /// Its share of new flows now, 0 to 1, by the VIP's ring.
    pub share_before: f64,
    /// Its share of new flows then.
    pub share_after: f64,
    /// Its live flows, and those that lose it.
    pub flows: Moved,
}

/// The ring of source routes that lead to the same place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteChange {
    /// Where they lead: `pool NAME` or `backend NAME`.
    pub to: String,
    /// What becomes of it.
    pub change: Change,
    /// Slots of its ring, and those that lead to another backend.
    pub slots: Moved,
}

/// A pool that comes, goes, or is checked otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolChange {
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub change: Change,
    /// What is set otherwise, but for its backends.
    pub settings: Vec<Setting>,
}

/// A table that is made anew in another size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableGrowth {
    /// Its name.
    pub table: String,
    /// Bytes that the new one takes; 0 for one that takes memory only as it fills.
    pub bytes: u64,
}

/// A setting that needs more than a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restart {
    /// Which.
    #[serde(flatten)]
    pub setting: Setting,
    /// What to do.
    pub remedy: String,
}
