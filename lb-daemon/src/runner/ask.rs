//! The daemon's side.

use std::{collections::BTreeMap, io, os::unix::net::UnixStream as StdUnixStream, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use tracing::error;

use super::{
    Ended, MOST, MOST_TELLING, Order, Outcome, Program, Report, Task, line_of,
    turns::{Turn, Turns},
};

/// What the runner may take beyond a task's time, to kill a program and to tell.
const GRACE: Duration = Duration::from_secs(2);

/// Has tasks done. Clones ask the same runner.
#[derive(Clone, Debug)]
pub struct Runner {
    orders: mpsc::UnboundedSender<Asked>,
    gone: watch::Receiver<bool>,
    checking: Arc<Semaphore>,
    telling: Arc<Semaphore>,
    turns: Turns,
}

/// Why a task was not done. But for a program that lingers, that says nothing about what it would have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// Others took all its time.
    #[error("too much runs at once")]
    Busy,
    /// The same program was killed before, which was told, and has not ended: it waits for a dead disk, say. To start it once more
    /// would make one more of these.
    #[error("the program was killed before, and has not ended yet")]
    Lingers,
    /// There is no runner any more.
    #[error("the process that runs programs is gone; restart lb")]
    Gone,
}

#[derive(Debug)]
struct Asked {
    task: Task,
    answer: oneshot::Sender<Outcome>,
    claim: Claim,
}

/// What a task holds until nothing is left of it, whoever still waits for that.
#[derive(Debug)]
struct Claim {
    turn: Option<Turn>,
    _place: OwnedSemaphorePermit,
}

impl Runner {
    /// Asks the runner at the other end of this socket. To be called within a runtime.
    ///
    /// # Errors
    /// When the runtime cannot take the socket.
    pub fn at(socket: StdUnixStream) -> io::Result<Self> {
        let socket = UnixStream::from_std(socket)?;
        let (orders, asked) = mpsc::unbounded_channel();
        let (ended, gone) = watch::channel(false);
        tokio::spawn(async move {
            if let Err(error) = correspond(socket, asked).await {
                error!(%error, "the process that runs programs is gone; restart lb");
                ended.send_replace(true);
            }
        });
        let [checking, telling] = [MOST, MOST_TELLING].map(|places| Arc::new(Semaphore::new(places)));
        Ok(Self { orders, gone, checking, telling, turns: Turns::default() })
    }

    /// Whether the runner is gone, now and from now on.
    pub fn gone(&self) -> watch::Receiver<bool> {
        self.gone.clone()
    }

    /// Has a check's program run, and waits for its end.
    ///
    /// # Errors
    /// When it was not run.
    pub async fn run(&self, program: Program) -> Result<Ended, Lacking> {
        match self.ask(Task::Run(program), &self.checking).await? {
            Outcome::Ended(ended) => Ok(ended),
            Outcome::Posted(_) => Err(Lacking::Gone),
        }
    }

    /// Has somebody told of changes by this task, and waits for what comes of it. Checks that hang do not hold it up.
    ///
    /// # Errors
    /// When it was not done.
    pub async fn tell(&self, task: Task) -> Result<Outcome, Lacking> {
        self.ask(task, &self.telling).await
    }

    /// That takes at most the task's time to get its turn, and as long again and a moment to be done.
    async fn ask(&self, task: Task, places: &Arc<Semaphore>) -> Result<Outcome, Lacking> {
        let longest = task.timeout();
        let claim = timeout(longest, self.claim(&task, places)).await.map_err(|_| self.lacking(&task))??;
        let (answer, outcome) = oneshot::channel();
        self.orders.send(Asked { task, answer, claim }).map_err(|_| Lacking::Gone)?;
        timeout(longest + GRACE, outcome).await.map_err(|_| Lacking::Busy)?.map_err(|_| Lacking::Gone)
    }

    async fn claim(&self, task: &Task, places: &Arc<Semaphore>) -> Result<Claim, Lacking> {
        let turn = match task {
            Task::Run(program) => Some(self.turns.wait(program).await),
            Task::Post(_) => None,
        };
        let place = Arc::clone(places).acquire_owned().await.map_err(|_| Lacking::Gone)?;
        Ok(Claim { turn, _place: place })
    }

    /// Why a task did not get its turn.
    fn lacking(&self, task: &Task) -> Lacking {
        match task {
            Task::Run(program) if self.turns.lingers(program) => Lacking::Lingers,
            _ => Lacking::Busy,
        }
    }
}

/// Passes orders on and reports back. Ends well when nobody has orders any more.
async fn correspond(socket: UnixStream, mut asked: mpsc::UnboundedReceiver<Asked>) -> io::Result<()> {
    let (read, mut write) = socket.into_split();
    let mut reports = BufReader::new(read).lines();
    let mut open: BTreeMap<u64, (Option<oneshot::Sender<Outcome>>, Claim)> = BTreeMap::new();
    let mut number = 0;
    loop {
        tokio::select! {
            order = asked.recv() => {
                let Some(Asked { task, answer, claim }) = order else { return Ok(()) };
                number += 1;
                let line = line_of(&Order { number, task })?;
                open.insert(number, (Some(answer), claim));
                write.write_all(&line).await?;
            }
            line = reports.next_line() => {
                let line = line?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let Report { number, outcome, over } = serde_json::from_str(&line)?;
                if let Some((answer, claim)) = open.get_mut(&number) {
                    claim.turn.iter().filter(|_| !over).for_each(Turn::is_told);
                    // Whoever asked may have stopped to wait.
                    answer.take().map(|answer| answer.send(outcome));
                }
                if over {
                    open.remove(&number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
