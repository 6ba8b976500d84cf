//! What is known of health checks outlives the daemon.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    task,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    controller::chain,
    health::{CheckId, HealthView, Kept},
    state::{self, Folder},
};

/// Least time between two writes: a backend that goes up and down all the time must not wear the disk.
const PAUSE: Duration = Duration::from_secs(5);
/// It is written as often although nothing changed: what was heard long ago says nothing after a crash.
const EVERY: Duration = Duration::from_mins(1);

/// What was kept of health checks in `folder`; nothing, with a warning, if it cannot be read.
pub(super) fn recall(folder: &Folder) -> BTreeMap<CheckId, Kept> {
    match state::health::read(folder) {
        Ok(kept) => {
            if !kept.is_empty() {
                info!(checks = kept.len(), "what was known of health checks is kept");
            }
            kept
        }
        Err(error) => {
            warn!(error = chain(&error), "what was known of health checks is lost; they begin anew");
            BTreeMap::new()
        }
    }
}

/// What is known of health checks, and where it is kept.
#[derive(Clone)]
pub(super) struct Memory {
    /// Held by who writes: two that write at once take each other's unfinished file away.
    folder: Arc<Mutex<Folder>>,
    view: watch::Receiver<Arc<HealthView>>,
}

impl Memory {
    pub(super) fn new(folder: Folder, view: watch::Receiver<Arc<HealthView>>) -> Self {
        Self { folder: Arc::new(Mutex::new(folder)), view }
    }

    /// Keeps what is known, as it changes. Ends with the checks.
    pub(super) async fn remember(mut self) {
        let mut failing = false;
        loop {
            if let Ok(Err(_)) = timeout(EVERY, self.view.changed()).await {
                return;
            }
            self.view.mark_unchanged();
            let outcome = self.keep().await;
            if let Err(error) = &outcome
                && !failing
            {
                let error = format!("{error:#}");
                warn!(error, "what is known of health checks cannot be kept; the next daemon will not know it");
            }
            failing = outcome.is_err();
            sleep(PAUSE).await;
        }
    }

    /// Writes what is known now. Waits for the disk, and for who writes already.
    pub(super) async fn keep(&self) -> Result<(), anyhow::Error> {
        let folder = Arc::clone(&self.folder).lock_owned().await;
        // Only now: who writes last writes the newest.
        let view = Arc::clone(&self.view.borrow());
        Ok(task::spawn_blocking(move || state::health::write(&folder, &view)).await??)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::SystemTime};

    use tokio::task::JoinSet;

    use super::*;
    use crate::{
        health::{Member, Standing, Status},
        model::{Protocol, Service},
    };

    fn view(up: bool) -> Arc<HealthView> {
        let service = Service::of([192, 0, 2, 1].into(), 80, Protocol::Tcp);
        let member = Member { service, backend: [10, 0, 0, 1].into() };
        let status = Status { up, heard: Some(SystemTime::UNIX_EPOCH), ..Status::default() };
        let standing = Standing { checks: [("tcp".into(), status)].into(), ..Standing::default() };
        Arc::new([(member, standing)].into())
    }

    fn ups(folder: &Folder) -> Vec<bool> {
        recall(folder).values().map(|kept| kept.up).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn writes_changes_soon_but_not_all_at_once() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::of(top.path(), Path::new("/lb"));
        let (sender, receiver) = watch::channel(Arc::default());
        let task = tokio::spawn(Memory::new(folder.clone(), receiver).remember());
        sleep(PAUSE * 2).await;
        assert!(ups(&folder).is_empty(), "nothing is known");
        sender.send_replace(view(true));
        sleep(PAUSE / 2).await;
        assert_eq!(ups(&folder), [true]);
        sender.send_replace(view(false));
        sleep(PAUSE / 4).await;
        assert_eq!(ups(&folder), [true], "too soon");
        sleep(PAUSE).await;
        assert_eq!(ups(&folder), [false]);
        // Without waking anybody, as results do that change no state.
        sender.send_if_modified(|known| {
            *known = view(true);
            false
        });
        sleep(EVERY + PAUSE).await;
        assert_eq!(ups(&folder), [true]);
        drop(sender);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn who_writes_at_once_writes_one_after_the_other() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::of(top.path(), Path::new("/lb"));
        let (sender, receiver) = watch::channel(view(true));
        let memory = Memory::new(folder.clone(), receiver);
        let writers: JoinSet<_> = (0..100).map(|_| memory.clone()).map(async |memory| memory.keep().await).collect();
        sender.send_replace(view(false));
        for outcome in writers.join_all().await {
            outcome.unwrap();
        }
        assert_eq!(ups(&folder), [false]);
    }

    #[tokio::test]
    async fn a_damaged_file_means_that_nothing_is_known() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::of(top.path(), Path::new("/lb"));
        Memory::new(folder.clone(), watch::channel(view(true)).1).keep().await.unwrap();
        fs::write(folder.path().join("health.json"), "{").unwrap();
        assert!(recall(&folder).is_empty());
    }
}
