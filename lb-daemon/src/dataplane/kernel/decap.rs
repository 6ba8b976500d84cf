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
    explain::system,
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
    let folder = folder(pin_path);
    let _lock = Lock::take(&folder)?;
    let names = Names::new(&folder, interface);
    let kept = kept_counters(&names)?;
    let mut object = load::decap(&kept)?;
    fill(&mut object, &addresses)?;
    if kept.is_empty() {
        load::pin_table(&object, maps::DECAP_COUNTERS, &names.counters)?;
    }
    pins::remove(&names.next)?;
    load::pin_table(&object, maps::DECAP_ADDRESSES, &names.next)?;
    fs::rename(&names.next, &names.addresses)
        .map_err(|source| system(format!("pin {}", names.addresses.display()), source))?;
    let mut program = load::pin_program(&mut object, maps::DECAP_PROGRAM, &names.program, &names.next)?;
    let wanted = Interface { name: interface.to_owned(), mode };
    let attached = attach::one(&Pins::new(&folder), &mut program, &wanted)?;
    Ok(Installed { attached, addresses })
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
    let names = Names::new(&folder, interface);
    for file in [names.program, names.addresses, names.counters, names.next] {
        pins::remove(&file)?;
    }
    // They stay while they hold other interfaces' pins, or a balancer's.
    let _ = fs::remove_dir(&folder).and_then(|()| fs::remove_dir(pin_path));
    drop(lock);
    Ok(was_there)
}

/// What the program on an interface did so far, by verdict.
///
/// # Errors
/// When it is not there or cannot be read.
pub fn counters(pin_path: &Path, interface: &str) -> Result<BTreeMap<DecapVerdict, u64>, OpenError> {
    let what = "read the counters of lb decap";
    let path = Names::new(&folder(pin_path), interface).counters;
    let map = MapData::from_pin(path).map_err(|error| map_error(what, error))?;
    let array: PerCpuArray<_, u64> =
        aya::maps::Map::PerCpuArray(map).try_into().map_err(|error| map_error(what, error))?;
    let mut sums = BTreeMap::new();
    for verdict in DecapVerdict::ALL {
        let values = array.get(&(verdict as u32), 0).map_err(|error| map_error(what, error))?;
        sums.insert(verdict, values.iter().fold(0, |sum: u64, one| sum.wrapping_add(*one)));
    }
    Ok(sums)
}

/// The names of one interface's pins, links aside.
struct Names {
    program: PathBuf,
    addresses: PathBuf,
    counters: PathBuf,
    next: PathBuf,
}

impl Names {
    fn new(folder: &Path, interface: &str) -> Self {
        let named = |what: &str| folder.join(format!("{what}-{}", pins::escape(interface)));
        Self { program: named("prog"), addresses: named("addresses"), counters: named("counters"), next: named("next") }
    }
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
