//! The daemon writes these types through aya, which asks for `Pod`.

use crate::{
    layout::{
        counter::{TargetCounters, VerdictCounters},
        prefix::{Group, SourceKey},
        ring::RingBlock,
        server::ServerKey,
        target::Target,
        vip::{PrefixKey, Vip, VipKey},
    },
    maps::{DecapTuning, ProbeTuning, Tuning},
};

macro_rules! pod {
    ($($name:ty),*) => {$(
        // SAFETY: `repr(C)`, made of integers and arrays of them, without hidden padding (each but the three
        // tunings derives `IntoBytes`, which refuses it at compile time; those are summed up below).
        unsafe impl aya::Pod for $name {}
    )*};
}

pod!(
    VipKey,
    PrefixKey,
    Vip,
    SourceKey,
    Group,
    ServerKey,
    RingBlock,
    Target,
    TargetCounters,
    VerdictCounters,
    Tuning,
    DecapTuning,
    ProbeTuning
);
const _: () = assert!(size_of::<Tuning>() == 4 * 8 + 7 * 4 + 3 * 4 + 2 * 16 + 2 + 6);
const _: () = assert!(size_of::<DecapTuning>() == 2 + 2);
const _: () = assert!(size_of::<ProbeTuning>() == 4 + 4 + 6 + 2);
