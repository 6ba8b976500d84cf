//! Backends: `[pool.NAME]`.

use std::{fmt, net::IpAddr, sync::Arc};

use super::Health;

/// `[pool.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its backends, in the order of the file; names and addresses are unique within the pool.
    pub backends: Vec<Backend>,
    /// How it is told which of them may take traffic; VIPs of the pool share it.
    pub health: Arc<Health>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Where packets to it are tunnelled.
    pub address: IpAddr,
    /// Share of new flows, relative to the pool's other backends; 0 takes none. At most [`MAX_WEIGHT`].
    pub weight: u32,
    /// What the operator wants of it.
    pub state: AdminState,
    /// The number under which clients' packets name it; unique within the pool.
    pub server_id: Option<ServerId>,
    /// Whether it is this host: its packets are passed up as they came.
    pub local: bool,
}

impl Backend {
    /// A backend without keys that few need.
    pub fn plain(name: &str, address: IpAddr, weight: u32, state: AdminState) -> Self {
        Self { name: name.to_owned(), address, weight, state, server_id: None, local: false }
    }
}

/// A backend's server ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    /// Its value; one of several bytes is read as big-endian. Below 2^120.
    pub value: u128,
    /// Its bytes, when it was written as hexadecimal digits; `None` when it was written as a number.
    pub len: Option<u8>,
}

impl ServerId {
    /// Bytes that its value takes, at least one.
    pub fn bytes(&self) -> u8 {
        let zeros = self.value.to_be_bytes().iter().take_while(|byte| **byte == 0).count();
        u8::try_from(16 - zeros).unwrap_or(16).max(1)
    }
}

impl fmt::Display for ServerId {
    /// As it may be written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len {
            Some(len) => write!(f, "\"{:0width$x}\"", self.value, width = 2 * usize::from(len)),
            None => self.value.fmt(f),
        }
    }
}

/// Largest weight of a backend.
pub const MAX_WEIGHT: u32 = 65_535;

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminState {
    /// Serve.
    #[default]
    Active,
    /// Keep known flows, take no new ones.
    Drain,
    /// Take nothing; known flows move.
    Disabled,
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Drain => "drain",
            Self::Disabled => "disabled",
        })
    }
}
