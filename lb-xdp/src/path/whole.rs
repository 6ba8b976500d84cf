//! The whole way, for packets that are not plain.
//!
//! To the kernel its steps are functions of their own: they would crowd the registers of the plain way, and the verifier
//! would go through each once for every turn before it. Such a function returns one word; see `Outcome`.

use lb_common::{
    layout::{counter::PathEvent, target::Target, vip::Vip},
    maps::feature,
    verdict::Verdict,
};

use super::{Exit, Tables};
use crate::{
    encap, flow, fragment,
    frame::Frame,
    icmp::{self, Matter},
    link,
    parse::{self, Family, Kind, Packet, Start},
    ring::{self, Tracked},
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
pub fn walk<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Exit {
    let mut packet = Packet::default();
    steer_and_send(frame, tables, &mut packet).unwrap_or_else(Exit::from)
}

/// Sends a frame, of which nothing was changed yet, to a target; the packet is read anew.
#[inline(always)]
pub fn send<F: Frame, T: Tables>(frame: &mut F, id: u32, tables: &T) -> Exit {
    let mut packet = Packet::default();
    let exit = read(frame, tables, &mut packet).and_then(|()| send_packet(frame, id, tables, &packet));
    exit.unwrap_or_else(Exit::from)
}

#[inline(always)]
fn steer_and_send<F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &mut Packet) -> Result<Exit, Verdict> {
    read(frame, tables, packet)?;
    let id = match packet.kind {
        Kind::Flow => steer(frame, tables, packet)?,
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

/// Step 1: finds and reads the packet.
#[inline(always)]
fn read<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &mut Packet) -> Result<(), Verdict> {
    let mut start = Start::default();
    find_start(frame, tables, &mut start).get()?;
    let read = match start.family {
        Family::V4 => read_v4(frame, tables, &start, packet),
        Family::V6 => read_v6(frame, tables, &start, packet),
    };
    read.get()?;
    Ok(())
}

#[inline(never)]
fn find_start<F: Frame, T: Tables>(frame: &F, tables: &T, start: &mut Start) -> Outcome {
    let found = link::network(frame);
    let found =
        if tables.has(feature::TUNNELS) { found.and_then(|start| tunnel::enter(frame, &start, tables)) } else { found };
    Outcome::of(found.map(|found| {
        *start = found;
        0
    }))
}

#[inline(never)]
fn read_v4<F: Frame, T: Tables>(frame: &F, tables: &T, start: &Start, packet: &mut Packet) -> Outcome {
    Outcome::of(match parse::parse_v4::<F, false>(frame, start, tables.hash_seed()) {
        Ok(read) => {
            *packet = read;
            Ok(0)
        }
        Err(verdict) => Err(vip::blame(verdict, frame, start, tables)),
    })
}

#[inline(never)]
fn read_v6<F: Frame, T: Tables>(frame: &F, tables: &T, start: &Start, packet: &mut Packet) -> Outcome {
    Outcome::of(match parse::parse_v6::<F, false>(frame, start, tables.hash_seed()) {
        Ok(read) => {
            *packet = read;
            Ok(0)
        }
        Err(verdict) => Err(vip::blame(verdict, frame, start, tables)),
    })
}

/// Steps 2 to 4: the target of a packet by its own flow.
#[inline(always)]
fn steer<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &Packet) -> Result<u32, Verdict> {
    let mut miss = Verdict::NotVip as u32;
    let Some(vip) = find_vip(tables, packet, &mut miss) else {
        if packet.first_fragment().is_some() && miss == Verdict::NotVip as u32 {
            remember_for_host(frame, tables, packet).get()?;
        }
        return Err(Verdict::from_number(miss));
    };
    let named = if vip.flags & !Vip::PLAIN == 0 { 0 } else { consider(frame, tables, packet, vip).get()? };
    let id = steer_flow(frame, tables, packet, vip, named).get()?;
    if packet.first_fragment().is_some() {
        remember(frame, tables, packet, id).get()?;
    }
    Ok(id)
}

#[inline(never)]
fn find_vip<'t, T: Tables>(tables: &'t T, packet: &Packet, miss: &mut u32) -> Option<&'t Vip> {
    match vip::find(packet.service(), packet.family, tables) {
        Ok(vip) => Some(vip),
        Err(verdict) => {
            *miss = verdict as u32;
            None
        }
    }
}

/// What a VIP with flags asks for: the target that the packet names; 0 for none.
#[inline(never)]
fn consider<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &Packet, vip: &Vip) -> Outcome {
    Outcome::of(select::consider(frame, packet, vip, tables))
}

#[inline(never)]
fn steer_flow<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &Packet, vip: &Vip, named: u32) -> Outcome {
    let mut request = Request { frame, packet, vip, tables, named, slot: Tracked::NONE };
    if ring::is_adaptive(vip, tables) {
        match ring::tracked(packet.hash, vip, tables) {
            Ok(slot) if !slot.is_tracked() => return Outcome::of(request.untracked()),
            Ok(slot) => request.slot = slot,
            Err(verdict) => return Outcome::of(Err(verdict)),
        }
    }
    Outcome::of(if select::is_tracked(vip, tables) { flow::steer(&request) } else { request.named_or_picked() })
}

#[inline(never)]
fn remember<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &Packet, id: u32) -> Outcome {
    Outcome::of(fragment::remember(frame, packet, id, tables).map(|()| 0))
}

#[inline(never)]
fn remember_for_host<F: Frame, T: Tables>(frame: &F, tables: &T, packet: &Packet) -> Outcome {
    // Later fragments to other addresses are the host's without that.
    let is_own = vip::is_own(packet.destination, packet.family, tables);
    Outcome::of(if is_own { fragment::remember(frame, packet, fragment::HOST, tables).map(|()| 0) } else { Ok(0) })
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

#[inline(always)]
fn send_packet<F: Frame, T: Tables>(frame: &mut F, id: u32, tables: &T, packet: &Packet) -> Result<Exit, Verdict> {
    let target = tables.target(id).ok_or(Verdict::Inconsistent)?;
    let exit = match send_to(frame, tables, packet, target).get() {
        Err(Verdict::Local) => Exit::from(Verdict::Local),
        ifindex => Exit { verdict: Verdict::Forwarded, ifindex: ifindex? },
    };
    tables.forwarded(id, packet.len.into());
    Ok(exit)
}

/// Step 5: wraps the packet and addresses it; the interface to leave by.
#[inline(never)]
fn send_to<F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &Packet, target: &Target) -> Outcome {
    Outcome::of(encap::send(frame, packet, target, tables).map(|exit| exit.ifindex))
}
