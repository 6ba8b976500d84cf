//! How the other end of a TLS connection is known.

use std::{cmp::Ordering, fmt, sync::Arc};

/// A TLS connection to a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tls {
    /// Whose certificates are good.
    pub trust: Trust,
    /// Host name, or address, that is asked for and that the certificate has to be for; `None` is the check's `host` if it
    /// names one, else the VIP's address.
    pub sni: Option<String>,
}

/// Whose certificates are good.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Those of authorities that this system trusts.
    #[default]
    System,
    /// Those of these authorities and no others.
    Authorities(Authorities),
    /// Anybody's: `verify = false`
    Anybody,
}

/// The certificates of a `ca_file`. Equal to others of the same file's name and contents.
#[derive(Clone)]
pub struct Authorities {
    /// The file, as it was named.
    pub file: String,
    /// Their SHA-256: what tells whether the file says something else.
    pub digest: [u8; 32],
    /// Each of them, in DER; never none, and each can be an authority's.
    pub certificates: Arc<[Vec<u8>]>,
}

impl Authorities {
    fn key(&self) -> (&str, &[u8; 32]) {
        (&self.file, &self.digest)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("file", &self.file).finish_non_exhaustive()
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Authorities {}

impl PartialOrd for Authorities {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Authorities {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}
