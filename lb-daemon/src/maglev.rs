//! Backends and weights to a ring: Maglev hashing.
