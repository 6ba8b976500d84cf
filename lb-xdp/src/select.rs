//! What a VIP may ask for beyond the plain way: to keep sources out, to limit them, to find the backend otherwise.
//!
//! A plain VIP has no flags, and its packets pass by all of this.

use lb_common::{
    layout::counter::PathEvent,
    layout::{
        server::ServerKey,
        vip::{UDP, Vip},
    },
    maps::feature,
    verdict::Verdict,
};

use crate::{
    access,
    frame::Frame,
    limit,
    parse::{self, Family, Packet},
    path::Tables,
    ring::{self, Origin, Tracked},
    server_id::{self, ServerId},
};

/// A packet that asks for a target of a VIP.
pub struct Request<'a, F, T> {
    /// Where it lies.
    pub frame: &'a F,
    /// What was read of it.
    pub packet: &'a Packet,
    /// Whose traffic it is.
    pub vip: &'a Vip,
    /// The look-ups.
    pub tables: &'a T,
    /// The target that the packet names by a server ID; 0 if none.
    pub named: u32,
    /// The slot of its flow, if the VIP is adaptive: it is tracked then.
    pub slot: Tracked,
}

impl<F, T> Clone for Request<'_, F, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F, T> Copy for Request<'_, F, T> {}

impl<'a, F: Frame, T: Tables> Request<'a, F, T> {
    /// Of a plain packet to a VIP without flags.
    #[inline(always)]
    pub fn plain(frame: &'a F, packet: &'a Packet, vip: &'a Vip, tables: &'a T) -> Self {
        Self { frame, packet, vip, tables, named: 0, slot: Tracked::NONE }
    }

    /// The target that the VIP's ring has for it.
    ///
    /// # Errors
    /// As [`ring::pick`].
    #[inline(always)]
    pub fn pick(&self) -> Result<u32, Verdict> {
        let Self { packet, vip, tables, slot, .. } = *self;
        if slot.is_tracked() {
            return slot.current(vip, tables);
        }
        if !ring::is_special(vip) {
            return ring::pick(packet.hash, vip, tables);
        }
        let source = parse::source(self.frame, packet).ok_or(Verdict::Inconsistent)?;
        ring::pick_special(&Origin { hash: packet.hash, source, ports: packet.ports }, vip, tables)
    }

    /// The target that the packet names, else the ring's; of a flow that an adaptive VIP does not know, the one where it has
    /// been all the time, while that serves.
    ///
    /// # Errors
    /// As [`ring::pick`].
    #[inline(always)]
    pub fn named_or_picked(&self) -> Result<u32, Verdict> {
        if self.slot.is_tracked() && !self.packet.opens_flow() {
            let slot = self.slot;
            return if self.serves(slot.previous) { Ok(slot.previous) } else { self.moved_from(slot) };
        }
        if self.named == 0 { self.pick() } else { Ok(self.named) }
    }

    /// The target of an adaptive VIP's flow whose own one is gone.
    #[inline(always)]
    fn moved_from(&self, slot: Tracked) -> Result<u32, Verdict> {
        let id = self.pick()?;
        if id != slot.previous {
            self.tables.event(PathEvent::Moved);
            self.tables.count(id, |counters| counters.flows_moved = counters.flows_moved.wrapping_add(1));
        }
        Ok(id)
    }

    /// The target of a flow whose slot in the ring of an adaptive VIP is not tracked.
    ///
    /// # Errors
    /// As [`ring::pick_untracked`]; those of [`Request::admit_flow`].
    #[inline(always)]
    pub fn untracked(&self) -> Result<u32, Verdict> {
        let Self { packet, vip, tables, .. } = *self;
        if packet.opens_flow() {
            self.admit_flow()?;
            if vip.flags & Vip::CLOSED != 0 {
                return Err(Verdict::NoBackend);
            }
        }
        ring::pick_untracked(packet.hash, vip, tables)
    }

    /// Whether a target of the VIP takes packets of flows that it has.
    #[inline(always)]
    pub fn serves(&self, id: u32) -> bool {
        ring::serves(id, self.vip, self.tables)
    }

    /// Whether a new flow is within the limits and may be remembered. One that is not, but was taken up in its middle,
    /// goes by the ring instead: it may have been there before the limit, or before this lb. To an adaptive VIP such a flow
    /// is none that is new.
    ///
    /// # Errors
    /// [`Verdict::NewFlowLimit`], [`Verdict::SourceLimit`].
    #[inline(always)]
    pub fn admit_flow(&self) -> Result<bool, Verdict> {
        let Self { frame, packet, vip, tables, slot, .. } = *self;
        let limits = Vip::LIMIT_NEW | Vip::LIMIT_SOURCES;
        if vip.flags & limits == 0 || !tables.has(feature::NEW_FLOW_LIMIT | feature::SOURCE_LIMIT) {
            return Ok(true);
        }
        if slot.is_tracked() && !packet.opens_flow() {
            return Ok(true);
        }
        match limit::new_flow(frame, packet, vip, tables) {
            Err(_) if packet.protocol != UDP && !packet.opens_flow() => Ok(false),
            Err(verdict) => Err(verdict),
            Ok(()) => Ok(true),
        }
    }
}

/// Whether flows of the VIP are remembered.
#[inline(always)]
pub fn is_tracked<T: Tables>(vip: &Vip, tables: &T) -> bool {
    vip.flags & Vip::UNTRACKED == 0 || !tables.has(feature::HASHES)
}

/// Whether a source may send a packet to a VIP or an address that has flags.
///
/// # Errors
/// [`Verdict::Denied`], [`Verdict::SourceLimit`].
#[inline(always)]
pub fn admit<T: Tables>(source: [u64; 2], family: Family, vip: &Vip, tables: &T) -> Result<(), Verdict> {
    if tables.has(feature::ACL) {
        access::check(source, vip, tables)?;
    }
    if tables.has(feature::SOURCE_LIMIT) && vip.flags & Vip::LIMIT_SOURCES != 0 {
        limit::packet(source, family, tables)?;
    }
    Ok(())
}

/// Asks on behalf of a VIP that has flags: may the packet come in, and which target does it name? 0 is none.
///
/// # Errors
/// Those of [`admit`].
#[inline(always)]
pub fn consider<F: Frame, T: Tables>(frame: &F, packet: &Packet, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    if tables.has(feature::ACL | feature::SOURCE_LIMIT) {
        let source = parse::source(frame, packet).ok_or(Verdict::Inconsistent)?;
        admit(source, packet.family, vip, tables)?;
    }
    if !tables.has(feature::QUIC | feature::SERVER_IDS) {
        return Ok(0);
    }
    Ok(match server_id::read(frame, packet, vip, tables) {
        ServerId::Absent => 0,
        ServerId::NotYet => {
            tables.event(PathEvent::ServerIdNone);
            0
        }
        ServerId::Given(id) => named(id, vip, tables),
    })
}

/// The target with this server ID, if it is up.
#[inline(always)]
fn named<T: Tables>(id: [u64; 2], vip: &Vip, tables: &T) -> u32 {
    let key = ServerKey { vip: vip.id, pad: 0, id };
    let target = tables.server(&key).filter(|id| tables.target(*id).is_some_and(|target| target.serves == vip.id));
    tables.event(if target.is_some() { PathEvent::ServerIdRouted } else { PathEvent::ServerIdUnknown });
    target.unwrap_or(0)
}
