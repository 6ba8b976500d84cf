//! One thread of another process stopped while the rest runs on, as if it hung: by ptrace(2), so the process needs no help.

use std::{fs, io, ptr};

use anyhow::{Context as _, Result, ensure};

/// A thread that hangs until this is dropped.
#[derive(Debug)]
pub struct Hung {
    thread: libc::pid_t,
}

impl Hung {
    /// Stops the thread of process `process` that bears this name.
    ///
    /// # Errors
    /// When there is none, or it cannot be stopped.
    pub fn stop(process: u32, name: &str) -> Result<Self> {
        let thread = threads(process)?.into_iter().find(|(_, known)| known == name);
        let (thread, _) = thread.with_context(|| format!("process {process} has no thread {name}"))?;
        trace(libc::PTRACE_SEIZE, thread).context("cannot trace the thread")?;
        let hung = Self { thread };
        trace(libc::PTRACE_INTERRUPT, thread).context("cannot interrupt the thread")?;
        let mut status = 0;
        // SAFETY: it writes to a number that lives until the call returns.
        let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        ensure!(waited == thread, "the thread did not stop: {}", io::Error::last_os_error());
        Ok(hung)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        if trace(libc::PTRACE_DETACH, self.thread).is_err() {
            // It was killed with its process, which nobody else can wait for before its tracer has waited for the thread.
            // SAFETY: without a place for the status nothing is written.
            unsafe { libc::waitpid(self.thread, ptr::null_mut(), libc::__WALL) };
        }
    }
}

/// Threads of a process, with their names.
///
/// # Errors
/// When there is no such process.
pub fn threads(process: u32) -> Result<Vec<(libc::pid_t, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/task")).with_context(|| format!("no process {process}"))? {
        let entry = entry?;
        // One that ends meanwhile has no name any more.
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else { continue };
        let thread = entry.file_name().to_string_lossy().parse().context("not a thread's number")?;
        found.push((thread, name.trim_end().to_owned()));
    }
    Ok(found)
}

fn trace(request: libc::c_uint, thread: libc::pid_t) -> io::Result<()> {
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: none of the requests made here reads or writes memory.
    let result = unsafe { libc::ptrace(request, thread, none, none) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
