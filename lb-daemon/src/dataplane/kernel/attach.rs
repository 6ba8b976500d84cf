//! The program on its interfaces, each by a pinned link.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use aya::programs::{
    Xdp, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    xdp::XdpLink,
};
use tracing::{info, warn};

use super::{
    error::{AttachError, OpenError},
    explain::{kernel_release, system},
    interfaces::{self, Hook},
    load::{pin_error, program_error, program_id},
    pins::{self, Pins},
    refusal,
    sys::PinnedXdpLink,
};
use crate::model::{AttachMode, Interface};

/// An interface that the program is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// Its number.
    pub ifindex: u32,
    /// Where the program runs, as the kernel says.
    pub hook: Hook,
    /// Number of the program.
    pub program: u32,
    /// What was done.
    pub change: Change,
}

/// What binding an interface took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it was bound, and got the new program in place.
    Kept,
    /// It was bound anew.
    Made,
}

/// Binds the program to these interfaces and to no others that it holds below this pin path. When one cannot be bound,
/// those that were are as before.
pub(super) fn all(pins: &Pins, program: &mut Xdp, wanted: &[Interface]) -> Result<Vec<Attached>, AttachError> {
    require(wanted)?;
    let mut attached: Vec<Attached> = Vec::new();
    for interface in wanted {
        match one(pins, program, interface) {
            Ok(done) => attached.push(done),
            Err(error) => {
                for made in attached.iter().filter(|attached| attached.change == Change::Made) {
                    take_off(&pins.link(&made.interface))?;
                }
                return Err(error);
            }
        }
    }
    let names: BTreeSet<&str> = wanted.iter().map(|interface| interface.name.as_str()).collect();
    for (name, path) in pinned(pins)? {
        if !names.contains(name.as_str()) {
            take_off(&path)?;
            info!(interface = name, "detached");
        }
    }
    Ok(attached)
}

/// Refuses interfaces that do not exist.
pub(super) fn require(wanted: &[Interface]) -> Result<(), AttachError> {
    let present = list()?;
    let Some(missing) = wanted.iter().find(|interface| !present.contains_key(&interface.name)) else { return Ok(()) };
    let existing = present.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(AttachError::NoInterface { name: missing.name.clone(), existing })
}

/// Binds the program to one interface: by the link that is pinned, if that is its own and in the right mode, else anew.
pub(super) fn one(pins: &Pins, program: &mut Xdp, interface: &Interface) -> Result<Attached, AttachError> {
    let name = &interface.name;
    let path = pins.link(name);
    let found = find(name)?;
    let mut replaced = None;
    if let Some(link) = open(&path)? {
        // The interface may have been made anew under the same name: then the link is dead, or another's.
        let own = (link.ifindex == found.index).then(|| found.hook_of(link.program)).flatten();
        if own.is_some_and(|hook| suits(interface.mode, hook)) {
            swap(&path, program)?;
            return shown(name, program, Change::Kept);
        }
        take_off(&path)?;
        replaced = own;
    }
    if let Err(error) = fresh(program, name, found.index, interface.mode, &path) {
        // In another mode the interface did run: better so than not at all.
        if let Some(hook) = replaced {
            let mode = if hook == Hook::Generic { AttachMode::Generic } else { AttachMode::Native };
            fresh(program, name, found.index, mode, &path)?;
            warn!(interface = name, mode = hook.name(), "attached again as before");
        }
        return Err(error);
    }
    shown(name, program, Change::Made)
}

/// The links that are pinned and alive, with what the kernel shows on their interfaces.
pub(super) fn in_force(pins: &Pins) -> Result<Vec<Attached>, AttachError> {
    let present = list()?;
    let mut attached = Vec::new();
    for (name, path) in pinned(pins)? {
        let (Some(link), Some(interface)) = (open(&path)?, present.get(&name)) else { continue };
        if let Some(hook) = interface.hook_of(link.program).filter(|_| link.ifindex == interface.index) {
            attached.push(Attached {
                interface: name,
                ifindex: link.ifindex,
                hook,
                program: link.program,
                change: Change::Kept,
            });
        }
    }
    Ok(attached)
}

/// Puts the program on all pinned links that are alive, those of other network namespaces too.
pub(super) fn swap_all(pins: &Pins, program: &mut Xdp) -> Result<(), OpenError> {
    for path in pinned(pins)?.into_values() {
        if running(&path)?.is_some() {
            swap(&path, program)?;
        }
    }
    Ok(())
}

/// Whether any pinned link runs the program with this number.
pub(super) fn runs(pins: &Pins, id: u32) -> Result<bool, OpenError> {
    for path in pinned(pins)?.into_values() {
        if running(&path)? == Some(id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts the program in the place of the one that a pinned link runs; packets meet either.
fn swap(path: &Path, program: &mut Xdp) -> Result<(), OpenError> {
    let what = || format!("put the new program in place at {}", path.display());
    let link = PinnedLink::from_pin(path).and_then(|link| XdpLink::try_from(FdLink::from(link)));
    let link = link.map_err(|error| link_error(what(), error))?;
    let id = program.attach_to_link(link).map_err(|error| program_error(what(), error))?;
    // The pin holds the link; what is dropped here is a descriptor.
    program.take_link(id).map(drop).map_err(|error| program_error(what(), error))
}

/// Takes a link off its interface and removes its pin. Whether it was there.
pub(super) fn take_off(path: &Path) -> Result<bool, OpenError> {
    let Some(link) = open(path)? else { return Ok(false) };
    match link.detach() {
        // Dead already: the interface is gone.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
        result => result.map_err(|source| system(format!("detach {}", path.display()), source))?,
    }
    pins::remove(path)
}

/// Number of the program that a pinned link runs, if there is one that is alive.
pub(super) fn running(path: &Path) -> Result<Option<u32>, OpenError> {
    Ok(open(path)?.filter(|link| link.ifindex != 0).map(|link| link.program))
}

/// Opens a pinned link, if there is one.
fn open(path: &Path) -> Result<Option<PinnedXdpLink>, OpenError> {
    match PinnedXdpLink::open(path) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(system(format!("open the XDP link {}", path.display()), source)),
    }
}

/// Attaches anew and pins the link.
fn fresh(program: &mut Xdp, name: &str, index: u32, mode: AttachMode, path: &Path) -> Result<(), AttachError> {
    let link = match mode {
        AttachMode::Native => bind(program, name, index, XdpMode::Driver)?,
        AttachMode::Generic => bind(program, name, index, XdpMode::Skb)?,
        AttachMode::Auto => match bind(program, name, index, XdpMode::Driver) {
            Err(error @ (AttachError::Refused { .. } | AttachError::FramesTooLarge { .. })) => {
                let link = bind(program, name, index, XdpMode::Skb)?;
                warn!(interface = name, reason = %error, "no native XDP, attached in generic mode, which is slow");
                link
            }
            result => result?,
        },
    };
    // A link in the way here could only be a pin of something else: `one` has taken ours off.
    link.pin(path).map(drop).map_err(|error| pin_error(path, error).into())
}

/// Attaches in one mode. The program is off again when the link is dropped before it is pinned.
fn bind(program: &mut Xdp, name: &str, index: u32, mode: XdpMode) -> Result<FdLink, AttachError> {
    let taken = program.attach_to_if_index(index, mode).and_then(|id| program.take_link(id));
    let error = match taken {
        // aya binds by netlink where the kernel knows no links; dropping that takes it off.
        Ok(link) => {
            return FdLink::try_from(link)
                .map_err(|_| AttachError::NoLink { name: name.to_owned(), kernel: kernel_release() });
        }
        Err(error) => error,
    };
    Err(refusal::explain(program, &refusal::Attempt { name, index, mode }, error))
}

/// What the kernel shows of an interface that should run the program.
fn shown(name: &str, program: &Xdp, change: Change) -> Result<Attached, AttachError> {
    let id = program_id(program)?;
    let found = find(name)?;
    let Some(hook) = found.hook_of(id) else {
        return Err(AttachError::NotThere { name: name.to_owned(), program: id });
    };
    Ok(Attached { interface: name.to_owned(), ifindex: found.index, hook, program: id, change })
}

/// Whether a program that runs there does so as asked.
fn suits(mode: AttachMode, hook: Hook) -> bool {
    match mode {
        AttachMode::Auto => true,
        AttachMode::Native => hook == Hook::Native,
        AttachMode::Generic => hook == Hook::Generic,
    }
}

pub(super) fn find(name: &str) -> Result<interfaces::Interface, AttachError> {
    let mut present = list()?;
    let found = present.remove(name);
    let existing = || present.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| AttachError::NoInterface { name: name.to_owned(), existing: existing() })
}

fn list() -> Result<BTreeMap<String, interfaces::Interface>, OpenError> {
    interfaces::list().map_err(|source| system("list the network interfaces", source))
}

fn pinned(pins: &Pins) -> Result<BTreeMap<String, PathBuf>, OpenError> {
    pins.links().map_err(|source| system(format!("list {}", pins.dir().display()), source))
}

fn link_error(what: String, error: LinkError) -> OpenError {
    match error {
        LinkError::SyscallError(error) => system(what, error.io_error),
        other => OpenError::Object { what, source: Box::new(other) },
    }
}
