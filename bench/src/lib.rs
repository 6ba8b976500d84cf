//! What a packet costs, in nanoseconds of one core.
//!
//! A [`workload`] says which frames are replayed; [`balancer`] has the real `lb` load the program under test; [`replay`]
//! drives the BPF side that feeds it; [`measure`] runs the rounds on a core that [`machine`] watches; [`report`] prints
//! them and keeps them as JSON. `README.md` has the method.

pub mod balancer;
pub mod control;
pub mod health;
pub mod machine;
pub mod measure;
pub mod options;
pub mod replay;
pub mod report;
pub mod stats;
pub mod workload;
