//! Tables of a backend in memory.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{
    layout::prefix::SourceKey,
    maps::{DecapTuning, DecapVerdict},
};

use super::{HostFrame, longest};
use crate::decap::{self, Addresses};

/// What the program of `lb decap` knows.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Parameters of the program.
    pub tuning: DecapTuning,
    /// `DECAP_ADDRESSES`
    pub tunnel: BTreeSet<[u8; 16]>,
    /// `DECAP_SOURCES`
    pub sources: BTreeMap<SourceKey, u32>,
}

impl Backend {
    /// One with these tunnel addresses (IPv4 mapped), that takes GUE at the usual port, and packets from anywhere.
    #[must_use]
    pub fn new(tunnel: impl IntoIterator<Item = [u8; 16]>) -> Self {
        let tuning = DecapTuning { gue_port: 6080_u16.to_be_bytes(), only_sources: 0 };
        Self { tuning, tunnel: tunnel.into_iter().collect(), sources: BTreeMap::new() }
    }

    /// Unwraps a frame as the BPF program does.
    pub fn unwrap(&self, frame: &mut HostFrame) -> DecapVerdict {
        decap::unwrap(frame, self)
    }
}

impl Addresses for Backend {
    fn is_tunnel(&self, address: &[u8; 16]) -> bool {
        self.tunnel.contains(address)
    }

    fn is_source(&self, address: [u64; 2]) -> bool {
        self.tuning.only_sources == 0 || longest(&self.sources, &SourceKey::from_words(0, address)) == Some(&1)
    }

    fn gue_port(&self) -> [u8; 2] {
        self.tuning.gue_port
    }
}
