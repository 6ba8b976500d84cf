//! What a packet costs, in nanoseconds of one core.
//!
//! A [`workload`] says which frames are replayed; [`balancer`] has the real `lb` load the program under test; [`replay`]
//! drives the BPF side that feeds it; [`measure`] runs the rounds on a core that [`machine`] watches; [`outcome`] prints
//! them. A [`record`] is the form in which all benchmarks keep their figures. `README.md` has the method.

pub mod balancer;
pub mod compare;
pub mod control;
mod daemon;
pub mod health;
pub mod host;
pub mod lab;
pub mod machine;
pub mod measure;
pub mod options;
pub mod outcome;
pub mod output;
pub mod record;
pub mod replay;
pub mod report;
pub mod rings;
pub mod stats;
pub mod tables;
mod turns;
pub mod wire;
pub mod workload;

/// The benchmarks' own programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench-xdp.o"));
