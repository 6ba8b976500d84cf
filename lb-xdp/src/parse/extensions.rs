//! IPv6 extension headers (RFC 8200 section 4): what lies behind them?

use lb_common::{layout::vip, verdict::Verdict};

use crate::{
    frame::Frame,
    wire::ipv6::{self, Extension, FragmentHeader},
};

/// Extension headers that are walked.
pub const MAX: usize = 4;

/// What an IP packet carries, and which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// Its protocol. Of a later fragment, what its fragment header says, which is the same in all of a datagram.
    pub protocol: u8,
    /// Where it begins.
    pub l4: usize,
    /// Offset of the header that makes the packet one of several fragments; 0 if it is whole.
    pub fragment: usize,
    /// Whether it is a fragment other than the first.
    pub is_later: bool,
}

impl Upper {
    /// What follows an IPv6 header at `l3` that says `protocol`.
    #[inline(always)]
    pub const fn behind_ipv6(protocol: u8, l3: usize) -> Self {
        Self { protocol, l4: l3 + ipv6::LEN, fragment: 0, is_later: false }
    }
}

/// Walks from what follows an IPv6 header, which `upper` says, to what the packet carries.
///
/// It changes `upper` in place: in a `Result` an error would share the first bytes of [`Upper::l4`], so that the compiler
/// handled them apart, and the verifier of kernel 6.1 would lose the bounds of an offset put together from halves.
///
/// # Errors
/// [`Verdict::Truncated`]; [`Verdict::ExtensionHeaders`] if there are more than [`MAX`], or two fragment headers.
#[inline(always)]
pub fn walk<F: Frame>(frame: &F, upper: &mut Upper, end: usize) -> Result<(), Verdict> {
    if matches!(upper.protocol, vip::TCP | vip::UDP | vip::ICMPV6) {
        return Ok(());
    }
    walk_on(frame, upper, end)
}

#[inline(always)]
fn walk_on<F: Frame>(frame: &F, upper: &mut Upper, end: usize) -> Result<(), Verdict> {
    let mut fragmented = false;
    for _ in 0..MAX {
        let at = upper.l4;
        match upper.protocol {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {
                let header = frame.at::<Extension>(at).ok_or(Verdict::Truncated)?;
                upper.protocol = header.next_header;
                upper.l4 = at + (header.len as usize + 1) * 8;
            }
            ipv6::FRAGMENT => {
                let header = frame.at::<FragmentHeader>(at).ok_or(Verdict::Truncated)?;
                if fragmented {
                    return Err(Verdict::ExtensionHeaders);
                }
                fragmented = true;
                upper.protocol = header.next_header;
                upper.l4 = at + size_of::<FragmentHeader>();
                upper.is_later = header.is_later();
                if upper.is_later || header.has_more() {
                    upper.fragment = at;
                }
            }
            _ => return Ok(()),
        }
        if upper.l4 > end {
            return Err(Verdict::Truncated);
        }
        if upper.is_later {
            return Ok(());
        }
    }
    match upper.protocol {
        ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS | ipv6::FRAGMENT => Err(Verdict::ExtensionHeaders),
        _ => Ok(()),
    }
}

/// Identification of the fragment header at `offset`, a little-endian load.
#[inline(always)]
pub fn id<F: Frame>(frame: &F, offset: usize) -> u32 {
    frame.at::<FragmentHeader>(offset).map_or(0, |header| u32::from_le_bytes(header.id))
}
