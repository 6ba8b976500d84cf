//! The tables between daemon and program, in the order in which a packet meets them.

pub mod vip;

pub mod vips;

pub mod prefix;

pub mod limit;

pub mod server;

pub mod flow;

pub mod ring;

pub mod target;

pub mod counter;

pub mod traffic;

/// Version of everything in this module. It names the pin directory. Tables of another version are never adopted as they
/// are: those of an older one are converted by a daemon that knows how, others refused.
///
/// The feature `next-layout` is for tests alone: it makes a version that differs in what could differ, so that the way from
/// one to the next is tried with a real one.
pub const LAYOUT_VERSION: u32 = if cfg!(feature = "next-layout") { 4 } else { 3 };
