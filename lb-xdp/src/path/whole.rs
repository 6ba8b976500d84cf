//! The whole way, for packets that are not plain.
//!
//! To the kernel its steps are functions of their own: they would crowd the registers of the plain way, and the verifier
//! would go through each once for every turn before it. Such a function returns one word; see [`Outcome`].

use lb_common::{
    layout::{counter::PathEvent, target::Target, vip::Vip},
    maps::feature,
    verdict::Verdict,
};

use super::{Exit, Tables, count};
use crate::{
    encap, flow, fragment,
    frame::Frame,
    icmp::{self, Matter},
    link,
    parse::{self, Kind, Packet},
    select::{self, Request},
    tunnel, vip,
};

/// What a step has to say, in one word: a number, or the verdict that ends the way.
#[derive(Clone, Copy)]
struct Outcome(u64);

impl Outcome {
    /// Marks a number; the verdicts are below.
    const GOES_ON: u64 = 1 << 32;

    #[inline(always)]
    fn of(result: Result<u32, Verdict>) -> Self {
        match result {
            Ok(number) => Self(Self::GOES_ON | u64::from(number)),
            Err(verdict) => Self(verdict as u64),
        }
    }

    #[inline(always)]
    fn get(self) -> Result<u32, Verdict> {
        if self.0 & Self::GOES_ON != 0 { Ok(self.0 as u32) } else { Err(Verdict::from_number(self.0 as u32)) }
    }
}

/// Walks the whole way.
#[inline(always)]
pub(super) fn walk<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Exit {
    Exit::from_word(walk_word(frame, tables))
}

/// Sends a frame, of which nothing was changed yet, to a target; the packet is read anew.
#[inline(always)]
pub(super) fn send<F: Frame, T: Tables>(frame: &mut F, id: u32, tables: &T) -> Exit {
    Exit::from_word(send_word(frame, id, tables))
}

#[inline(never)]
fn walk_word<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> u64 {
    let mut packet = Packet::default();
    let exit = match read(frame, tables, &mut packet).get() {
        Ok(_) => steer_and_send(frame, tables, &mut packet),
        Err(verdict) => Err(verdict),
    };
    exit.unwrap_or_else(Exit::from).word()
}

#[inline(never)]
fn send_word<F: Frame, T: Tables>(frame: &mut F, id: u32, tables: &T) -> u64 {
    let mut packet = Packet::default();
    let exit = match read(frame, tables, &mut packet).get() {
        Ok(_) => send_packet(frame, id, tables, &packet),
        Err(verdict) => Err(verdict),
    };
    exit.unwrap_or_else(Exit::from).word()
}

#[inline(always)]
fn steer_and_send<F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &mut Packet) -> Result<Exit, Verdict> {
    let id = match packet.kind {
        Kind::Flow => steer(frame, tables, packet).get()?,
        Kind::Icmp => match icmp_matter(frame, tables, packet).get()? {
            // Number 0 is no target's.
            0 => return icmp::answer(frame, packet).map(Exit::from),
            target => target,
        },
        Kind::LaterFragment => follow(tables, packet).get()?,
    };
    if tables.has(feature::TUNNELS) && packet.is_tunnelled() {
        tunnel::settle(frame, packet)?;
        tables.event(PathEvent::Resteered);
    }
    send_packet(frame, id, tables, packet)
}

#[inline(always)]
fn send_packet<F: Frame, T: Tables>(frame: &mut F, id: u32, tables: &T, packet: &Packet) -> Result<Exit, Verdict> {
    let target = tables.target(id).ok_or(Verdict::Inconsistent)?;
    let exit = match send_to(frame, tables, packet, target).get() {
        Err(Verdict::Local) => Exit::from(Verdict::Local),
        ifindex => Exit { verdict: Verdict::Forwarded, ifindex: ifindex? },
    };
    count(id, packet, tables);
    Ok(exit)
}

/// Steps 1: finds and reads the packet.
#[inline(never)]
fn read<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &mut Packet) -> Outcome {
    Outcome::of(read_packet(frame, tables, packet).map(|()| 0))
}

#[inline(always)]
fn read_packet<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &mut Packet) -> Result<(), Verdict> {
    let mut start = link::network(frame)?;
    if tables.has(feature::TUNNELS) {
        start = tunnel::enter(frame, &start, tables)?;
    }
    match parse::parse(frame, &start, tables.hash_seed()) {
        Ok(read) => {
            *packet = read;
            Ok(())
        }
        Err(verdict) => Err(vip::blame(verdict, frame, &start, tables)),
    }
}

/// Steps 2 to 4: the target of a packet by its own flow.
#[inline(never)]
fn steer<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &Packet) -> Outcome {
    Outcome::of(steer_flow(frame, tables, packet))
}

#[inline(always)]
fn steer_flow<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &Packet) -> Result<u32, Verdict> {
    let vip = vip::find(packet.service(), packet.family, tables)?;
    let named = if vip.flags == 0 { 0 } else { consider(frame, tables, packet, vip).get()? };
    let request = Request { frame, packet, vip, tables, named };
    let id = if select::is_tracked(vip, tables) { flow::steer(&request)? } else { request.named_or_picked()? };
    if packet.first_fragment().is_some() {
        fragment::remember(frame, packet, id, tables)?;
    }
    Ok(id)
}

/// What a VIP with flags asks for: the target that the packet names; 0 for none.
#[inline(never)]
fn consider<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &Packet, vip: &Vip) -> Outcome {
    Outcome::of(select::consider(frame, packet, vip, tables))
}

/// The target of the flow that an ICMP error is about; 0 for an echo request.
#[inline(never)]
fn icmp_matter<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &mut Packet) -> Outcome {
    Outcome::of(icmp::read(frame, packet, tables).map(|matter| match matter {
        Matter::Echo => 0,
        Matter::About { flow, target } => {
            packet.hash = flow;
            target
        }
    }))
}

/// The target of a later fragment.
#[inline(never)]
fn follow<T: Tables>(tables: &T, packet: &Packet) -> Outcome {
    Outcome::of(fragment::follow(packet, tables))
}

/// Step 5: wraps the packet and addresses it; the interface to leave by.
#[inline(never)]
fn send_to<F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &Packet, target: &Target) -> Outcome {
    Outcome::of(encap::send(frame, packet, target, tables).map(|exit| exit.ifindex))
}
