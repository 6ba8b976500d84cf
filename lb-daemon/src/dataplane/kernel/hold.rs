//! Interfaces that vanish and return while the daemon runs: a veth or VLAN that is made anew, a driver that is reloaded.
//! The link stays but is dead, and nothing runs on the new interface of that name until it is bound again.

use std::collections::BTreeMap;

use aya::programs::Xdp;
use tracing::info;

use super::{
    attach::{self, Attached},
    error::AttachError,
    links::Links,
    sys,
};
use crate::model::Interface;

/// The interfaces on which the program does not run, with their numbers; 0 for those that do not exist. Cheap enough to
/// be asked every second.
pub(super) fn lost(links: &Links, wanted: &[Interface]) -> BTreeMap<String, u32> {
    let is_lost = |interface: &Interface| {
        let index = sys::interface_index(&interface.name);
        let bound = links.open(&interface.name).ok().flatten();
        let runs = index != 0 && bound.is_some_and(|link| link.ifindex == index);
        (!runs).then(|| (interface.name.clone(), index))
    };
    wanted.iter().filter_map(is_lost).collect()
}

/// Binds the program again where it does not run, and tells where it does then, also after an error.
///
/// # Errors
/// The first; interfaces after it are bound all the same.
pub(super) fn again(
    links: &mut Links,
    program: &mut Xdp,
    wanted: &[Interface],
) -> (Vec<Attached>, Result<(), AttachError>) {
    let lost = lost(links, wanted);
    let mut outcome = Ok(());
    let bind = wanted.iter().filter(|interface| lost.contains_key(&interface.name));
    for interface in bind {
        match attach::one(links, program, interface) {
            Ok(done) => info!(interface = done.interface, mode = done.hook.name(), "attached again"),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    match attach::in_force(links) {
        Ok(attached) => (attached, outcome),
        Err(error) => (Vec::new(), outcome.and(Err(error))),
    }
}
