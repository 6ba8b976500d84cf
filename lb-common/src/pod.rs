//! The daemon writes these types through aya, which asks for `Pod`.

use crate::{
    layout::{
        counter::{TargetCounters, VerdictCounters},
        ring::RingBlock,
        target::Target,
        vip::{Vip, VipKey},
    },
    maps::Tuning,
};

macro_rules! pod {
    ($($name:ty),*) => {$(
        // SAFETY: `repr(C)`, made of integers and arrays of them, without hidden padding (each but `Tuning` derives
        // `IntoBytes`, which refuses it at compile time; `Tuning` is 40 bytes of fields in 40 bytes).
        unsafe impl aya::Pod for $name {}
    )*};
}

pod!(VipKey, Vip, RingBlock, Target, TargetCounters, VerdictCounters, Tuning);
const _: () = assert!(size_of::<Tuning>() == 8 + 4 + 4 + 4 + 4 + 16);
