//! A network namespace as a guard, and how to run closures and programs inside it.
//!
//! A namespace is entered by `setns` and not by `ip netns exec`: that one remounts `/sys` and hides `/sys/fs/bpf`, where
//! the balancer pins its tables.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where iproute2 keeps named namespaces, so that `ip netns` and `nsenter --net=` find ours.
pub const FOLDER: &str = "/run/netns";

/// A network namespace with a name; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// Creates the namespace `name` with its loopback up.
    ///
    /// # Errors
    /// When the name is taken or the kernel refuses.
    pub fn create(name: &str) -> Result<Self> {
        output(Command::new("ip").args(["netns", "add", name]))?;
        let handle = File::open(path(name)).with_context(|| format!("cannot open namespace {name}"))?;
        let namespace = Self { name: name.into(), handle };
        // Addresses are ours alone: nobody need wait two seconds to learn that they are not taken (RFC 4862).
        namespace.sysctl(&[("net.ipv6.conf.default.accept_dad", "0"), ("net.ipv6.conf.default.dad_transmits", "0")])?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns list` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `nsenter --net=FILE`.
    pub fn path(&self) -> PathBuf {
        path(&self.name)
    }

    /// Runs `work` on a thread of its own inside the namespace. Sockets made there belong to the namespace for good,
    /// whichever thread uses them; threads spawned there are inside as well.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    /// A program that will run inside the namespace, and that dies with the thread that starts it: so nothing outlives
    /// a killed test run. Use [`Namespace::enter`] if it only has to be waited for.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let handle = self.handle.as_raw_fd();
        let enter = move || {
            // SAFETY: setns takes a descriptor, which the parent holds open until the child has been started.
            if unsafe { libc::setns(handle, libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: this prctl takes a signal number and touches no memory.
            if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program inside and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be run or fails; the error holds what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output(self.command(program).args(arguments)).with_context(|| format!("in namespace {}", self.name))
    }

    /// Runs lines of `ip` commands, each without the word `ip`.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = self
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ip (package iproute2)")?;
        if let Some(mut stdin) = child.stdin.take() {
            // `ip` that stops at a bad line closes the pipe; its own words tell more than EPIPE.
            let _ = stdin.write_all(lines.as_bytes());
        }
        let done = child.wait_with_output().context("cannot wait for ip")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "ip failed in namespace {}: {}\n{lines}", self.name, said.trim());
        Ok(())
    }

    /// Sets kernel parameters, such as `("net.ipv4.ip_forward", "1")`.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in settings {
                let file = format!("/proc/sys/{}", key.replace('.', "/"));
                std::fs::write(&file, value).with_context(|| format!("cannot write {value} to {file}"))?;
            }
            Ok(())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A namespace that is gone already is what we want.
        let _ = output(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// The file of namespace `name`.
pub fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// When it cannot be run or fails; the error holds what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{shown} failed ({}): {}", done.status, said.trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
