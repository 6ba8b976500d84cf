//! The one place with raw packet pointers.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use lb_common::maps::feature;
use lb_xdp::{
    checksum,
    frame::{Frame, Header, NoHeadroom},
};

use crate::maps;

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

    /// Start and end of the first buffer. Read anew each time, and volatile: they are 32-bit fields to LLVM, which would
    /// keep the lower halves and extend these again, while to the verifier only what was just loaded is a pointer.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let context = self.context.ctx;
        // SAFETY: the context is the kernel's own, and valid while the program runs.
        let start = unsafe { (&raw const (*context).data).read_volatile() };
        // SAFETY: likewise.
        let end = unsafe { (&raw const (*context).data_end).read_volatile() };
        (start as usize, end as usize)
    }

    /// Where `H` lies at `offset`, if the frame holds all of it.
    #[inline(always)]
    fn pointer<H: Header>(&self, offset: usize) -> Option<*mut H> {
        let (start, end) = self.bounds();
        let start = start + offset;
        (start + size_of::<H>() <= end).then_some(start as *mut H)
    }

    /// Length of the frame in all its buffers.
    #[inline(always)]
    pub(crate) fn total_len(&self) -> usize {
        if !maps::has(feature::MULTI_BUFFER) {
            return self.len();
        }
        // SAFETY: the context is the kernel's own.
        unsafe { bpf_xdp_get_buff_len(self.context.as_ptr().cast()) as usize }
    }

    /// [`Frame::sum`] within the first buffer: by the kernel's own routine, which takes at most 512 bytes.
    #[inline(always)]
    fn sum_here(&self, offset: usize, len: usize) -> Option<u32> {
        let end = offset + len;
        let mut at = offset;
        let mut sum = 0;
        for _ in 0..MAX_OFFSET / 512 {
            if at + 512 > end || at > MAX_OFFSET - 512 {
                break;
            }
            sum = add(sum, self.at::<[u8; 512]>(at)?);
            at += 512;
        }
        macro_rules! rest {
            ($($size:literal)*) => {$(
                if at + $size <= end && at <= MAX_OFFSET - $size {
                    sum = add(sum, self.at::<[u8; $size]>(at)?);
                    at += $size;
                }
            )*};
        }
        rest!(256 128 64 32 16 8 4);
        let mut sum = u32::from(checksum::fold(sum));
        if at + 2 <= end && at <= MAX_OFFSET - 2 {
            sum += checksum::word(*self.at::<[u8; 2]>(at)?);
            at += 2;
        }
        if at < end && at < MAX_OFFSET {
            sum += checksum::word([self.byte(at)?, 0]);
        }
        Some(sum)
    }

    /// [`Frame::sum`] over all buffers, by copies.
    #[inline(always)]
    fn sum_beyond(&self, offset: usize, len: usize) -> Option<u32> {
        if !maps::has(feature::MULTI_BUFFER) {
            return None;
        }
        let end = offset + len;
        let mut at = offset;
        let mut sum = 0;
        let mut copy = [0_u64; 8];
        for _ in 0..MAX_OFFSET / 64 {
            if at + 64 > end {
                break;
            }
            self.load(at, &mut copy, 64)?;
            sum = add::<64>(sum, zerocopy::transmute_ref!(&copy));
            at += 64;
        }
        let rest = end.saturating_sub(at) as u32;
        if rest > 0 && rest < 64 {
            // What lies behind the last bytes must not count.
            copy = [0; 8];
            self.load(at, &mut copy, rest)?;
            sum = add::<64>(sum, zerocopy::transmute_ref!(&copy));
        }
        Some(u32::from(checksum::fold(sum)))
    }

    /// Copies `len` (1 to 64) bytes from any buffer.
    #[inline(always)]
    fn load(&self, offset: usize, to: &mut [u64; 8], len: u32) -> Option<()> {
        let to = to.as_mut_ptr().cast();
        // SAFETY: `to` has 64 bytes; the context is the kernel's own.
        let result = unsafe { bpf_xdp_load_bytes(self.context.as_ptr().cast(), offset as u32, to, len) };
        (result == 0).then_some(())
    }
}

/// Offsets that the verifier accepts are below this (its `MAX_PACKET_OFF`).
const MAX_OFFSET: usize = 0xffff;

/// Adds the words of `bytes`, a multiple of 4 of them, to a sum.
#[inline(always)]
fn add<const N: usize>(sum: u32, bytes: &[u8; N]) -> u32 {
    let bytes = bytes.as_ptr().cast_mut().cast();
    // SAFETY: the helper reads `N` bytes and writes none.
    unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes, N as u32, sum) as u32 }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn len(&self) -> usize {
        let (start, end) = self.bounds();
        end - start
    }

    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        // Nearly every frame lies in one buffer, and to ask for the length of all is a call.
        len <= self.len() || maps::has(feature::MULTI_BUFFER) && len <= self.total_len()
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
    fn replace_head(&mut self, old: usize, new: usize) -> Result<(), NoHeadroom> {
        // SAFETY: the context is the kernel's own; no reference into the frame outlives `&mut self`. The helper itself
        // refuses to leave less than an Ethernet header.
        let result = unsafe { bpf_xdp_adjust_head(self.context.as_ptr().cast(), old as i32 - new as i32) };
        if result == 0 { Ok(()) } else { Err(NoHeadroom) }
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> Result<(), NoHeadroom> {
        let by = len as i32 - self.total_len() as i32;
        // SAFETY: as above. It can only cut, for `by` is negative or the helper refuses.
        let result = if by > 0 { -1 } else { unsafe { bpf_xdp_adjust_tail(self.context.as_ptr().cast(), by) } };
        if result == 0 { Ok(()) } else { Err(NoHeadroom) }
    }

    #[inline(always)]
    fn sum(&self, offset: usize, len: usize) -> Option<u32> {
        if offset + len <= self.len() { self.sum_here(offset, len) } else { self.sum_beyond(offset, len) }
    }

    #[inline(always)]
    fn sum_of<const N: usize>(&self, offset: usize) -> Option<u32> {
        Some(u32::from(checksum::fold(add(0, self.at::<[u8; N]>(offset)?))))
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }
}
