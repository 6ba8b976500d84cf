//! The program of `lb decap`: on a backend's interface, with its own tables, beside or without a balancer.
//!
//! ```text
//! DIR/decap/prog-IFNAME       the program
//! DIR/decap/link-IFNAME       its link
//! DIR/decap/addresses-IFNAME  the tunnel addresses that it unwraps
//! DIR/decap/sources-IFNAME    where tunnel packets may come from; empty is anywhere
//! DIR/decap/gue-port-IFNAME   -> the UDP port of GUE
//! DIR/decap/counters-IFNAME   what it did
//! ```
//!
//! A second run loads a new program with new settings and puts it in the old one's place at once: each packet meets the one
//! or the other, whole. The counters go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use aya::maps::{MapData, PerCpuArray};
use lb_common::maps::{self, DecapVerdict};

use self::names::Names;
pub use self::settings::{GUE_PORT, Settings};
use super::{
    attach::{self, Attached},
    error::{AttachError, OpenError},
    explain::{require_capabilities, system},
    interfaces,
    links::{self, Links},
    load,
    lock::Lock,
    pins::{self, Pins},
    specs::{count, map_error},
};
use crate::model::{AttachMode, Interface};

mod names;
mod settings;

/// What `lb decap` put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The interface and how it is bound.
    pub attached: Attached,
    /// What it does there.
    pub settings: Settings,
}

/// Puts the program on an interface, in place of an earlier one. Without addresses those of the interface itself are
/// taken, link-local ones aside, which no balancer can tunnel to.
///
/// # Errors
/// When the interface is missing or taken, has no address, or the kernel refuses. An earlier program goes on then.
pub fn install(
    pin_path: &Path,
    interface: &str,
    mode: AttachMode,
    mut settings: Settings,
) -> Result<Installed, AttachError> {
    let found = attach::find(interface)?;
    if settings.addresses.is_empty() {
        settings.addresses = own_addresses(found.index)?;
    }
    if settings.addresses.is_empty() {
        return Err(AttachError::NoAddress { name: interface.to_owned() });
    }
    require_capabilities("load the program")?;
    let folder = folder(pin_path);
    let lock = Lock::take(&folder)?;
    let names = Names::new(&folder, interface);
    let wanted = Interface { name: interface.to_owned(), mode };
    let attached = replace(&names, &wanted, &settings);
    if attached.is_err() {
        // What failed is the news; what cannot be removed either is no worse than before.
        let _ = names.settle(None);
        remove_empty(pin_path);
    }
    drop(lock);
    Ok(Installed { attached: attached?, settings })
}

/// Loads a program with these settings and puts it on the interface. What it consists of gets its names when it runs.
fn replace(names: &Names, interface: &Interface, settings: &Settings) -> Result<Attached, AttachError> {
    let kept = kept_counters(names)?;
    let mut object = load::decap(settings.tuning(), &settings.sizes(), &kept)?;
    settings.fill(&mut object)?;
    if kept.is_empty() {
        load::pin_table(&object, maps::DECAP_COUNTERS, &names.counters)?;
    }
    names.pin(&object, settings)?;
    let mut program = load::pin_program(&mut object, maps::DECAP_PROGRAM, &names.program.next, &names.next)?;
    let id = load::program_id(&program)?;
    let attached = attach::one(&mut Links::pinned(&Pins::new(&names.folder)), &mut program, interface);
    // Also when that failed: the new program may run all the same, in the mode of before.
    let settled = names.settle(Some(id));
    let attached = attached?;
    settled?;
    Ok(attached)
}

/// Takes the program off an interface. Whether it was there.
///
/// # Errors
/// When it cannot be taken off.
pub fn remove(pin_path: &Path, interface: &str) -> Result<bool, OpenError> {
    let folder = folder(pin_path);
    if !folder.exists() {
        return Ok(false);
    }
    let lock = Lock::take(&folder)?;
    let was_there = links::take_off(&Pins::new(&folder).link(interface))?;
    Names::new(&folder, interface).remove_all()?;
    remove_empty(pin_path);
    drop(lock);
    Ok(was_there)
}

/// What the program on an interface did so far, by verdict.
///
/// # Errors
/// [`OpenError::NoDecap`] when it is not in place, or when they cannot be read.
pub fn counters(pin_path: &Path, interface: &str) -> Result<BTreeMap<DecapVerdict, u64>, OpenError> {
    let what = "read the counters of lb decap";
    let names = in_place(pin_path, interface)?;
    let map = MapData::from_pin(names.counters).map_err(|error| map_error(what, error))?;
    let array: PerCpuArray<_, u64> =
        aya::maps::Map::PerCpuArray(map).try_into().map_err(|error| map_error(what, error))?;
    let mut sums = BTreeMap::new();
    for verdict in DecapVerdict::ALL {
        let values = array.get(&(verdict as u32), 0).map_err(|error| map_error(what, error))?;
        sums.insert(verdict, values.iter().fold(0, |sum: u64, one| sum.wrapping_add(*one)));
    }
    Ok(sums)
}

/// With what settings the program on an interface runs.
///
/// # Errors
/// [`OpenError::NoDecap`] when it is not in place, or when they cannot be read.
pub fn settings(pin_path: &Path, interface: &str) -> Result<Settings, OpenError> {
    Settings::read(&in_place(pin_path, interface)?)
}

/// The names of what is in place on an interface.
fn in_place(pin_path: &Path, interface: &str) -> Result<Names, OpenError> {
    let names = Names::new(&folder(pin_path), interface);
    if names.running()?.is_none() {
        return Err(OpenError::NoDecap { interface: interface.to_owned(), path: names.folder });
    }
    Ok(names)
}

/// Removes the folders, which stay while they hold other interfaces' pins, or a balancer's.
fn remove_empty(pin_path: &Path) {
    let _ = fs::remove_dir(folder(pin_path)).and_then(|()| fs::remove_dir(pin_path));
}

fn folder(pin_path: &Path) -> PathBuf {
    pin_path.join("decap")
}

/// Counters of an earlier run that this program can go on with; others are removed.
fn kept_counters(names: &Names) -> Result<Vec<(&'static str, PathBuf)>, OpenError> {
    let info = MapData::from_pin(&names.counters).and_then(|map| map.info());
    let fits = info.is_ok_and(|info| {
        (info.key_size(), info.value_size(), info.max_entries()) == (4, 8, count(DecapVerdict::ALL.len()))
    });
    if fits {
        return Ok(vec![(maps::DECAP_COUNTERS, names.counters.clone())]);
    }
    pins::remove(&names.counters)?;
    Ok(Vec::new())
}

fn own_addresses(index: u32) -> Result<BTreeSet<IpAddr>, OpenError> {
    let all = interfaces::addresses(index).map_err(|source| system("list the addresses", source))?;
    let reachable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    Ok(all.into_iter().filter(reachable).collect())
}
