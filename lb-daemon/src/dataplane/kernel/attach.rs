//! The program on its interfaces, each by a link.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use aya::programs::{ProgramError, Xdp, XdpMode, links::FdLink, xdp::XdpLink as XdpBound};
use tracing::{info, warn};

use super::{
    error::{AttachError, OpenError},
    explain::{kernel_release, system},
    interfaces::{self, Hook},
    links::Links,
    load::{program_error, program_id},
    refusal,
    sys::XdpLink,
};
use crate::model::{AttachMode, Interface};

/// How long a program that leaves its interface is waited for: the kernel takes off the links of a daemon that was killed
/// some time after its end.
const LEAVING: Duration = Duration::from_millis(500);
/// Time between two attempts meanwhile.
const BETWEEN: Duration = Duration::from_millis(10);

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
pub(super) fn all(links: &mut Links, program: &mut Xdp, wanted: &[Interface]) -> Result<Vec<Attached>, AttachError> {
    require(wanted)?;
    let mut attached: Vec<Attached> = Vec::new();
    for interface in wanted {
        match one(links, program, interface) {
            Ok(done) => attached.push(done),
            Err(error) => {
                for made in attached.iter().filter(|attached| attached.change == Change::Made) {
                    links.take_off(&made.interface)?;
                }
                return Err(error);
            }
        }
    }
    let names: BTreeSet<&str> = wanted.iter().map(|interface| interface.name.as_str()).collect();
    for name in links.names()? {
        if !names.contains(name.as_str()) {
            links.take_off(&name)?;
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

/// Binds the program to one interface: by the link that is there, if that is its own and in the right mode, else anew.
pub(super) fn one(links: &mut Links, program: &mut Xdp, interface: &Interface) -> Result<Attached, AttachError> {
    let name = &interface.name;
    let found = find(name)?;
    let mut replaced = None;
    if let Some(link) = links.open(name)? {
        // The interface may have been made anew under the same name: then the link is dead, or another's.
        let own = (link.ifindex == found.index).then(|| found.hook_of(link.program)).flatten();
        if own.is_some_and(|hook| suits(interface.mode, hook)) {
            swap(name, &link, program)?;
            return shown(name, program, Change::Kept);
        }
        links.take_off(name)?;
        replaced = own;
    }
    if let Err(error) = fresh(links, program, name, found.index, interface.mode) {
        // In another mode the interface did run: better so than not at all.
        if let Some(hook) = replaced {
            let mode = if hook == Hook::Generic { AttachMode::Generic } else { AttachMode::Native };
            fresh(links, program, name, found.index, mode)?;
            warn!(interface = name, mode = hook.name(), "attached again as before");
        }
        return Err(error);
    }
    shown(name, program, Change::Made)
}

/// The links that are alive, with what the kernel shows on their interfaces.
pub(super) fn in_force(links: &Links) -> Result<Vec<Attached>, AttachError> {
    let present = list()?;
    let mut attached = Vec::new();
    for name in links.names()? {
        let (Some(link), Some(interface)) = (links.open(&name)?, present.get(&name)) else { continue };
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

/// Puts the program on all links that are alive, those of other network namespaces too.
pub(super) fn swap_all(links: &Links, program: &Xdp) -> Result<(), OpenError> {
    for name in links.names()? {
        if let Some(link) = links.open(&name)?.filter(XdpLink::is_alive) {
            swap(&name, &link, program)?;
        }
    }
    Ok(())
}

/// Whether any link that is alive runs the program with this number.
pub(super) fn runs(links: &Links, id: u32) -> Result<bool, OpenError> {
    for name in links.names()? {
        if links.open(&name)?.is_some_and(|link| link.is_alive() && link.program == id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts the program in the place of the one that a link runs; packets meet either.
fn swap(name: &str, link: &XdpLink, program: &Xdp) -> Result<(), OpenError> {
    let what = || format!("put the new program in place on {name}");
    let program = program.fd().map_err(|error| program_error(what(), error))?;
    link.update(program.as_fd()).map_err(|source| system(what(), source))
}

/// Attaches anew and keeps the link.
fn fresh(links: &mut Links, program: &mut Xdp, name: &str, index: u32, mode: AttachMode) -> Result<(), AttachError> {
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
    Ok(links.keep(name, link)?)
}

/// Attaches in one mode. The program is off again when the link is dropped before it is kept.
fn bind(program: &mut Xdp, name: &str, index: u32, mode: XdpMode) -> Result<FdLink, AttachError> {
    let mut taken = attempt(program, index, mode);
    let started = Instant::now();
    while taken.as_ref().is_err_and(|error| refusal::is_leaving(name, error)) && started.elapsed() < LEAVING {
        thread::sleep(BETWEEN);
        taken = attempt(program, index, mode);
    }
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

fn attempt(program: &mut Xdp, index: u32, mode: XdpMode) -> Result<XdpBound, ProgramError> {
    program.attach_to_if_index(index, mode).and_then(|id| program.take_link(id))
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
