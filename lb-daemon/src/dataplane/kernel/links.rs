//! The links by which the program is on its interfaces, and who keeps them there: pins, by which they outlive the daemon,
//! or this process alone, with which the kernel lets go of them, however it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use aya::programs::links::FdLink;
use tracing::warn;

use super::{
    error::OpenError,
    explain::system,
    load::pin_error,
    pins::{self, Pins},
    sys::XdpLink,
};

/// Who keeps the links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grip {
    /// Pins: forwarding goes on without the daemon.
    #[default]
    Pins,
    /// The process: it ends with the daemon.
    Process,
}

/// The links of one pin path.
pub(super) struct Links {
    pins: Pins,
    /// Who keeps links that are made.
    grip: Grip,
    /// Those that are not pinned.
    held: BTreeMap<String, XdpLink>,
}

impl Links {
    /// Those that are pinned.
    pub(super) fn pinned(pins: &Pins) -> Self {
        Self { pins: pins.clone(), grip: Grip::Pins, held: BTreeMap::new() }
    }

    /// Names of the interfaces that have one, dead or alive.
    pub(super) fn names(&self) -> Result<BTreeSet<String>, OpenError> {
        let pinned =
            self.pins.links().map_err(|source| system(format!("list {}", self.pins.dir().display()), source))?;
        Ok(pinned.into_keys().chain(self.held.keys().cloned()).collect())
    }

    /// The link of an interface as it is now, if there is one.
    pub(super) fn open(&self, name: &str) -> Result<Option<XdpLink>, OpenError> {
        match self.held.get(name) {
            Some(link) => {
                link.again().map(Some).map_err(|source| system(format!("look at the XDP link on {name}"), source))
            }
            None => open(&self.pins.link(name)),
        }
    }

    /// Keeps a link that was made a moment ago.
    pub(super) fn keep(&mut self, name: &str, link: FdLink) -> Result<(), OpenError> {
        let path = self.pins.link(name);
        // A link in the way here could only be a pin of something else: who makes one has taken ours off. aya gives away
        // no descriptor of a link but by its pin.
        link.pin(&path).map(drop).map_err(|error| pin_error(&path, error))?;
        if self.grip == Grip::Process { self.unpin(name) } else { Ok(()) }
    }

    /// Takes a link off its interface. Whether it was there.
    pub(super) fn take_off(&mut self, name: &str) -> Result<bool, OpenError> {
        let Some(link) = self.held.remove(name) else { return take_off(&self.pins.link(name)) };
        detach(&link).map_err(|source| system(format!("detach from {name}"), source))?;
        Ok(true)
    }

    /// Has all links kept in this way. None is detached meanwhile.
    pub(super) fn keep_by(&mut self, grip: Grip) -> Result<(), OpenError> {
        self.grip = grip;
        for name in self.names()? {
            match grip {
                Grip::Process => self.unpin(&name)?,
                Grip::Pins => {
                    if let Some(link) = self.held.get(&name) {
                        let path = self.pins.link(&name);
                        link.pin(&path).map_err(|source| system(format!("pin {}", path.display()), source))?;
                        self.held.remove(&name);
                    }
                }
            }
        }
        Ok(())
    }

    fn unpin(&mut self, name: &str) -> Result<(), OpenError> {
        let path = self.pins.link(name);
        if let Some(link) = open(&path)? {
            self.held.insert(name.to_owned(), link);
            pins::remove(&path)?;
        }
        Ok(())
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for (name, link) in &self.held {
            // At once: left to the kernel, they might be in the way of whoever attaches next.
            if let Err(error) = detach(link) {
                warn!(interface = name, %error, "not detached; the kernel does it when this process has ended");
            }
        }
    }
}

/// Takes a pinned link off its interface and removes its pin. Whether it was there.
pub(super) fn take_off(path: &Path) -> Result<bool, OpenError> {
    let Some(link) = open(path)? else { return Ok(false) };
    detach(&link).map_err(|source| system(format!("detach {}", path.display()), source))?;
    pins::remove(path)
}

/// Number of the program that a pinned link runs, if there is one that is alive.
pub(super) fn running(path: &Path) -> Result<Option<u32>, OpenError> {
    Ok(open(path)?.filter(XdpLink::is_alive).map(|link| link.program))
}

fn detach(link: &XdpLink) -> io::Result<()> {
    match link.detach() {
        // Dead already: the interface is gone.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        result => result,
    }
}

/// Opens a pinned link, if there is one.
fn open(path: &Path) -> Result<Option<XdpLink>, OpenError> {
    match XdpLink::pinned(path) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(system(format!("open the XDP link {}", path.display()), source)),
    }
}
