//! An end of a trunk without VLAN devices, which few kernels lack but some do: programs that tag what leaves an interface
//! and take the tag off what comes in.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use super::{LINK_CREATE, LinkCreate, PROG_LOAD, ProgLoad, descriptor, interface_number};

// From the kernel's include/uapi/linux/bpf.h.
const PROG_TYPE_SCHED_CLS: u32 = 3;
const ATTACH_TYPE_TCX_INGRESS: u32 = 46;
const ATTACH_TYPE_TCX_EGRESS: u32 = 47;

/// Both programs, attached to an interface; dropping it detaches them.
#[derive(Debug)]
pub struct TaggingPort {
    _links: [OwnedFd; 2],
}

impl TaggingPort {
    /// Attaches to interface `name` of the calling thread's namespace. What leaves gets the 802.1Q tag `leaving`, what
    /// comes in must bear `coming`, else it is dropped; 0 is no tag.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel has no tcx (it came with 6.6).
    pub fn attach(name: &str, leaving: u16, coming: u16) -> Result<Self> {
        let ifindex = interface_number(name)?;
        let pass = [0xffff_ffff_0000_00b7, 0x95]; // mov r0, TCX_NEXT; exit
        let tag = [
            0x0000_0081_0000_02b7,                  // mov r2, 802.1Q in network order
            u64::from(leaving) << 32 | 0x0000_03b7, // mov r3, tag
            0x0000_0012_0000_0085,                  // call bpf_skb_vlan_push
        ];
        let egress = if leaving == 0 { pass.to_vec() } else { [tag.as_slice(), &pass].concat() };
        let untag = [
            0x0000_0000_0018_1261,                 // ldxw r2, [r1 + vlan_tci]
            u64::from(coming) << 32 | 0x0002_0215, // jeq r2, tag, +2
            0x0000_0002_0000_00b7,                 // mov r0, TCX_DROP
            0x95,                                  // exit
            0x0000_0013_0000_0085,                 // call bpf_skb_vlan_pop
        ];
        let ingress = [untag.as_slice(), &pass].concat();
        let links =
            [attach(ifindex, ATTACH_TYPE_TCX_INGRESS, &ingress)?, attach(ifindex, ATTACH_TYPE_TCX_EGRESS, &egress)?];
        Ok(Self { _links: links })
    }
}

fn attach(ifindex: u32, attach_type: u32, instructions: &[u64]) -> Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let load = ProgLoad {
        prog_type: PROG_TYPE_SCHED_CLS,
        insn_cnt: u32::try_from(instructions.len())?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    let program = descriptor(PROG_LOAD, &load).context("cannot load a program that tags")?;
    let create =
        LinkCreate { prog_fd: program.as_raw_fd().cast_unsigned(), target_ifindex: ifindex, attach_type, flags: 0 };
    descriptor(LINK_CREATE, &create).context("cannot attach a program that tags (tcx, Linux 6.6)")
}
