//! The link layer: Ethernet with up to two VLAN tags, in front of the packet and back in front of it.

use lb_common::verdict::Verdict;

use crate::{
    frame::{Frame, NoHeadroom},
    parse::{Family, Start},
    wire::eth::{self, Addresses, Ethernet, TAG_LEN, TYPE_OFFSET, Tag},
};

/// Finds the IP packet.
///
/// # Errors
/// [`Verdict::NotIp`], also for what lies under a third tag; [`Verdict::Unreadable`].
#[inline(always)]
pub fn network<F: Frame>(frame: &F) -> Result<Start, Verdict> {
    let ether_type = frame.at::<Ethernet>(0).ok_or(Verdict::Unreadable)?.ether_type;
    match carried(ether_type) {
        Carried::Packet(family) => Ok(Start::untunnelled(eth::LEN, family)),
        Carried::Tagged => tagged(frame),
        Carried::Other => Err(Verdict::NotIp),
    }
}

/// What an `EtherType` announces.
enum Carried {
    Packet(Family),
    Tagged,
    Other,
}

#[inline(always)]
const fn carried(ether_type: [u8; 2]) -> Carried {
    const IPV4: u16 = u16::from_ne_bytes(eth::IPV4);
    const IPV6: u16 = u16::from_ne_bytes(eth::IPV6);
    const VLAN: u16 = u16::from_ne_bytes(eth::VLAN);
    const QINQ: u16 = u16::from_ne_bytes(eth::QINQ);
    match u16::from_ne_bytes(ether_type) {
        IPV4 => Carried::Packet(Family::V4),
        IPV6 => Carried::Packet(Family::V6),
        VLAN | QINQ => Carried::Tagged,
        _ => Carried::Other,
    }
}

#[inline(always)]
fn tagged<F: Frame>(frame: &F) -> Result<Start, Verdict> {
    let mut l3 = eth::LEN;
    for _ in 0..2 {
        l3 += TAG_LEN;
        let ether_type = frame.at::<[u8; 2]>(l3 - size_of::<[u8; 2]>()).ok_or(Verdict::Unreadable)?;
        match carried(*ether_type) {
            Carried::Packet(family) => return Ok(Start::untunnelled(l3, family)),
            Carried::Tagged => {}
            Carried::Other => return Err(Verdict::NotIp),
        }
    }
    Err(Verdict::NotIp)
}

/// A tag that is not there.
pub const NO_TAG: Tag = [0; TAG_LEN];

/// VLAN tags of a frame, the outer one first; [`NO_TAG`] behind the last.
pub type Tags = [Tag; 2];

/// The tags of a frame, if it has any.
#[inline(always)]
pub fn tags<F: Frame>(frame: &F) -> Tags {
    let at = |offset| frame.at::<Tag>(offset).copied().filter(is_tag).unwrap_or(NO_TAG);
    let outer = at(TYPE_OFFSET);
    if outer == NO_TAG { [NO_TAG; 2] } else { [outer, at(TYPE_OFFSET + TAG_LEN)] }
}

#[inline(always)]
const fn is_tag(tag: &Tag) -> bool {
    let [first, second, ..] = *tag;
    matches!(carried([first, second]), Carried::Tagged)
}

/// Puts tags between the addresses and the type of an untagged frame.
///
/// # Errors
/// When there is no room.
#[inline(always)]
pub fn push<F: Frame>(frame: &mut F, [outer, inner]: Tags) -> Result<(), NoHeadroom> {
    if outer == NO_TAG {
        return Ok(());
    }
    let ethernet = frame.at::<Ethernet>(0).ok_or(NoHeadroom)?;
    let (destination, source) = (ethernet.destination.load(), ethernet.source.load());
    let len = if inner == NO_TAG { TAG_LEN } else { 2 * TAG_LEN };
    // The type stays where it is.
    frame.grow_head(len)?;
    frame.at_mut::<Addresses>(0).ok_or(NoHeadroom)?.set(destination, source);
    *frame.at_mut::<Tag>(TYPE_OFFSET).ok_or(NoHeadroom)? = outer;
    if inner != NO_TAG {
        *frame.at_mut::<Tag>(TYPE_OFFSET + TAG_LEN).ok_or(NoHeadroom)? = inner;
    }
    Ok(())
}

/// Turns the link layer round for an answer: what comes before the IP packet at `old` becomes an Ethernet header with the
/// addresses swapped, and room of `new` bytes behind it.
///
/// Returns the tags that the frame had: [`push`] puts them back when the answer is written.
///
/// # Errors
/// When there is no room.
#[inline(always)]
pub fn turn_round<F: Frame>(frame: &mut F, old: usize, new: usize, ether_type: [u8; 2]) -> Result<Tags, NoHeadroom> {
    let tags = tags(frame);
    let ethernet = frame.at::<Ethernet>(0).ok_or(NoHeadroom)?;
    let (destination, source) = (ethernet.source.load(), ethernet.destination.load());
    frame.replace_head(old, eth::LEN + new)?;
    frame.at_mut::<Ethernet>(0).ok_or(NoHeadroom)?.set(destination, source, ether_type);
    Ok(tags)
}

/// Cuts what lies between the link layer and the IP packet at `l3`.
///
/// # Errors
/// When there is no room, which cannot be.
#[inline(always)]
pub fn strip<F: Frame>(frame: &mut F, l3: usize, ether_type: [u8; 2]) -> Result<(), NoHeadroom> {
    let tags = tags(frame);
    let ethernet = frame.at::<Ethernet>(0).ok_or(NoHeadroom)?;
    let (destination, source) = (ethernet.destination.load(), ethernet.source.load());
    frame.replace_head(l3, eth::LEN)?;
    frame.at_mut::<Ethernet>(0).ok_or(NoHeadroom)?.set(destination, source, ether_type);
    push(frame, tags)
}
