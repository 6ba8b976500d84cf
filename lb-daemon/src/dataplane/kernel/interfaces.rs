//! What the kernel says of network interfaces: which exist, and which XDP program runs on them in which mode.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

use rtnetlink::{
    packet_core::{ErrorMessage, NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkMessage, LinkXdp},
    },
};

use super::netlink::{dump, send, socket};

// Of include/uapi/linux/if_link.h.
const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const NO_PROGRAM: RawFd = -1;
// Of include/uapi/linux/netlink.h.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Where in the kernel a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// In the driver.
    Native,
    /// In the kernel's generic hook, after the packet's socket buffer was made.
    Generic,
    /// On the card itself.
    Offloaded,
}

impl Hook {
    /// Name in tables and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
        }
    }
}

/// An interface of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its number.
    pub(super) index: u32,
    /// Its largest packet, in bytes.
    pub(super) mtu: u32,
    /// Its MAC address; zeros if it has none.
    pub(super) mac: [u8; 6],
    /// Programs that run on it, with their numbers.
    pub(super) programs: Vec<(Hook, u32)>,
}

impl Interface {
    /// Where a program runs on this interface, if it does.
    pub(super) fn hook_of(&self, program: u32) -> Option<Hook> {
        self.programs.iter().find(|(_, id)| *id == program).map(|(hook, _)| *hook)
    }
}

/// All interfaces of this network namespace, by name.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn list() -> io::Result<BTreeMap<String, Interface>> {
    let mut found = BTreeMap::new();
    dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
        if let RouteNetlinkMessage::NewLink(link) = message
            && let Some(name) = name(&link)
        {
            found.insert(
                name,
                Interface { index: link.header.index, mtu: mtu(&link), mac: mac(&link), programs: programs(&link) },
            );
        }
    })?;
    Ok(found)
}

/// The addresses of an interface.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn addresses(index: u32) -> io::Result<Vec<IpAddr>> {
    Ok(all_addresses()?.into_iter().filter(|(at, _)| *at == index).map(|(_, address)| address).collect())
}

/// The addresses of all interfaces, each with the number of its own.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn all_addresses() -> io::Result<Vec<(u32, IpAddr)>> {
    let mut found = Vec::new();
    dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
        let RouteNetlinkMessage::NewAddress(address) = message else { return };
        // On a point-to-point link ADDRESS is the peer's and LOCAL ours; IPv6 has ADDRESS only.
        let local = address.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
        let plain = address.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        });
        found.extend(local.or(plain).map(|ip| (address.header.index, ip)));
    })?;
    Ok(found)
}

/// The addresses that others can answer to, each with the number of its interface.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn answerable() -> io::Result<Vec<(u32, IpAddr)>> {
    let is_usable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    Ok(all_addresses()?.into_iter().filter(|(_, address)| is_usable(address)).collect())
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn mtu(link: &LinkMessage) -> u32 {
    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    mtu.unwrap_or_default()
}

fn mac(link: &LinkMessage) -> [u8; 6] {
    let mac = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(address) => address.as_slice().try_into().ok(),
        _ => None,
    });
    mac.unwrap_or_default()
}

fn programs(link: &LinkMessage) -> Vec<(Hook, u32)> {
    let xdp = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    let mut found = Vec::new();
    for attribute in xdp.flatten() {
        match attribute {
            LinkXdp::DrvProgId(id) => found.push((Hook::Native, *id)),
            LinkXdp::SkbProgId(id) => found.push((Hook::Generic, *id)),
            LinkXdp::HwProgId(id) => found.push((Hook::Offloaded, *id)),
            _ => {}
        }
    }
    found
}

/// What the kernel or driver says to whoever attaches a program by netlink: an attempt that is expected to fail. Nothing if
/// it has no words for it. An attempt that succeeds is taken back.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn refusal(index: u32, program: BorrowedFd<'_>, generic: bool) -> io::Result<Option<String>> {
    let mode = if generic { XDP_FLAGS_SKB_MODE } else { XDP_FLAGS_DRV_MODE };
    let mut socket = socket()?;
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    let mut attempt = |fd, flags| -> io::Result<ErrorMessage> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::Xdp(vec![LinkXdp::Fd(fd), LinkXdp::Flags(flags)]));
        send(&mut socket, RouteNetlinkMessage::SetLink(link), NLM_F_REQUEST | NLM_F_ACK)?;
        let (datagram, _) = socket.recv_from_full()?;
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&datagram).map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(answer) => Ok(answer),
            _ => Err(io::Error::other("not an answer to the request")),
        }
    };
    let answer = attempt(program.as_raw_fd(), mode | XDP_FLAGS_UPDATE_IF_NOEXIST)?;
    if answer.code.is_none() {
        attempt(NO_PROGRAM, mode)?;
        return Ok(None);
    }
    Ok(words(&answer.header))
}

/// The message among the attributes of a refusal, which follow the header of what was refused.
fn words(refusal: &[u8]) -> Option<String> {
    let mut rest = refusal.get(HEADER..)?;
    loop {
        let (head, _) = rest.split_at_checked(4)?;
        let field = |at: usize| Some(u16::from_ne_bytes([*head.get(at)?, *head.get(at + 1)?]));
        let (length, kind) = (usize::from(field(0)?), field(2)?);
        if kind == NLMSGERR_ATTR_MSG {
            let text = String::from_utf8_lossy(rest.get(4..length)?);
            return Some(text.trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}
