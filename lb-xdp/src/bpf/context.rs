//! The one place with raw packet pointers, but for those of this host's own packets in `skb`.

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_md,
    helpers::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use lb_common::maps::feature;
use lb_xdp::{
    checksum,
    frame::{Frame, Header, NoHeadroom},
    path::{Exit, Tables, whole},
};

use crate::maps::{self, KernelTables};

/// A frame that the kernel lent us. `data` and `data_end` are read anew for each access: the helper that moves the head
/// makes older pointers worthless, and the borrow checker sees that it needs `&mut self`.
pub(crate) struct XdpFrame {
    context: XdpContext,
    /// Length before the whole way, which may change it; 0 if that was not walked.
    received: usize,
}

/// Bytes that the first of several buffers has at least.
const FULL_BUFFER: usize = 1024;

impl XdpFrame {
    #[inline(always)]
    pub(crate) fn new(context: XdpContext) -> Self {
        Self { context, received: 0 }
    }

    /// Length as received, of a frame that is not forwarded: on the plain way such a frame is not changed.
    #[inline(always)]
    pub(crate) fn received_len(&self) -> usize {
        if self.received != 0 { self.received } else { self.total_len() }
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
        let len = self.len();
        if len < FULL_BUFFER || !maps::has(feature::MULTI_BUFFER) {
            return len;
        }
        // SAFETY: the context is the kernel's own.
        unsafe { bpf_xdp_get_buff_len(self.context.as_ptr().cast()) as usize }
    }

    /// [`Frame::sum`] within the first buffer: by the kernel's own routine, which takes at most 512 bytes.
    ///
    /// Offsets are counted from the end, by what is left: of that the verifier knows no more after one block than after
    /// another, so it goes through what follows the loop once, and not once for every number of blocks.
    #[inline(always)]
    fn sum_here(&self, offset: usize, len: usize) -> Option<u32> {
        let end = offset + len;
        let mut rest = len & MAX_OFFSET;
        let mut sum = 0;
        for _ in 0..MAX_OFFSET / 512 {
            if rest < 512 {
                break;
            }
            sum = add(sum, self.at::<[u8; 512]>(end.wrapping_sub(rest) & MAX_OFFSET)?);
            rest -= 512;
        }
        macro_rules! rest {
            ($($size:literal)*) => {$(
                if rest & $size != 0 {
                    sum = add(sum, self.at::<[u8; $size]>(end.wrapping_sub(rest) & MAX_OFFSET)?);
                    rest &= $size - 1;
                }
            )*};
        }
        rest!(256 128 64 32 16 8 4);
        let mut sum = u32::from(checksum::fold(sum));
        if rest & 2 != 0 {
            sum += checksum::word(*self.at::<[u8; 2]>(end.wrapping_sub(rest) & MAX_OFFSET)?);
        }
        if rest & 1 != 0 {
            // Not by `byte`: kernel 7.3 refuses an offset that was masked and is then lessened by one.
            let [_, last] = *self.at::<[u8; 2]>(end.wrapping_sub(2) & MAX_OFFSET)?;
            sum += checksum::word([last, 0]);
        }
        Some(sum)
    }

    /// [`Frame::sum`] over all buffers, by copies.
    #[inline(always)]
    fn sum_beyond(&self, offset: usize, len: usize) -> Option<u32> {
        if !maps::has(feature::MULTI_BUFFER) {
            return None;
        }
        if len == 0 {
            return Some(0);
        }
        let end = offset + len;
        // From 1 to 64 by arithmetic: of two comparisons the compiler makes one, from which kernel 6.1 doesn't learn that.
        let last = (len.wrapping_sub(1) & 63) as u32 + 1;
        let mut at = offset;
        let mut sum = 0;
        let mut copy = [zero(); 8];
        for _ in 0..MAX_OFFSET / 64 {
            if at + 64 >= end {
                break;
            }
            self.load(at, &mut copy, 64)?;
            sum = add::<64>(sum, zerocopy::transmute_ref!(&copy));
            at += 64;
        }
        if at + 64 < end {
            return None;
        }
        // What lies behind the last bytes must not count.
        copy = [zero(); 8];
        self.load(at, &mut copy, last)?;
        sum = add::<64>(sum, zerocopy::transmute_ref!(&copy));
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

// Functions of their own to the verifier ("global", for they are exported). It goes through each once, without regard to
// where they are called: in place it would do so once for every way to get there. They take the kernel's context and
// return a word.

/// [`whole::walk`]; its exit as a word.
///
/// # Safety
/// `context` is the one that the kernel gave to the program.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn lb_walk_whole(context: *mut xdp_md) -> u64 {
    whole::walk(&mut XdpFrame::new(XdpContext::new(context)), &KernelTables).word()
}

/// [`whole::send`]; its exit as a word.
///
/// # Safety
/// As of [`lb_walk_whole`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn lb_send_whole(context: *mut xdp_md, id: u32) -> u64 {
    whole::send(&mut XdpFrame::new(XdpContext::new(context)), id, &KernelTables).word()
}

/// [`Frame::sum`]; more than 32 bits if the frame doesn't hold the bytes.
///
/// # Safety
/// As of [`lb_walk_whole`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn lb_sum(context: *mut xdp_md, offset: u32, len: u32) -> u64 {
    let frame = XdpFrame::new(XdpContext::new(context));
    let (offset, len) = (offset as usize & MAX_OFFSET, len as usize);
    let sum = if offset + len <= frame.len().min(MAX_OFFSET) {
        frame.sum_here(offset, len)
    } else {
        frame.sum_beyond(offset, len)
    };
    sum.map_or(u64::MAX, u64::from)
}

/// The verifier accepts no offset that might be beyond 65,535 with what is read there (its `MAX_PACKET_OFF`), and what lies
/// in one buffer is never that long.
const MAX_OFFSET: usize = 0x7fff;

/// A zero that the compiler doesn't see through: of an array of plain ones it makes a call of `memset`, and the stack of
/// one more function is too much for kernel 6.1, which rounds each up to 32 bytes.
#[inline(always)]
fn zero() -> u64 {
    core::hint::black_box(0)
}

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
        // SAFETY: the context is the kernel's own.
        let sum = unsafe { lb_sum(self.context.ctx, offset as u32, len as u32) };
        u32::try_from(sum).ok()
    }

    #[inline(always)]
    fn sum_of<const N: usize>(&self, offset: usize) -> Option<u32> {
        Some(u32::from(checksum::fold(add(0, self.at::<[u8; N]>(offset)?))))
    }

    #[inline(always)]
    fn walk_whole<T: Tables>(&mut self, _: &T) -> Exit {
        self.received = self.total_len();
        // SAFETY: the context is the kernel's own.
        Exit::from_word(unsafe { lb_walk_whole(self.context.ctx) })
    }

    #[inline(always)]
    fn send_whole<T: Tables>(&mut self, id: u32, _: &T) -> Exit {
        self.received = self.total_len();
        // SAFETY: the context is the kernel's own.
        Exit::from_word(unsafe { lb_send_whole(self.context.ctx, id) })
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }
}
