//! The names of one interface's pins, and how those of a new program take the place of the old one's.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use aya::Ebpf;
use lb_common::maps;

use super::{
    super::{
        error::OpenError,
        explain::system,
        links, load,
        pins::{self, Pins},
    },
    Settings,
};

/// A pin that is replaced together with the program.
pub(super) struct Part {
    pub(super) name: PathBuf,
    /// The same before it is in force.
    pub(super) next: PathBuf,
}

/// Where everything of one interface is pinned.
pub(super) struct Names {
    pub(super) folder: PathBuf,
    pub(super) link: PathBuf,
    pub(super) counters: PathBuf,
    pub(super) program: Part,
    pub(super) addresses: Part,
    pub(super) sources: Part,
    /// A symbolic link to nothing, whose text is the port: a BPF file system takes no files.
    pub(super) gue_port: Part,
    pub(super) next: PathBuf,
}

impl Names {
    pub(super) fn new(folder: &Path, interface: &str) -> Self {
        let named = |what: &str| folder.join(format!("{what}-{}", pins::escape(interface)));
        let part = |what: &str| Part { name: named(what), next: named(&format!("next-{what}")) };
        Self {
            folder: folder.to_owned(),
            link: Pins::new(folder).link(interface),
            counters: named("counters"),
            program: part("prog"),
            addresses: part("addresses"),
            sources: part("sources"),
            gue_port: part("gue-port"),
            next: named("next"),
        }
    }

    fn parts(&self) -> [&Part; 4] {
        [&self.program, &self.addresses, &self.sources, &self.gue_port]
    }

    /// Number of the program that is in force on the interface.
    pub(super) fn running(&self) -> Result<Option<u32>, OpenError> {
        links::running(&self.link)
    }

    /// Pins a loaded object's settings, which are not in force yet.
    pub(super) fn pin(&self, object: &Ebpf, settings: &Settings) -> Result<(), OpenError> {
        for (table, part) in [(maps::DECAP_ADDRESSES, &self.addresses), (maps::DECAP_SOURCES, &self.sources)] {
            pins::remove(&part.next)?;
            load::pin_table(object, table, &part.next)?;
        }
        let port = &self.gue_port.next;
        pins::remove(port)?;
        symlink(settings.gue_port.to_string(), port)
            .map_err(|source| system(format!("link {}", port.display()), source))
    }

    /// Gives what belongs to the new program its names if that is in force, removes it if another is, and removes all if
    /// none is.
    pub(super) fn settle(&self, new: Option<u32>) -> Result<(), OpenError> {
        let running = self.running()?;
        if running.is_none() {
            return self.remove_all();
        }
        for Part { name, next } in self.parts() {
            if running == new {
                fs::rename(next, name).map_err(|source| system(format!("pin {}", name.display()), source))?;
            } else {
                pins::remove(next)?;
            }
        }
        pins::remove(&self.next).map(drop)
    }

    /// Removes all, the link aside.
    pub(super) fn remove_all(&self) -> Result<(), OpenError> {
        let parts = self.parts().into_iter().flat_map(|part| [&part.name, &part.next]);
        for file in parts.chain([&self.counters, &self.next]) {
            pins::remove(file)?;
        }
        Ok(())
    }
}
