//! What carries health probes to backends: interfaces of our own, to which only packets with our mark are routed, and the
//! program that wraps these on the way out. Nothing of the host's own is touched.
//!
//! ```text
//! lbp-HASH, lbq-HASH   two ends of a veth; HASH is the pin path's, so that several balancers do not meet
//! rule 1               fwmark TAG/0xfff00000 lookup TABLE, IPv4 and IPv6
//! TABLE                default by lbp-HASH, by a gateway that nobody is: one neighbour for all VIPs
//! lbp-HASH egress      the program, over the pinned targets
//! ```

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use aya::programs::{
    SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use lb_common::maps::{self, ProbeTuning, Tuning, feature};
use tracing::{info, warn};

use self::device::Device;
use super::{Kernel, error::OpenError, interfaces, load, pins::Pins};

mod answers;
mod device;
mod rules;

/// Place of the program among the filters of its interface, where there is no other.
const PRIORITY: u16 = 1;
/// Its name there.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// What probes are told apart by, and where they leave if their target does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Upper 12 bits of their mark.
    pub tag: u32,
    /// The interface to leave by where targets name none.
    pub interface: Option<String>,
}

/// Why probes cannot be carried.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel refused something.
    #[error("cannot {what}")]
    System {
        /// What was attempted.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// There is no veth.
    #[error(
        "cannot make the interface {name}: the kernel has no veth; load it (`modprobe veth`), or set `probe = \"direct\"`"
    )]
    NoVeth {
        /// The interface's name.
        name: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The mark means something else here.
    #[error(
        "marks {tag:#x}/{:#x} are routed by another rule already, to table {table} (another lb's perhaps); set another \
         `probe_mark` in [daemon]",
        ProbeTuning::TAG
    )]
    Taken {
        /// The tag.
        tag: u32,
        /// Where it is routed to.
        table: u32,
    },
    /// The interface that probes are to leave by does not exist.
    #[error("probes are to leave by {name}, which does not exist")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// The program could not be loaded.
    #[error("cannot load the program of health probes")]
    Program(#[source] OpenError),
}

/// A failed call to the kernel.
fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> ProbeError {
    move |source| ProbeError::System { what: what.into(), source }
}

/// What is in place.
#[derive(Debug)]
pub(super) struct Probes {
    device: Device,
    /// With what settings; `None` if it is not to be.
    settings: Option<Settings>,
    /// With which parameters the program runs on which interface.
    running: Option<(u32, Tuning, ProbeTuning)>,
    /// Something of another daemon's may be in place.
    left: bool,
}

impl Probes {
    /// Nothing was looked at yet.
    pub(super) fn new(pin_path: &Path) -> Self {
        Self { device: Device::of(pin_path), settings: None, running: None, left: true }
    }

    /// Whether that is in force and nobody took anything away, as far as a quick look tells.
    fn is_whole(&self, wanted: Option<&Settings>) -> bool {
        let Some(wanted) = wanted else { return self.settings.is_none() && !self.left };
        let index = self.running.map(|(index, ..)| index);
        self.settings.as_ref() == Some(wanted)
            && index.is_some()
            && self.device.find().is_ok_and(|found| found == index)
            && rules::are_there(wanted.tag, self.device.table()).is_ok_and(|there| there)
    }

    /// Takes all down that is there.
    fn end(&mut self) -> Result<(), ProbeError> {
        if self.settings.is_some() || self.left {
            self.running = None;
            take_down(&self.device)?;
            (self.settings, self.left) = (None, false);
        }
        Ok(())
    }

    /// Has all in place with these settings, and the program over the targets that are pinned.
    fn ensure(&mut self, settings: &Settings, tuning: &Tuning, pins: &Pins, entries: u32) -> Result<(), ProbeError> {
        let table = self.device.table();
        if let Some((index, ..)) = self.running.filter(|_| self.is_whole(Some(settings))) {
            self.run(index, settings, tuning, pins, entries)?;
            // The one thing that a look does not tell.
            return self.device.route(index);
        }
        rules::check(settings.tag, table)?;
        let index = self.device.ensure()?;
        self.run(index, settings, tuning, pins, entries)?;
        rules::remove(table, Some(settings.tag))?;
        self.device.route(index)?;
        rules::add(settings.tag, table)?;
        (self.settings, self.left) = (Some(settings.clone()), false);
        Ok(())
    }

    /// Has the program read the targets that are pinned now.
    fn renew(&mut self, tuning: &Tuning, pins: &Pins, entries: u32) -> Result<(), ProbeError> {
        let (Some(settings), Some((index, ..))) = (self.settings.clone(), self.running.take()) else { return Ok(()) };
        self.run(index, &settings, tuning, pins, entries)
    }

    fn run(
        &mut self,
        index: u32,
        settings: &Settings,
        tuning: &Tuning,
        pins: &Pins,
        entries: u32,
    ) -> Result<(), ProbeError> {
        // As for data, in every encapsulation, and nothing else.
        let tuning = Tuning {
            features: feature::GUE | feature::UNWRAPPED,
            bucket_mask: 0,
            source_line_mask: 0,
            source_packet_ns: 0,
            source_flow_ns: 0,
            ..*tuning
        };
        let wanted = (index, tuning, leaving(settings)?);
        if self.running == Some(wanted) {
            return Ok(());
        }
        let targets = pins.table(maps::TARGETS);
        let mut object = load::probe(&tuning, &wanted.2, &targets, entries).map_err(ProbeError::Program)?;
        let program = load::probe_in(&mut object).map_err(ProbeError::Program)?;
        attach(program, self.device.name())?;
        self.running = Some(wanted);
        info!(
            interface = self.device.name(),
            mark = format!("{:#x}", settings.tag),
            "health probes to VIPs are carried"
        );
        Ok(())
    }
}

impl Kernel {
    /// Has in place what carries health probes to backends, with these settings; takes it down without any.
    ///
    /// # Errors
    /// When the kernel refuses, or the mark is taken.
    pub fn carry_probes(&mut self, wanted: Option<&Settings>) -> Result<(), ProbeError> {
        let entries = self.sizes.of(maps::TARGETS);
        match wanted {
            Some(settings) => self.probes.ensure(settings, &self.tuning, &self.pins, entries),
            None => self.probes.end(),
        }
    }

    /// Whether that is in place, as far as a quick look tells.
    pub fn carries_probes(&self, wanted: Option<&Settings>) -> bool {
        self.probes.is_whole(wanted)
    }

    /// The addresses of this host that others can answer to, each with the number of its interface.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn answerable(&self) -> Result<Vec<(u32, IpAddr)>, ProbeError> {
        interfaces::answerable().map_err(failed("list the addresses"))
    }

    /// The name of this interface, if the kernel drops answers from that VIP that come in by it, for their source.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn filters_answers(&self, ifindex: u32, vip: Ipv4Addr) -> Result<Option<String>, ProbeError> {
        answers::filtered_on(ifindex, vip).map_err(failed("ask for the way of answers"))
    }

    /// Has the probes' program go by the tables and parameters that are in force now.
    pub(super) fn renew_probes(&mut self) {
        let entries = self.sizes.of(maps::TARGETS);
        if let Err(error) = self.probes.renew(&self.tuning, &self.pins, entries) {
            let error: &(dyn std::error::Error + 'static) = &error;
            warn!(error, "health probes go by tables that are not in force any more until this works");
        }
    }
}

/// Removes interfaces and rules of that pin path; whether there were any.
pub(super) fn remove(pin_path: &Path) -> Result<bool, ProbeError> {
    take_down(&Device::of(pin_path))
}

fn take_down(device: &Device) -> Result<bool, ProbeError> {
    let rules = rules::remove(device.table(), None)?;
    Ok(device.remove()? || rules)
}

/// Parameters of the program.
fn leaving(settings: &Settings) -> Result<ProbeTuning, ProbeError> {
    let tuning = ProbeTuning { tag: settings.tag, ..ProbeTuning::default() };
    let Some(name) = &settings.interface else { return Ok(tuning) };
    let found = interfaces::list().map_err(failed("list the interfaces"))?;
    let found = found.get(name).ok_or_else(|| ProbeError::NoInterface { name: name.clone() })?;
    Ok(ProbeTuning { ifindex: found.index, mac: found.mac, ..tuning })
}

/// Puts the program on the way out of an interface, in the place of one that is there. It stays there without this process.
fn attach(program: &mut SchedClassifier, name: &str) -> Result<(), ProbeError> {
    let way = TcAttachType::Egress;
    let what = || format!("put the program of health probes on {name}");
    let refused = |error| ProbeError::Program(load::program_error(what(), error));
    // It fails if it is there already, and if it is not there the rest fails.
    let _ = qdisc_add_clsact(name);
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let id = if let Ok(id) = program.attach_with_options(name, way, TcAttachOptions::Netlink(options)) {
        id
    } else {
        let there = SchedClassifierLink::attached(name, way, PRIORITY, HANDLE, None).map_err(failed(what()))?;
        program.attach_to_link(there).map_err(refused)?
    };
    // Dropped, it would take the program off.
    std::mem::forget(program.take_link(id).map_err(refused)?);
    Ok(())
}
