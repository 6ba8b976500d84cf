//! Answers from the tables in use, for the daemon and for a command line without one.

use std::{collections::BTreeMap, net::IpAddr, os::fd::OwnedFd};

use lb_common::{
    layout::{
        target::Target,
        vip::{PrefixKey, Vip, VipKey},
    },
    maps::feature,
};
use lb_xdp::host::HostFrame;
use rustix::net::{
    AddressFamily, SocketType,
    netdevice::{index_to_name, name_to_index},
    socket,
};

use super::{
    types::{AskedPacket, ExplainRequest, Explained, Explanation, Flow, Ring, RingDigest, RingDigests, RingShare},
    view::explain::{Names, entry, explanation, hex, target_state},
};
use crate::{
    controller::snapshot::VipView,
    dataplane::{self, flows::Liveness, lookups::Lookups},
    explain::{
        self, LONGEST, ring,
        tuple::{MID_FLOW, Tuple, TupleError, flags},
    },
    plan::{target::address_of, wanted::key},
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The tuple makes no sense.
    #[error(transparent)]
    Tuple(#[from] TupleError),
    /// A packet is neither a tuple nor a frame, or both.
    #[error("packet {0} has to be a `tuple` or a `frame`, and `flags` and `vlans` are a tuple's")]
    Packet(usize),
    /// It is not written in hexadecimal.
    #[error("the frame of packet {0} is not written in hexadecimal: two digits a byte")]
    Hexadecimal(usize),
    /// It is too long.
    #[error("the frame of packet {number} has {length} bytes, more than {LONGEST}")]
    TooLong {
        /// Which packet.
        number: usize,
        /// Its length.
        length: usize,
    },
    /// Too many packets at once.
    #[error("{0} packets are more than {most} at once", most = ExplainRequest::MOST)]
    TooMany(usize),
    /// No such interface.
    #[error("there is no interface {name}; the program is attached to {attached}")]
    Interface {
        /// Its name.
        name: String,
        /// Where the program runs.
        attached: String,
    },
    /// No such VIP.
    #[error("no vip {name}; there are: {known}")]
    Vip {
        /// Its name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A table could not be read.
    #[error(transparent)]
    Table(#[from] dataplane::Error),
}

/// What answers are made of.
pub(crate) struct Ground<'a, L> {
    /// The tables.
    pub(crate) tables: &'a L,
    /// VIPs and backends by name.
    pub(crate) vips: &'a [VipView],
    /// Interfaces that the program is attached to.
    pub(crate) attached: Vec<&'a str>,
}

/// Name of an interface.
fn interface(number: u32) -> Option<String> {
    index_to_name(any_socket()?, number).ok()
}

/// Any socket will do to ask about interfaces.
fn any_socket() -> Option<OwnedFd> {
    socket(AddressFamily::INET, SocketType::DGRAM, None).ok()
}

impl<L: Lookups> Ground<'_, L> {
    fn names(&self) -> Names<'_> {
        Names::new(self.vips, &interface)
    }

    /// What would become of packets.
    ///
    /// # Errors
    /// When one of them makes no sense, or a table cannot be read.
    pub(crate) fn explain(&self, request: &ExplainRequest) -> Result<Explained, AnswerError> {
        if request.packets.len() > ExplainRequest::MOST {
            return Err(AnswerError::TooMany(request.packets.len()));
        }
        let ingress = self.ingress(request.interface.as_deref())?;
        let names = self.names();
        let one = |(number, asked)| self.explain_one(&frame(number, asked)?, ingress, &names);
        let packets: Result<Vec<Explanation>, AnswerError> = (1..).zip(&request.packets).map(one).collect();
        Ok(Explained { packets: packets? })
    }

    fn explain_one(&self, frame: &[u8], ingress: u32, names: &Names) -> Result<Explanation, AnswerError> {
        let trace = explain::trace(self.tables, HostFrame::new(frame, ingress))?;
        Ok(explanation(&trace, frame, ingress, self.tables.tuning(), names))
    }

    /// Number of the interface that packets come in by; 0 if the program is attached to none.
    fn ingress(&self, named: Option<&str>) -> Result<u32, AnswerError> {
        let Some(name) = named.or(self.attached.first().copied()) else { return Ok(0) };
        let number = any_socket().and_then(|socket| name_to_index(socket, name).ok());
        number.ok_or_else(|| {
            let attached = if self.attached.is_empty() { "none".to_owned() } else { self.attached.join(", ") };
            AnswerError::Interface { name: name.to_owned(), attached }
        })
    }

    /// What is remembered of a flow.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(crate) fn flow(&self, tuple: &Tuple) -> Result<Flow, AnswerError> {
        let names = self.names();
        let found = self.found(tuple)?;
        let is_off =
            |vip: &Vip| vip.flags & Vip::UNTRACKED != 0 && self.tables.tuning().features & feature::HASHES != 0;
        let by_ring_alone = |vip: &Vip, history| is_off(vip) || history == Some(explain::History::Untracked);
        let (remembered, now) = explain::find_flow(tuple, self.tables);
        let target = remembered.and_then(|flow| Some((flow.target(), self.tables.target(flow.target())?)));
        let told = remembered.map(|flow| entry(flow, now, &names));
        let usable = |vip: &Vip, target: &Target| target.serves == vip.id;
        Ok(Flow {
            tuple: tuple.to_string(),
            vip: found.and_then(|(key, ..)| names.vip_name(&key)),
            tracked: found.map(|(_, vip, history)| !by_ring_alone(&vip, history)),
            found: told.is_some(),
            state: told.as_ref().map(|entry| entry.state.clone()),
            age_seconds: told.as_ref().map(|entry| entry.age_seconds),
            target: target.map(|(number, _)| number),
            pool: target.and_then(|(number, _)| names.pool(number)),
            backend: told.and_then(|entry| entry.backend),
            address: target.map(|(_, target)| address_of(target.outer_destination)),
            backend_state: target.map(|(_, target)| target_state(&target).to_owned()),
            live: remembered
                .is_some_and(|flow| Liveness { now, udp_idle: self.tables.tuning().udp_idle }.is_live(flow)),
            usable: found.zip(target).is_some_and(|((_, vip, _), (_, target))| usable(&vip, &target)),
        })
    }

    /// The VIP of a tuple, and what it knows of the flow's slot if it is adaptive.
    fn found(&self, tuple: &Tuple) -> Result<Option<(VipKey, Vip, Option<explain::History>)>, AnswerError> {
        let frame = HostFrame::new(&tuple.frame(MID_FLOW, &[])?, 0);
        let trace = explain::trace(self.tables, frame)?;
        Ok(match trace.found {
            explain::Found::Vip(key, vip) => Some((key, vip, trace.ring.and_then(|ring| ring.history))),
            _ => None,
        })
    }

    /// The ring of a VIP.
    ///
    /// # Errors
    /// When there is no such VIP, or a table cannot be read.
    pub(crate) fn ring(&self, name: &str, with_slots: bool) -> Result<Ring, AnswerError> {
        let view = self.vips.iter().find(|vip| vip.name == name).ok_or_else(|| {
            let known: Vec<String> = self.vips.iter().map(|vip| word(&vip.name)).collect();
            AnswerError::Vip { name: name.to_owned(), known: known.join(", ") }
        })?;
        let (ring, led) = self.digest(view)?;
        let mut counts: BTreeMap<(u32, IpAddr), u32> = BTreeMap::new();
        for slot in &led {
            *counts.entry(*slot).or_default() += 1;
        }
        let names = self.names();
        let mut shares: Vec<((u32, IpAddr), u32)> = counts.into_iter().collect();
        shares.sort_by_key(|(_, slots)| std::cmp::Reverse(*slots));
        let place: BTreeMap<(u32, IpAddr), u32> = shares.iter().map(|(who, _)| *who).zip(0..).collect();
        let share = |((target, address), slots): ((u32, IpAddr), u32)| RingShare {
            pool: names.pool(target),
            backend: names.backend(target),
            address,
            target,
            slots,
            share: f64::from(slots) / f64::from(ring.size.max(1)),
        };
        Ok(Ring {
            backends: shares.into_iter().map(share).collect(),
            slots: with_slots.then(|| led.iter().filter_map(|who| place.get(who).copied()).collect()),
            ring,
        })
    }

    /// Digests of all rings.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(crate) fn rings(&self) -> Result<RingDigests, AnswerError> {
        let vips: Result<Vec<RingDigest>, _> = self.vips.iter().map(|vip| Ok(self.digest(vip)?.0)).collect();
        let vips: Vec<RingDigest> = vips.map_err(|error: AnswerError| error)?;
        // By what is served, for names and their order may differ from lb to lb.
        let sorted: BTreeMap<&str, &str> = vips.iter().map(|vip| (vip.service.as_str(), vip.digest.as_str())).collect();
        let digest = ring::digest_of_all(sorted.into_iter());
        Ok(RingDigests { digest, vips })
    }

    fn digest(&self, view: &VipView) -> Result<(RingDigest, Vec<(u32, IpAddr)>), AnswerError> {
        let key = key(&view.service);
        let found = if key.is_prefix() {
            self.tables
                .prefix_vip(&PrefixKey::of(&key))?
                .filter(|vip| vip.wildcard_bits == u32::from(key.wildcard_bits))
        } else {
            self.tables.vip(&key)?
        };
        // One that is not in the tables yet has no ring.
        let vip = found.unwrap_or_default();
        let led = ring::slots(&vip, self.tables);
        let addresses = led.iter().map(|(_, address)| *address);
        let digest = RingDigest {
            vip: view.name.clone(),
            service: view.service.to_string(),
            size: vip.open_slots(),
            digest: ring::digest(addresses, &vip, self.tables.tuning().hash_seed),
        };
        Ok((digest, led))
    }
}

/// The bytes of a packet that is asked about.
fn frame(number: usize, asked: &AskedPacket) -> Result<Vec<u8>, AnswerError> {
    let length = match asked {
        AskedPacket { tuple: Some(tuple), frame: None, flags: given, vlans } => {
            let tuple: Tuple = tuple.parse()?;
            if given.is_some() && tuple.protocol != lb_common::layout::vip::TCP {
                return Err(TupleError::NoFlags.into());
            }
            let flags = given.as_deref().map_or(Ok(MID_FLOW), flags)?;
            return Ok(tuple.frame(flags, vlans)?);
        }
        AskedPacket { tuple: None, frame: Some(frame), flags: None, vlans } if vlans.is_empty() => {
            let bytes = unhex(frame).ok_or(AnswerError::Hexadecimal(number))?;
            if bytes.len() <= LONGEST {
                return Ok(bytes);
            }
            bytes.len()
        }
        _ => return Err(AnswerError::Packet(number)),
    };
    Err(AnswerError::TooLong { number, length })
}

/// The bytes of hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// A packet to ask about by its frame.
pub(crate) fn of_frame(frame: &[u8]) -> AskedPacket {
    AskedPacket { frame: Some(hex(frame)), ..AskedPacket::default() }
}

/// A name as a shell takes it for one word: without a daemon they have spaces.
pub(crate) fn word(name: &str) -> String {
    if name.contains(' ') { format!("\"{name}\"") } else { name.to_owned() }
}
