//! What the XDP program and the daemon must agree on, and nothing else.
//!
//! * [`layout`]: key and value of each table, one file a table;
//! * [`verdict`]: every way a frame can leave the program;
//! * [`maps`]: the names of programs, tables and parameters, spelt once.
//!
//! Flows keep what packets keep, network byte order in arrays; counters and numbers are native.
#![no_std]
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]
// Widths are chosen where a value is made; a cast that cuts is meant to. What the fast path calls must not become a call.
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "packed words are taken apart by shifts and casts, on BPF without a call"
)]

pub mod layout;
pub mod maps;
pub mod verdict;

#[cfg(feature = "user")]
mod pod;
