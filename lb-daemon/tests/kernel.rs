//! The tables in a real kernel: adoption, ops, links. Needs root and a BPF file system; without them each test says so and
//! does nothing.

mod kernel {
    mod api;
    mod attach;
    mod commands;
    mod conformance;
    mod decap;
    mod explain;
    mod features;
    mod generations;
    mod grow;
    mod histories;
    mod open;
    mod ops;
    mod place;
    mod upgrade;
}
