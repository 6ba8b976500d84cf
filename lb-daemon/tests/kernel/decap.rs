//! `lb decap` in the kernel.
