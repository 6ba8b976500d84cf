//! Step 2: whose traffic is this?

use lb_common::{
    layout::vip::{PrefixKey, Vip, VipKey},
    maps::feature,
    verdict::{Action, Verdict},
};

use crate::{
    frame::Frame,
    parse::{self, Family, Start},
    path::Tables,
};

/// The VIP that serves `service`: its own port's, else any port's; else of the prefixes that match the longest, and again
/// its own port's before any port's. `family` is that of the packet.
///
/// # Errors
/// [`Verdict::NotVip`]; [`Verdict::UnknownPort`].
#[inline(always)]
pub fn find<T: Tables>(service: VipKey, family: Family, tables: &T) -> Result<&Vip, Verdict> {
    if let Some(vip) = exact(service, tables) {
        return Ok(vip);
    }
    let any_port = service.any_port();
    if tables.has(feature::PREFIX_VIPS)
        && let Some(vip) = by_prefix(&service, &any_port, tables)
    {
        return Ok(vip);
    }
    if tables.has(feature::UNKNOWN_PORT)
        && address(VipKey { protocol: family.icmp(), ..any_port }, tables)
            .is_some_and(|entry| entry.flags & Vip::DROP_UNKNOWN_PORT != 0)
    {
        return Err(Verdict::UnknownPort);
    }
    Err(Verdict::NotVip)
}

/// The VIP of just this address: its own port's, else any port's.
#[inline(always)]
pub fn exact<T: Tables>(service: VipKey, tables: &T) -> Option<&Vip> {
    if let Some(vip) = tables.vip(&service) {
        return Some(vip);
    }
    if tables.has(feature::ANY_PORT) { tables.vip(&service.any_port()) } else { None }
}

#[inline(always)]
fn by_prefix<'t, T: Tables>(service: &VipKey, any_port: &VipKey, tables: &'t T) -> Option<&'t Vip> {
    let own = tables.prefix_vip(&PrefixKey::of(service));
    let any = tables.prefix_vip(&PrefixKey::of(any_port));
    match (own, any) {
        (Some(own), Some(any)) if any.wildcard_bits < own.wildcard_bits => Some(any),
        (Some(own), _) => Some(own),
        (None, any) => any,
    }
}

/// The entry of an address, if it is a VIP's.
#[inline(always)]
pub fn address<T: Tables>(key: VipKey, tables: &T) -> Option<&Vip> {
    if let Some(entry) = tables.vip(&key) {
        return Some(entry);
    }
    if tables.has(feature::PREFIX_VIPS) { tables.prefix_vip(&PrefixKey::of(&key)) } else { None }
}

/// Whether an address, by little-endian loads of its halves, is a VIP's.
#[inline(always)]
pub fn is_own<T: Tables>(destination: [u64; 2], family: Family, tables: &T) -> bool {
    address(VipKey::from_words(destination, 0, family.icmp()), tables).is_some()
}

/// The verdict on a packet that could not be parsed: a broken one is dropped only if its address is a VIP's.
#[inline(always)]
pub fn blame<F: Frame, T: Tables>(verdict: Verdict, frame: &F, start: &Start, tables: &T) -> Verdict {
    if verdict.action() != Action::Drop {
        return verdict;
    }
    match parse::destination(frame, start) {
        Some(destination) if is_own(destination, start.family, tables) => verdict,
        _ => Verdict::Unreadable,
    }
}
