//! One program, from its start to its end.

use std::{
    fs::File,
    io::{self, Seek, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpid},
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::{Ended, How, Program, memory::Expendable, serve::Leaders};
use crate::plain::plain;

/// Where programs are looked for that a program starts by name.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest line that is kept, in bytes.
const LONGEST_LINE: usize = 200;
/// Most that a program may write, in bytes.
const MOST_OUTPUT: usize = 1 << 20;
/// Longest wait for the end of what was killed before that is told: the kernel may have something to finish first.
const END: Duration = Duration::from_secs(1);

/// Runs it until it is gone. `early` is called with how it ended, if it was killed and the kernel takes its time with that.
pub(super) async fn run(program: &Program, leaders: &Leaders, early: impl FnOnce(Ended)) -> Ended {
    match try_run(program, leaders, early).await {
        Ok(ended) => ended,
        Err(error) => {
            let path = program.argv.first().map_or("", String::as_str);
            Ended { how: How::Never(format!("{path}: {error}")), line: None }
        }
    }
}

async fn try_run(program: &Program, leaders: &Leaders, early: impl FnOnce(Ended)) -> io::Result<Ended> {
    let (receiver, leader) = start(program)?;
    leaders.borrow_mut().insert(leader);
    let mut output = Output { receiver, line: Vec::new(), length: 0 };
    let outcome = follow(program, leader, &mut output).await;
    // The leader is still there, if only as a zombie, so nobody else can have got its number.
    let _ = kill_process_group(leader, Signal::KILL);
    if timeout(END, ended(leader)).await.is_err() {
        let how = outcome.as_ref().ok().cloned().flatten().unwrap_or(How::Late);
        early(Ended { how, line: output.first_line() });
    }
    let ended = reap(leader).await;
    leaders.borrow_mut().remove(&leader);
    let how = outcome?.unwrap_or(ended?);
    output.take_rest();
    Ok(Ended { how, line: output.first_line() })
}

/// Starts it, as the leader of a process group. Nothing fails once it runs, so nobody is left whom no one would end.
fn start(program: &Program) -> io::Result<(Receiver, Pid)> {
    let (output, writer) = io::pipe()?;
    let output = Receiver::from_owned_fd(OwnedFd::from(output))?;
    let (path, arguments) = program.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    // It inherits that.
    let _expendable = Expendable::new();
    let child = Command::new(path)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(&program.env)
        .current_dir("/")
        .stdin(program.input.as_deref().map_or_else(|| Ok(Stdio::null()), input)?)
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    Ok((output, Pid::from_child(&child)))
}

/// What is to be read, all of it there before the program starts: it may read as slowly as it likes, or not at all.
fn input(text: &str) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

/// Waits until it has ended by itself, which is `None`, or has to be ended.
async fn follow(program: &Program, leader: Pid, output: &mut Output) -> io::Result<Option<How>> {
    let waited = timeout(program.timeout, async {
        tokio::select! {
            ended = ended(leader) => ended.map(|()| None),
            () = output.until_too_much() => Ok(Some(How::Endless)),
        }
    });
    waited.await.unwrap_or(Ok(Some(How::Late)))
}

/// Returns when it has ended. It stays a zombie.
async fn ended(leader: Pid) -> io::Result<()> {
    // Heard from here on, so that no end is missed between a look and the wait.
    let mut children = signal(SignalKind::child())?;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(leader), look)?.is_none() {
        children.recv().await;
    }
    Ok(())
}

/// Waits for what was killed, or has ended, as long as it takes: what is still there keeps its place.
async fn reap(leader: Pid) -> io::Result<How> {
    ended(leader).await?;
    Ok(match waitpid(Some(leader), WaitOptions::NOHANG)? {
        None => How::Late,
        Some((_, status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => How::Code(code),
            (None, signal) => How::Signal(signal.unwrap_or_default()),
        },
    })
}

/// What it writes, of which little is kept.
struct Output {
    receiver: Receiver,
    /// The first line, or what is there of it.
    line: Vec<u8>,
    length: usize,
}

impl Output {
    /// Returns when it has written too much.
    async fn until_too_much(&mut self) {
        let mut buffer = [0; 4096];
        while self.length < MOST_OUTPUT {
            match self.receiver.read(&mut buffer).await {
                // There will be no more.
                Ok(0) | Err(_) => std::future::pending().await,
                Ok(length) => self.take(&buffer[..length]),
            }
        }
    }

    /// What is still in the pipe. Asked of the kernel: the runtime may not have heard yet that there is something.
    fn take_rest(&mut self) {
        let mut buffer = [0; 4096];
        while self.length < MOST_OUTPUT
            && let Ok(length @ 1..) = rustix::io::read(&self.receiver, &mut buffer)
        {
            self.take(&buffer[..length]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = LONGEST_LINE - self.line.len();
        // Lines without a word say nothing.
        let words = if self.line.is_empty() { bytes.trim_ascii_start() } else { bytes };
        if !self.line.contains(&b'\n') {
            self.line.extend(words.iter().take(room));
        }
        self.length += bytes.len();
    }

    fn first_line(&self) -> Option<String> {
        let line = self.line.split(|byte| *byte == b'\n').next()?;
        Some(plain(&String::from_utf8_lossy(line))).filter(|text| !text.is_empty())
    }
}
