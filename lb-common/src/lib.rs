//! What the XDP program and the daemon must agree on, and nothing else.
//!
//! * [`layout`]: key and value of each table, one file a table;
//! * [`verdict`]: every way a frame can leave the program;
//! * [`maps`]: the names of programs, tables and parameters, spelt once.
//!
//! Flows keep what packets keep, network byte order in arrays; counters and numbers are native.
#![no_std]
#![warn(missing_docs)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod layout;
pub mod maps;
pub mod verdict;

#[cfg(feature = "user")]
mod pod;
