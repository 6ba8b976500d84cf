//! A packet of this host on its way out: raw packet pointers as in `context`, but of a socket buffer.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::{bpf_skb_adjust_room, bpf_skb_change_head},
    programs::TcContext,
};
use lb_xdp::{
    frame::{Frame, Header, NoHeadroom},
    probe,
    wire::{eth, ipv4, ipv6, l4},
};

/// A socket buffer of which at least the headers lie in one piece. `data` and `data_end` are read anew for each access.
pub(crate) struct SkbFrame {
    context: *mut __sk_buff,
}

impl SkbFrame {
    #[inline(always)]
    pub(crate) fn new(context: TcContext) -> Self {
        Self { context: context.skb.skb }
    }

    /// Mark of the socket that it is from.
    #[inline(always)]
    pub(crate) fn mark(&self) -> u32 {
        // SAFETY: the context is the kernel's own, and valid while the program runs.
        unsafe { (*self.context).mark }
    }

    /// Takes the mark away, which has done its work: whatever goes by marks behind us means others.
    #[inline(always)]
    pub(crate) fn unmark(&mut self) {
        // SAFETY: likewise.
        unsafe { (&raw mut (*self.context).mark).write(0) };
    }

    /// Start and end of what can be read and written in place; volatile for the same reason as in `context`.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: likewise.
        let start = unsafe { (&raw const (*self.context).data).read_volatile() };
        // SAFETY: likewise.
        let end = unsafe { (&raw const (*self.context).data_end).read_volatile() };
        (start as usize, end as usize)
    }

    /// Where `H` lies at `offset`, if it can be read there.
    #[inline(always)]
    fn pointer<H: Header>(&self, offset: usize) -> Option<*mut H> {
        let (start, end) = self.bounds();
        let start = start + offset;
        (start + size_of::<H>() <= end).then_some(start as *mut H)
    }
}

impl Frame for SkbFrame {
    /// Of all its pieces.
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: the context is the kernel's own.
        unsafe { (*self.context).len as usize }
    }

    #[inline(always)]
    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        // SAFETY: within the buffer, as just checked; `H` is made of bytes, so any bytes are one, at any alignment.
        self.pointer::<H>(offset).map(|pointer| unsafe { &*pointer })
    }

    #[inline(always)]
    fn at_mut<H: Header>(&mut self, offset: usize) -> Option<&mut H> {
        // SAFETY: as for `at`; `&mut self` makes it the only reference.
        self.pointer::<H>(offset).map(|pointer| unsafe { &mut *pointer })
    }

    /// The kernel is told of outer headers as such: it then finds the transport header whose checksum it or the network card
    /// still has to fill in.
    #[inline(always)]
    fn replace_head(&mut self, old: usize, new: usize) -> Result<(), NoHeadroom> {
        const V4: usize = ipv4::LEN;
        const V6: usize = ipv6::LEN;
        const UDP_V4: usize = V4 + l4::UDP_LEN;
        const UDP_V6: usize = V6 + l4::UDP_LEN;
        if old == new {
            return Ok(());
        }
        let longer = new.wrapping_sub(old);
        if old == 0 {
            // SAFETY: the context is the kernel's own; no reference into the buffer outlives `&mut self`.
            let result = unsafe { bpf_skb_change_head(self.context, longer as u32, 0) };
            return if result == 0 { Ok(()) } else { Err(NoHeadroom) };
        }
        let outer = match longer {
            V4 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
            V6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
            UDP_V4 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
            UDP_V6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
            _ => return Err(NoHeadroom),
        };
        if old != eth::LEN {
            return Err(NoHeadroom);
        }
        // SAFETY: as above. The room is made behind the Ethernet header.
        let result = unsafe { bpf_skb_adjust_room(self.context, longer as i32, BPF_ADJ_ROOM_MAC, outer.into()) };
        if result == 0 { Ok(()) } else { Err(NoHeadroom) }
    }

    /// Nothing that is sent is cut.
    #[inline(always)]
    fn truncate(&mut self, _: usize) -> Result<(), NoHeadroom> {
        Err(NoHeadroom)
    }

    /// Of the whole packet alone, which is all that wrapping asks for.
    #[inline(always)]
    fn sum(&self, offset: usize, _: usize) -> Option<u32> {
        probe::sum_when_complete(self, offset)
    }

    /// Nothing is answered here.
    #[inline(always)]
    fn sum_of<const N: usize>(&self, _: usize) -> Option<u32> {
        None
    }

    /// It came in by none.
    #[inline(always)]
    fn ingress(&self) -> u32 {
        u32::MAX
    }
}
