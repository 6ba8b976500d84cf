//! One packet at a time: named cases, run by the real program in the kernel and by the same code on the host.
//!
//! A [`Case`] says what the tables hold ([`Given`]), which [`Frame`]s come in, what must come out, under which verdict, and
//! what must be counted and remembered afterwards. [`check`](check::check) runs it through `BPF_PROG_TEST_RUN` and through
//! `HostTables::run`; both and the expectation must agree, byte for byte. What is expected is built by etherparse, not by
//! lb's own encoder. When they don't agree, all are printed side by side and written to a pcap.
//!
//! * [`frame`]: frames, built from values;
//! * [`given`]: what the tables hold;
//! * [`case`]: a case, and how it reads in a test;
//! * [`check`]: runs cases;
//! * [`sums`]: looks at every checksum of a frame;
//! * [`kernel`]: the program in the kernel, with pins of its own;
//! * [`decap`]: the same for the backend's program, [`probe`] for that of health probes;
//! * [`report`]: what a failure shows.
//!
//! Without root the kernel's half is skipped, and the test says so.

pub mod case;
pub mod check;
mod counted;
pub mod decap;
pub mod frame;
pub mod given;
pub mod kernel;
pub mod probe;
pub mod report;
pub mod sums;

pub use self::{case::Case, frame::Frame, given::Given};
