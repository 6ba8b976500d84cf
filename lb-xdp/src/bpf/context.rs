//! The one place with raw packet pointers.

use aya_ebpf::{EbpfContext as _, helpers::bpf_xdp_adjust_head, programs::XdpContext};
use lb_xdp::frame::{Frame, Header, NoHeadroom};

/// A frame that the kernel lent us. `data` and `data_end` are read anew for each access: the helper that moves the head
/// makes older pointers worthless, and the borrow checker sees that it needs `&mut self`.
pub(crate) struct XdpFrame {
    context: XdpContext,
}

impl XdpFrame {
    #[inline(always)]
    pub(crate) fn new(context: XdpContext) -> Self {
        Self { context }
    }

    /// Where `H` lies at `offset`, if the frame holds all of it.
    #[inline(always)]
    fn pointer<H: Header>(&self, offset: usize) -> Option<*mut H> {
        let start = self.context.data() + offset;
        (start + size_of::<H>() <= self.context.data_end()).then_some(start as *mut H)
    }

    #[inline(always)]
    fn adjust_head(&mut self, by: i32) -> Result<(), NoHeadroom> {
        // SAFETY: the context is the kernel's own; no reference into the frame outlives `&mut self`.
        let result = unsafe { bpf_xdp_adjust_head(self.context.as_ptr().cast(), by) };
        if result == 0 { Ok(()) } else { Err(NoHeadroom) }
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn len(&self) -> usize {
        self.context.data_end() - self.context.data()
    }

    #[inline(always)]
    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        // SAFETY: within the frame, as just checked; `H` is made of bytes, so any bytes are one, at any alignment.
        self.pointer::<H>(offset).map(|pointer| unsafe { &*pointer })
    }

    #[inline(always)]
    fn at_mut<H: Header>(&mut self, offset: usize) -> Option<&mut H> {
        // SAFETY: as for `at`; `&mut self` makes it the only reference.
        self.pointer::<H>(offset).map(|pointer| unsafe { &mut *pointer })
    }

    #[inline(always)]
    fn grow_head(&mut self, bytes: usize) -> Result<(), NoHeadroom> {
        self.adjust_head(-(bytes as i32))
    }

    #[inline(always)]
    fn shrink_head(&mut self, bytes: usize) -> Result<(), NoHeadroom> {
        // The helper itself refuses to leave less than an Ethernet header.
        self.adjust_head(bytes as i32)
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }
}
