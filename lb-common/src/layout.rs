//! The tables between daemon and program, in the order in which a packet meets them.

pub mod vip;

pub mod prefix;

pub mod limit;

pub mod server;

pub mod flow;

pub mod ring;

pub mod target;

pub mod counter;

/// Version of everything in this module. It names the pin directory; tables of another version are never adopted.
pub const LAYOUT_VERSION: u32 = 2;
