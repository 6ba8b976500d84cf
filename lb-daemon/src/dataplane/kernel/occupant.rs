//! Who is in the way on an interface, and how it is taken off.
//!
//! A program that is bound by a BPF link leaves with its link alone: neither `ip` nor `bpftool net` can take it off.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use aya::programs::{loaded_links, loaded_programs};
use lb_common::maps;

use super::{
    pins::{self, USUAL_MOUNT},
    sys::XdpLink,
};

/// How deep below the usual mount a pinned link is looked for.
const DEPTH: u32 = 5;
/// Length to which the kernel cuts the names of programs.
const NAME_LENGTH: usize = 15;

/// Whose the program is that holds an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// A balancer of ours.
    Balancer {
        /// Its pin path, where it was found.
        pin_path: Option<PathBuf>,
    },
    /// An `lb decap`.
    Decap {
        /// Its pin path, where it was found.
        pin_path: Option<PathBuf>,
    },
    /// Something else that holds a BPF link.
    OtherLink,
    /// Something else, bound without a link as far as the kernel tells us.
    Other,
}

impl Occupant {
    /// Whose a program is.
    pub(super) fn of(program: u32, interface: &str) -> Self {
        if !loaded_links().flatten().any(|link| link.program_id() == program) {
            return Self::Other;
        }
        let known = loaded_programs().flatten().find(|known| known.id() == program);
        let name = known.as_ref().and_then(|known| known.name_as_str()).unwrap_or_default();
        let file = pins::link_name(interface);
        let folder = || find(Path::new(USUAL_MOUNT), &file, program, DEPTH);
        if [maps::PROGRAM, maps::PROGRAM_FRAGS].iter().any(|own| name == cut(own)) {
            Self::Balancer { pin_path: folder() }
        } else if name == cut(maps::DECAP_PROGRAM) {
            Self::Decap { pin_path: folder().and_then(|decap| decap.parent().map(Path::to_owned)) }
        } else {
            Self::OtherLink
        }
    }

    /// The same with the interface that it holds, to be shown.
    pub(super) fn on<'a>(&'a self, interface: &'a str) -> impl fmt::Display + 'a {
        Remedy { occupant: self, interface }
    }
}

struct Remedy<'a> {
    occupant: &'a Occupant,
    interface: &'a str,
}

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.interface;
        let (who, command, pin_path) = match self.occupant {
            Occupant::Balancer { pin_path } => ("lb", "unload".to_owned(), pin_path),
            Occupant::Decap { pin_path } => ("lb decap", format!("decap --interface {name} --remove"), pin_path),
            Occupant::OtherLink => {
                return f.write_str("it is bound by a BPF link, which nobody but its owner can let go of: end that");
            }
            Occupant::Other => {
                return write!(
                    f,
                    "take it off first: `bpftool net detach xdp dev {name}` or `ip link set dev {name} xdp off`, or end \
                     what put it there"
                );
            }
        };
        match pin_path {
            None if matches!(self.occupant, Occupant::Balancer { .. }) => f.write_str(
                "it is lb, pinned elsewhere or held by a daemon: stop that daemon, or take it off with `lb --pin-path DIR \
                 unload` and the folder that it was given",
            ),
            Some(path) => {
                let path = path.display();
                write!(f, "it is {who}, pinned at {path}; take it off first: `lb --pin-path {path} {command}`")
            }
            None => write!(
                f,
                "it is {who}, pinned elsewhere; take it off first: `lb --pin-path DIR {command}` with the folder that it \
                 was given"
            ),
        }
    }
}

/// The folder in which a link that runs the program is pinned by this name.
fn find(folder: &Path, file: &str, program: u32, depth: u32) -> Option<PathBuf> {
    if XdpLink::pinned(&folder.join(file)).is_ok_and(|link| link.program == program) {
        return Some(folder.to_owned());
    }
    let depth = depth.checked_sub(1)?;
    let entries = fs::read_dir(folder).ok()?.flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.into_iter().find_map(|entry| find(&entry.path(), file, program, depth))
}

fn cut(name: &str) -> &str {
    name.get(..NAME_LENGTH).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_takes_the_program_off() {
        let told = |occupant: Occupant| occupant.on("eth0").to_string();
        let pin_path = Some(PathBuf::from("/sys/fs/bpf/one"));
        let text = told(Occupant::Balancer { pin_path: pin_path.clone() });
        assert!(text.contains("`lb --pin-path /sys/fs/bpf/one unload`"), "{text}");
        let text = told(Occupant::Decap { pin_path });
        assert!(text.contains("`lb --pin-path /sys/fs/bpf/one decap --interface eth0 --remove`"), "{text}");
        let text = told(Occupant::Balancer { pin_path: None });
        assert!(text.contains("`lb --pin-path DIR unload`"), "{text}");
        let text = told(Occupant::OtherLink);
        assert!(text.contains("owner") && !text.contains("bpftool"), "{text}");
        assert!(told(Occupant::Other).contains("`ip link set dev eth0 xdp off`"));
    }
}
