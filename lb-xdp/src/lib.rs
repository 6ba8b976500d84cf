//! The packet's way, written once for kernel and host.
//!
//! Start with [`path`]: the whole way in one function. The steps are generic over a [`frame::Frame`] (bytes) and
//! [`path::Tables`] (look-ups): the BPF binary binds them to an XDP context and maps, [`host`] to a buffer and
//! collections, so that tests and `lb explain` run the very code that forwards.
//!
//! | step | module |
//! |---|---|
//! | 1 what is it | [`link`], [`parse`], with the layouts of [`wire`] and the [`hash`] of the 5-tuple |
//! | 2 whose traffic | [`vip`]; what a VIP asks for that is not plain: [`select`] ([`access`], [`limit`], [`server_id`]) |
//! | 3 known flow | [`flow`] |
//! | 4 new flow | [`ring`] |
//! | 5 wrap it | [`encap`], with [`checksum`] and [`ecn`] |
//! | side roads | [`icmp`]: echo and errors; [`fragment`]; [`too_big`]; [`tunnel`]: from another lb |
//!
//! [`decap`] is the other end of the tunnel: the program of a backend. [`probe`] wraps health probes of this host as data is.
#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::integer_division_remainder_used
    )
)]
// The verifier wants small programs and the compiler does not see that: what touches the frame is inlined by hand. Widths
// are chosen where a value is made; a cast that cuts is meant to.
#![expect(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "BPF: pointers to packet bytes do not survive a call boundary, and native casts cost nothing"
)]

pub mod access;
pub mod checksum;
pub mod decap;
pub mod ecn;
pub mod encap;
#[cfg(test)]
mod fixture;
pub mod flow;
pub mod fragment;
pub mod frame;
pub mod hash;
#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod icmp;
pub mod limit;
pub mod link;
pub mod parse;
pub mod path;
pub mod probe;
pub mod ring;
pub mod select;
pub mod server_id;
pub mod too_big;
pub mod tunnel;
pub mod vip;
pub mod wire;
