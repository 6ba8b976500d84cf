//! The tables in memory, for tests.
