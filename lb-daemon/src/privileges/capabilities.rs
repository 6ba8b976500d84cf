//! Capabilities: what stays, and the one that is used only for a moment.

use std::fmt;

use rustix::{
    io,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities,
    },
};
use tracing::error;

/// What the daemon works with, from include/uapi/linux/capability.h.
const NAMES: [(CapabilitySet, &str); 4] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
];

/// Capabilities that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// With every thread.
    pub(super) always: CapabilitySet,
    /// With the thread that loads programs, which uses them only then.
    pub(super) loading: CapabilitySet,
}

impl Kept {
    /// Of those that there are. `CAP_SYS_ADMIN` stands in for what a container runtime from before Linux 5.8 does not know.
    pub(super) fn of(permitted: CapabilitySet) -> Self {
        let or_admin = |wanted| if permitted.contains(wanted) { wanted } else { permitted & CapabilitySet::SYS_ADMIN };
        let always = permitted & CapabilitySet::NET_ADMIN | or_admin(CapabilitySet::BPF);
        Self { always, loading: or_admin(CapabilitySet::PERFMON) - always }
    }
}

/// Names in the order of the alphabet.
pub(super) fn names(set: CapabilitySet) -> Vec<&'static str> {
    NAMES.iter().filter(|(one, _)| set.contains(*one)).map(|(_, name)| *name).collect()
}

/// Gives up all that is not kept: of the bounding set too, where that is allowed. Where it is not, nothing is lost: no new
/// privileges come by execve(2).
pub(super) fn give_up() -> io::Result<Kept> {
    let sets = capabilities(None)?;
    let kept = Kept::of(sets.permitted);
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        for one in (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
            match capability_is_in_bounding_set(one) {
                Ok(true) if !kept.always.contains(one) => remove_capability_from_bounding_set(one)?,
                Ok(_) => {}
                // This kernel has no more of them.
                Err(_) => break,
            }
        }
    }
    clear_ambient_capability_set()?;
    let permitted = kept.always | kept.loading;
    set_capabilities(None, CapabilitySets { effective: kept.always, permitted, inheritable: CapabilitySet::empty() })?;
    Ok(kept)
}

/// Gives up every capability, and the way to any: for a process that runs other people's programs.
///
/// # Errors
/// When the kernel refuses.
pub fn give_up_all() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let sets = capabilities(None)?;
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        for one in (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
            match capability_is_in_bounding_set(one) {
                Ok(true) => remove_capability_from_bounding_set(one)?,
                Ok(false) => {}
                // This kernel has no more of them.
                Err(_) => break,
            }
        }
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// Gives up what this thread does not use at the moment. It can load no programs any more, and neither can threads that it
/// starts.
pub fn end_loading() {
    let given_up = capabilities(None).and_then(|sets| {
        let CapabilitySets { effective, permitted, .. } = sets;
        if permitted == effective {
            Ok(())
        } else {
            set_capabilities(None, CapabilitySets { permitted: effective, ..sets })
        }
    });
    if let Err(error) = given_up {
        // Nothing forbids to have less; and the thread does not use it.
        error!(%error, "a thread could not give up its right to load programs");
    }
}

/// Capabilities that loading and attaching programs need and this thread has no right to.
pub fn missing() -> Vec<&'static str> {
    capabilities(None).map(|sets| missing_from(sets.permitted)).unwrap_or_default()
}

/// Those of what loading and attaching needs that are missing from a set. `CAP_SYS_ADMIN` stands in for the newer two.
pub(super) fn missing_from(set: CapabilitySet) -> Vec<&'static str> {
    let needed = [CapabilitySet::BPF, CapabilitySet::PERFMON, CapabilitySet::NET_ADMIN];
    let admin = set.contains(CapabilitySet::SYS_ADMIN);
    let missing = needed.into_iter().filter(|one| !set.contains(*one));
    missing.filter(|one| !admin || *one == CapabilitySet::NET_ADMIN).flat_map(names).collect()
}

/// While it lives, this thread uses all that it has a right to.
pub struct Loading {
    before: Option<CapabilitySets>,
}

impl Loading {
    /// Begins; does nothing for who uses everything already. What the kernel does not give, it refuses again when it is needed.
    pub fn begin() -> Self {
        let raised = capabilities(None).and_then(|sets| {
            let differs = sets.permitted != sets.effective;
            if differs {
                set_capabilities(None, CapabilitySets { effective: sets.permitted, ..sets })?;
            }
            Ok(differs.then_some(sets))
        });
        Self { before: raised.unwrap_or_default() }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let Some(before) = self.before else { return };
        if let Err(error) = set_capabilities(None, before) {
            error!(%error, "what was needed to load a program could not be put down again");
        }
    }
}

impl fmt::Debug for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loading").field("raised", &self.before.is_some()).finish()
    }
}
