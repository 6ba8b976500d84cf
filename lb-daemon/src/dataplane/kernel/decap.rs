//! The program of `lb decap`: on a backend's interface, with its own tables, beside or without a balancer.
//!
//! ```text
//! DIR/decap/prog-IFNAME       the program
//! DIR/decap/link-IFNAME       its link
//! DIR/decap/addresses-IFNAME  the tunnel addresses that it unwraps
//! DIR/decap/counters-IFNAME   what it did
//! ```
//!
//! A second run loads a new program with new addresses and puts it in the old one's place at once; the counters go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use aya::maps::{HashMap, MapData, PerCpuArray};
use lb_common::{
    layout::vip::mapped,
    maps::{self, DecapVerdict},
};

use super::{
    attach::{self, Attached},
    error::{AttachError, OpenError},
    explain::{require_capabilities, system},
    interfaces, load,
    lock::Lock,
    pins::{self, Pins},
    specs::{count, map_error},
};
use crate::model::{AttachMode, Interface};

/// What `lb decap` put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The interface and how it is bound.
    pub attached: Attached,
    /// Tunnel addresses whose packets are unwrapped.
    pub addresses: BTreeSet<IpAddr>,
}

/// Puts the program on an interface, in place of an earlier one. Without `addresses` those of the interface itself are
/// taken, link-local ones aside, which no balancer can tunnel to.
///
/// # Errors
/// When the interface is missing or taken, has no address, or the kernel refuses. An earlier program goes on then.
pub fn install(
    pin_path: &Path,
    interface: &str,
    mode: AttachMode,
    addresses: &[IpAddr],
) -> Result<Installed, AttachError> {
    let found = attach::find(interface)?;
    let addresses = match addresses {
        [] => own_addresses(found.index)?,
        given => given.iter().copied().collect(),
    };
    if addresses.is_empty() {
        return Err(AttachError::NoAddress { name: interface.to_owned() });
    }
    require_capabilities("load the program")?;
    let folder = folder(pin_path);
    let lock = Lock::take(&folder)?;
    let names = Names::new(&folder, interface);
    let wanted = Interface { name: interface.to_owned(), mode };
    let attached = replace(&names, &wanted, &addresses);
    if attached.is_err() {
        // What failed is the news; what cannot be removed either is no worse than before.
        let _ = names.settle(None);
        remove_empty(pin_path);
    }
    drop(lock);
    Ok(Installed { attached: attached?, addresses })
}

/// Loads a program with these addresses and puts it on the interface. What it consists of gets its names when it runs.
fn replace(names: &Names, interface: &Interface, addresses: &BTreeSet<IpAddr>) -> Result<Attached, AttachError> {
    let kept = kept_counters(names)?;
    let mut object = load::decap(&kept)?;
    fill(&mut object, addresses)?;
    if kept.is_empty() {
        load::pin_table(&object, maps::DECAP_COUNTERS, &names.counters)?;
    }
    pins::remove(&names.next_addresses)?;
    load::pin_table(&object, maps::DECAP_ADDRESSES, &names.next_addresses)?;
    let mut program = load::pin_program(&mut object, maps::DECAP_PROGRAM, &names.next_program, &names.next)?;
    let id = load::program_id(&program)?;
    let attached = attach::one(&Pins::new(&names.folder), &mut program, interface);
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
    let was_there = attach::take_off(&Pins::new(&folder).link(interface))?;
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
    let names = Names::new(&folder(pin_path), interface);
    if names.running()?.is_none() {
        return Err(OpenError::NoDecap { interface: interface.to_owned(), path: names.folder });
    }
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

/// The names of one interface's pins.
struct Names {
    folder: PathBuf,
    link: PathBuf,
    program: PathBuf,
    addresses: PathBuf,
    counters: PathBuf,
    /// The program and its addresses before they take the place of those in force.
    next_program: PathBuf,
    next_addresses: PathBuf,
    next: PathBuf,
}

impl Names {
    fn new(folder: &Path, interface: &str) -> Self {
        let named = |what: &str| folder.join(format!("{what}-{}", pins::escape(interface)));
        Self {
            folder: folder.to_owned(),
            link: Pins::new(folder).link(interface),
            program: named("prog"),
            addresses: named("addresses"),
            counters: named("counters"),
            next_program: named("next-prog"),
            next_addresses: named("next-addresses"),
            next: named("next"),
        }
    }

    /// Number of the program that is in force on the interface.
    fn running(&self) -> Result<Option<u32>, OpenError> {
        attach::running(&self.link)
    }

    /// Gives the new program and its addresses their names if it is in force, removes them if another is, and all if none
    /// is.
    fn settle(&self, new: Option<u32>) -> Result<(), OpenError> {
        let running = self.running()?;
        if running.is_none() {
            return self.remove_all();
        }
        for (next, name) in [(&self.next_program, &self.program), (&self.next_addresses, &self.addresses)] {
            if running == new {
                fs::rename(next, name).map_err(|source| system(format!("pin {}", name.display()), source))?;
            } else {
                pins::remove(next)?;
            }
        }
        pins::remove(&self.next).map(drop)
    }

    /// Removes all, the link aside.
    fn remove_all(&self) -> Result<(), OpenError> {
        let current = [&self.program, &self.addresses, &self.counters];
        for file in current.into_iter().chain([&self.next_program, &self.next_addresses, &self.next]) {
            pins::remove(file)?;
        }
        Ok(())
    }
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

/// Writes the tunnel addresses.
fn fill(object: &mut aya::Ebpf, addresses: &BTreeSet<IpAddr>) -> Result<(), OpenError> {
    let what = "write the tunnel addresses";
    let Some(map) = object.map_mut(maps::DECAP_ADDRESSES) else { return Err(load::lacks(maps::DECAP_ADDRESSES)) };
    let mut table: HashMap<_, [u8; 16], u32> = map.try_into().map_err(|error| map_error(what, error))?;
    for address in addresses {
        let key = match address {
            IpAddr::V4(v4) => mapped(v4.octets()),
            IpAddr::V6(v6) => v6.octets(),
        };
        table.insert(key, 1, 0).map_err(|error| map_error(what, error))?;
    }
    Ok(())
}

fn own_addresses(index: u32) -> Result<BTreeSet<IpAddr>, OpenError> {
    let all = interfaces::addresses(index).map_err(|source| system("list the addresses", source))?;
    let reachable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    Ok(all.into_iter().filter(reachable).collect())
}
