//! The packet's way, written once for kernel and host.
#![no_std]
