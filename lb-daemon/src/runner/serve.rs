//! The runner's side.

use std::{cell::RefCell, collections::HashSet, io, os::fd::OwnedFd, rc::Rc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, set_parent_process_death_signal,
        wait,
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc::{self, UnboundedSender},
    time::{sleep, timeout},
};

use super::{Order, Outcome, Report, Task, line_of, post, program, sweep::sweep};
use crate::privileges;

/// Threads for what blocks: looking up names, and reading the system's certificates.
const BLOCKING: usize = 4;
/// Longest wait at the end for what was killed.
const END: Duration = Duration::from_secs(2);
/// How often it is looked then whether there is more.
const LOOK: Duration = Duration::from_millis(5);

/// Programs that were started and not waited for yet: each is the leader of a process group.
pub(super) type Leaders = Rc<RefCell<HashSet<Pid>>>;

/// Does tasks for whoever is at the other end of the socket, until that is closed.
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
    let runtime = runtime::Builder::new_current_thread().max_blocking_threads(BLOCKING).enable_all().build()?;
    let leaders = Leaders::default();
    let outcome = runtime.block_on(work(socket, &leaders));
    // What the kernel cannot end now nobody could.
    let _ = runtime.block_on(async { timeout(END, end_all(&leaders)).await });
    // Who looks up a name may take long.
    runtime.shutdown_background();
    outcome
}

async fn work(socket: std::os::unix::net::UnixStream, leaders: &Leaders) -> io::Result<()> {
    let (read, mut write) = UnixStream::from_std(socket)?.into_split();
    let mut orders = BufReader::new(read).lines();
    let mut ended_children = signal(SignalKind::child())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut running = FuturesUnordered::new();
    let (early, mut told_early) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            line = orders.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                running.push(work_off(serde_json::from_str(&line)?, Rc::clone(leaders), early.clone()));
            }
            Some(report) = told_early.recv() => write.write_all(&line_of(&report)?).await?,
            Some(report) = running.next() => {
                write.write_all(&line_of(&report)?).await?;
                sweep(leaders);
            }
            _ = ended_children.recv() => sweep(leaders),
            _ = terminated.recv() => return Ok(()),
        }
    }
}

/// Kills all programs, and all that they started. That comes here only when who started it has ended, so it is looked for
/// until there is nothing.
async fn end_all(leaders: &Leaders) {
    for leader in leaders.borrow_mut().drain() {
        // It may have ended by itself.
        let _ = kill_process_group(leader, Signal::KILL);
    }
    while !matches!(wait(WaitOptions::NOHANG), Err(Errno::CHILD)) {
        sweep(leaders);
        sleep(LOOK).await;
    }
}

/// Does a task until nothing is left of it. What is known before that is told by `early`.
async fn work_off(Order { number, task }: Order, leaders: Leaders, early: UnboundedSender<Report>) -> Report {
    let outcome = match task {
        Task::Run(program) => {
            let lingers = |ended| {
                // Nobody listens any more at the runner's end.
                let _ = early.send(Report { number, outcome: Outcome::Ended(ended), over: false });
            };
            Outcome::Ended(program::run(&program, &leaders, lingers).await)
        }
        // Of which there are few, and a program need not take as much room.
        Task::Post(post) => Outcome::Posted(Box::pin(post::post(&post)).await),
    };
    Report { number, outcome, over: true }
}
