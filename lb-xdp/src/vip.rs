//! Step 2: whose traffic is this?

use lb_common::{
    layout::vip::{Vip, VipKey},
    verdict::{Action, Verdict},
};

use crate::{
    frame::Frame,
    parse::{self, Packet},
    path::Tables,
};

/// The VIP that serves the packet: its own port's, else any port's.
///
/// # Errors
/// [`Verdict::NotVip`].
#[inline(always)]
pub fn find<'t, T: Tables>(packet: &Packet, tables: &'t T) -> Result<&'t Vip, Verdict> {
    if let Some(vip) = tables.vip(&packet.service()) {
        return Ok(vip);
    }
    let any_port = VipKey::from_words(packet.destination, 0, packet.protocol);
    tables.vip(&any_port).ok_or(Verdict::NotVip)
}

/// The verdict on a frame that could not be parsed: a broken one is dropped only if its address is a VIP's.
#[inline(always)]
pub fn blame<F: Frame, T: Tables>(verdict: Verdict, frame: &F, tables: &T) -> Verdict {
    if verdict.action() != Action::Drop {
        return verdict;
    }
    let key = parse::destination(frame).map(|(address, protocol)| VipKey::address(address, protocol));
    match key.and_then(|key| tables.vip(&key)) {
        Some(_) => verdict,
        None => Verdict::Unreadable,
    }
}
