//! What is measured: an XDP program, or the kernel's own ways of sending a packet on.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode, xdp::XdpLink},
};
use aya_obj::programs::XdpAttachType;
use bench_xdp::BARE_TX;
use netns_tests::netns::output;

use super::{
    Site, backends,
    ipvs::{self, Ipvs},
    site::FAR,
};
pub use crate::balancer::LB;
use crate::{
    OBJECT,
    lab::{self, Pins},
    workload::{OUTER4, VIP4},
};

/// Name of the program that all others are compared with.
pub const XDP_TX: &str = "xdp_tx";
/// Name of the kernel's forwarding.
pub(super) const FORWARDING: &str = "forwarding";
/// Name of the kernel's balancer.
pub(super) const IPVS: &str = "ipvs";

/// Names that no pinned program may have.
pub const OWN_NAMES: [&str; 4] = [XDP_TX, LB, FORWARDING, IPVS];

/// Where a packet meets what sends it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Mode {
    /// XDP in the driver.
    Native,
    /// XDP in the kernel's stack, after the packet got its socket buffer.
    Generic,
    /// The kernel's stack itself.
    #[value(skip)]
    Stack,
}

impl Mode {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Stack => "stack",
        }
    }

    fn xdp(self) -> XdpMode {
        if self == Self::Generic { XdpMode::Skb } else { XdpMode::Driver }
    }
}

/// What a contender makes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makes {
    /// Sends it on as it is, but for Ethernet addresses and the like.
    Plain,
    /// Puts it into another IPv4 packet.
    Wrapped,
    /// Who knows.
    Either,
}

impl Makes {
    /// Bytes that it adds, if that is known.
    pub(super) fn grown(self) -> Option<u32> {
        match self {
            Self::Plain => Some(0),
            Self::Wrapped => Some(OUTER4),
            Self::Either => None,
        }
    }
}

/// Something that sends packets on.
pub struct Contender {
    /// What to call it.
    pub name: String,
    /// Where packets meet it.
    pub mode: Mode,
    /// What it makes of them.
    pub makes: Makes,
    kind: Kind,
}

enum Kind {
    Own(Box<Ebpf>),
    Pinned(Box<Xdp>),
    Forwarding,
    Ipvs,
}

/// While it lives, it is a contender's turn.
pub(super) enum Turn<'s> {
    Xdp { _link: XdpLink },
    Ipvs { _service: Ipvs<'s> },
    Forwarding,
}

impl Contender {
    /// The least that a program can do.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn xdp_tx(mode: Mode) -> Result<Self> {
        let mut programs =
            Ebpf::load(OBJECT).context("the benchmark's own programs cannot be loaded; are you root?")?;
        bare(&mut programs)?.load().context("the kernel refuses a program that only returns XDP_TX")?;
        Ok(Self { name: XDP_TX.into(), mode, makes: Makes::Plain, kind: Kind::Own(Box::new(programs)) })
    }

    /// What the real `lb` loads, with a VIP and its backends, whose next hop is the near end by the kernel's routes. It is
    /// attached by `lb` too, once, and let go of again: turns are ours.
    ///
    /// # Errors
    /// If `lb` fails.
    pub fn lb(site: &Site, binary: &Path, mode: Mode) -> Result<Self> {
        let folder = lab::folder()?;
        let config = folder.path().join("lb.toml");
        fs::write(&config, config_text(mode))?;
        let pins = Pins::new("load");
        let lb = |arguments: &[&Path]| {
            output(site.far.command(binary).arg("--pin-path").arg(pins.path()).args(arguments)).map(drop)
        };
        let program =
            lb(&["load".as_ref(), "--config".as_ref(), &config]).and_then(|()| pinned(&pins.path().join("prog")));
        let unloaded = lb(&["unload".as_ref()]);
        let program = program?;
        unloaded?;
        Ok(Self { name: LB.into(), mode, makes: Makes::Wrapped, kind: Kind::Pinned(Box::new(program)) })
    }

    /// A program that somebody else has loaded, filled and pinned.
    ///
    /// # Errors
    /// If there is none.
    pub fn pinned(name: &str, path: &Path, mode: Mode) -> Result<Self> {
        let program = pinned(path)?;
        Ok(Self { name: name.into(), mode, makes: Makes::Either, kind: Kind::Pinned(Box::new(program)) })
    }

    /// The kernel's forwarding by routes.
    pub fn forwarding() -> Self {
        Self { name: FORWARDING.into(), mode: Mode::Stack, makes: Makes::Plain, kind: Kind::Forwarding }
    }

    /// The kernel's balancer with the same VIP and backends.
    ///
    /// # Errors
    /// The reason why it cannot take part.
    pub fn ipvs(site: &Site) -> Result<Self, String> {
        ipvs::is_there(site)?;
        Ok(Self { name: IPVS.into(), mode: Mode::Stack, makes: Makes::Wrapped, kind: Kind::Ipvs })
    }

    /// From now on packets meet this one.
    pub(super) fn turn<'s>(&mut self, site: &'s Site) -> Result<Turn<'s>> {
        let mode = self.mode.xdp();
        let attached = |program: &mut Xdp| -> Result<Turn<'s>> { Ok(Turn::Xdp { _link: site.attach(program, mode)? }) };
        match &mut self.kind {
            Kind::Own(programs) => attached(bare(programs)?),
            Kind::Pinned(program) => attached(program),
            Kind::Forwarding => Ok(Turn::Forwarding),
            Kind::Ipvs => Ok(Turn::Ipvs { _service: Ipvs::serve(site)? }),
        }
        .with_context(|| format!("{} ({})", self.name, self.mode.name()))
    }
}

fn bare(programs: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(programs.program_mut(BARE_TX).context("no program that only returns XDP_TX")?.try_into()?)
}

fn pinned(path: &Path) -> Result<Xdp> {
    Xdp::from_pin(path, XdpAttachType::Interface)
        .with_context(|| format!("no XDP program can be opened at {}", path.display()))
}

/// One VIP and its backends.
fn config_text(mode: Mode) -> String {
    let backend = |address| format!("  {{ name = \"{address}\", address = \"{address}\" }},\n");
    let backends: String = backends().map(backend).collect();
    format!(
        "[dataplane]\ninterfaces = [\"{FAR}\"]\nmode = \"{}\"\n\n[pool.p]\nbackends = [\n{backends}]\n\n\
         [[vip]]\nname = \"v\"\naddress = \"{VIP4}\"\nport = 80\nprotocol = \"udp\"\npool = \"p\"\n",
        mode.name()
    )
}
