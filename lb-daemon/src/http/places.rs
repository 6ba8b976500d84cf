//! The places of connections, and who gives way when all are taken.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::task::{AbortHandle, JoinSet};

/// Connections at once; a few scrapers and operators need a handful.
const CONNECTIONS: usize = 64;

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Doing {
    /// Waiting for a request, or for its answer to be taken.
    Idle,
    /// Reading a request.
    Reading,
    /// Answering one.
    Answering,
}

/// What a connection is at, as the connection notes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Note(Arc<AtomicU8>);

impl Note {
    pub(super) fn is(&self, doing: Doing) {
        self.0.store(doing as u8, Ordering::Relaxed);
    }

    fn says(&self, doing: Doing) -> bool {
        self.0.load(Ordering::Relaxed) == doing as u8
    }
}

/// All connections that have a place, the oldest first.
#[derive(Default)]
pub(super) struct Places {
    tasks: JoinSet<()>,
    taken: Vec<(Note, AbortHandle)>,
}

impl Places {
    /// Waits until there is a place. The oldest idle connection gives way, else the one that sends its request for longest;
    /// those that are being answered are waited for.
    pub(super) async fn room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.taken.retain(|(_, task)| !task.is_finished());
        while self.taken.len() >= CONNECTIONS {
            let first = |doing| self.taken.iter().position(|(note, _)| note.says(doing));
            if let Some(gives_way) = first(Doing::Idle).or_else(|| first(Doing::Reading)) {
                self.taken.remove(gives_way).1.abort();
                // Whoever came last is heard before the next one comes.
                tokio::task::yield_now().await;
            } else {
                self.tasks.join_next().await;
                self.taken.retain(|(_, task)| !task.is_finished());
            }
        }
    }

    /// Gives a connection a place.
    pub(super) fn take(&mut self, note: Note, connection: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(connection);
        self.taken.push((note, task));
    }
}
