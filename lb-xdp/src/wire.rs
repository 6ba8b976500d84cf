//! Header layouts: bytes in network order, at any alignment.

pub mod eth;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
