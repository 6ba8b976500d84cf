//! What the controller drives: the tables, and the program over them.

use std::{collections::BTreeMap, error::Error};

use lb_common::{layout::flow::TIME_SHIFT, maps::Tuning};

use crate::{
    dataplane::{
        Dataplane,
        kernel::{self, AttachError, Kernel},
    },
    model::DataplaneConfig,
};

/// The tables, and the program that reads them.
pub trait Engine: Dataplane {
    /// Puts a program with these settings in force on these interfaces, over the same tables and in place: packets meet
    /// the old program or the new one. Interfaces that are not named any more are let go.
    ///
    /// # Errors
    /// When the program cannot be loaded or attached. What was in force before may then be so on some interfaces only;
    /// the caller asks for the old settings again.
    fn install(&mut self, settings: &DataplaneConfig) -> Result<Vec<Attached>, InstallError>;

    /// Interfaces of `settings` on which the program does not run, with their numbers; 0 for those that do not exist.
    fn lost(&self, settings: &DataplaneConfig) -> BTreeMap<String, u32>;

    /// Binds the program again to those that it was lost from. Tells where it is in force then, also upon an error.
    fn attach_again(&mut self, settings: &DataplaneConfig) -> (Vec<Attached>, Result<(), AttachError>);
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// Where in the kernel the program runs: `native`, `generic` or `offloaded`.
    pub mode: &'static str,
}

/// Why a program could not be put in force.
#[derive(Debug, thiserror::Error)]
#[error("cannot put the program in force with the new settings")]
pub struct InstallError(#[source] pub Box<dyn Error + Send + Sync>);

impl Engine for Kernel {
    fn install(&mut self, settings: &DataplaneConfig) -> Result<Vec<Attached>, InstallError> {
        self.retune(&tuning(settings)).map_err(|error| InstallError(error.into()))?;
        attach(self, settings).map_err(|error| InstallError(error.into()))
    }

    fn lost(&self, settings: &DataplaneConfig) -> BTreeMap<String, u32> {
        Kernel::lost(self, &settings.interfaces)
    }

    fn attach_again(&mut self, settings: &DataplaneConfig) -> (Vec<Attached>, Result<(), AttachError>) {
        let (attached, outcome) = Kernel::attach_again(self, &settings.interfaces);
        (attached.into_iter().map(named).collect(), outcome)
    }
}

fn named(one: kernel::Attached) -> Attached {
    Attached { interface: one.interface, mode: one.hook.name() }
}

/// Binds the program to the interfaces that `settings` name, and to no others.
///
/// # Errors
/// When an interface does not exist, is taken, or cannot do what is asked.
pub fn attach(kernel: &mut Kernel, settings: &DataplaneConfig) -> Result<Vec<Attached>, AttachError> {
    Ok(kernel.attach(&settings.interfaces)?.into_iter().map(named).collect())
}

/// The program's parameters by `settings`. Its table sizes are for [`Kernel`] to fill in.
pub fn tuning(settings: &DataplaneConfig) -> Tuning {
    // Rounded up: a flow may be remembered for longer than the file says, never for less.
    let idle = settings.udp_idle_timeout.as_nanos().div_ceil(1 << TIME_SHIFT);
    Tuning {
        hash_seed: settings.hash_seed,
        bucket_mask: 0,
        udp_idle: u32::try_from(idle).unwrap_or(u32::MAX).max(1),
        source_v4: settings.tunnel_source_v4.network().octets(),
        source_v4_mask: settings.tunnel_source_v4.hostmask().octets(),
        source_v6: settings.tunnel_source_v6.network().octets(),
        gue_port: settings.gue_port.to_be_bytes(),
        ..Tuning::default()
    }
}

#[cfg(test)]
mod tests {
    use super::tuning;
    use crate::controller::tests::rig::config;

    #[test]
    fn a_flow_is_never_forgotten_before_its_time() {
        for (text, units) in [("1s", 1), ("4s", 1), ("5s", 2), ("30s", 7), ("1h", 839)] {
            let config = config(&format!("[dataplane]\ninterfaces = [\"eth0\"]\nudp_idle_timeout = \"{text}\"\n"));
            assert_eq!(tuning(&config.dataplane).udp_idle, units, "{text}");
        }
    }
}
