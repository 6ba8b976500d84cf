//! Tables in the kernel.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd as _},
};

use anyhow::Context;
use aya::maps::MapData;

/// Memory that a table takes in the kernel, in bytes.
///
/// # Errors
/// If the kernel does not tell.
pub fn memory(table: &MapData) -> Result<u64, anyhow::Error> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", table.fd().as_fd().as_raw_fd()))?;
    let memory = told.lines().find_map(|line| line.strip_prefix("memlock:")).context("the kernel tells no memlock")?;
    Ok(memory.trim().parse()?)
}
