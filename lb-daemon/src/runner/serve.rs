//! The runner's side.

use std::{cell::RefCell, collections::HashSet, io, os::fd::OwnedFd, rc::Rc};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustix::process::{Pid, Signal, getpid, kill_process_group, set_child_subreaper, set_parent_process_death_signal};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    runtime,
    signal::unix::{SignalKind, signal},
};

use super::{Order, Report, program, sweep::sweep};
use crate::privileges;

/// Programs that were started and not waited for yet: each is the leader of a process group.
pub(super) type Leaders = Rc<RefCell<HashSet<Pid>>>;

/// Runs programs for whoever is at the other end of the socket, until that is closed.
///
/// # Errors
/// When this process cannot give up what it must not have, or the socket fails.
pub fn serve(socket: OwnedFd) -> io::Result<()> {
    // Should the daemon die without closing the socket; the socket tells if it died before this.
    set_parent_process_death_signal(Some(Signal::TERM))?;
    privileges::give_up_all()?;
    // What a program leaves behind comes to this process, not to init.
    set_child_subreaper(Some(getpid()))?;
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let leaders = Leaders::default();
    let outcome = runtime.block_on(work(socket, &leaders));
    for leader in leaders.borrow_mut().iter() {
        // It may have ended by itself.
        let _ = kill_process_group(*leader, Signal::KILL);
    }
    leaders.borrow_mut().clear();
    sweep(&leaders);
    outcome
}

async fn work(socket: std::os::unix::net::UnixStream, leaders: &Leaders) -> io::Result<()> {
    let (read, mut write) = UnixStream::from_std(socket)?.into_split();
    let mut orders = BufReader::new(read).lines();
    let mut ended_children = signal(SignalKind::child())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            line = orders.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let Order { number, program } = serde_json::from_str(&line)?;
                let leaders = Rc::clone(leaders);
                running.push(async move { Report { number, ended: program::run(&program, &leaders).await } });
            }
            Some(report) = running.next() => {
                let mut line = serde_json::to_vec(&report)?;
                line.push(b'\n');
                write.write_all(&line).await?;
                sweep(leaders);
            }
            _ = ended_children.recv() => sweep(leaders),
            _ = terminated.recv() => return Ok(()),
        }
    }
}
