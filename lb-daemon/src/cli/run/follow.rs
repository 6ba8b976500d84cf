//! `[daemon] watch`: files that were written are read again.

use std::{sync::Arc, time::Duration};

use tokio::{
    task,
    time::{MissedTickBehavior, interval},
};
use tracing::info;

use super::signals::{Reloads, reload};
use crate::{
    controller::{Handle, reloader::Reloader},
    notify::Notifier,
};

/// How often files are looked at. What changed has to stay the same for as long: it may be half written.
const EVERY: Duration = Duration::from_secs(1);

/// Reloads when files changed since they were read, as long as the configuration in force asks for it. While a generation
/// waits for confirmation a reload would be refused: what changed is read once it does not.
pub(super) async fn follow(reloader: Arc<Reloader>, controller: Handle, notifier: Notifier) {
    let reloads = Reloads { reloader: &reloader, controller: &controller, notifier: &notifier };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = Looks::default();
    loop {
        ticks.tick().await;
        let snapshot = controller.snapshot();
        if !snapshot.config.daemon.watch {
            looks = Looks::default();
            continue;
        }
        if snapshot.in_force.pending.is_some() {
            continue;
        }
        let read = reloader.seen();
        // Otherwise the daemon is ending.
        let Ok((now, read)) = task::spawn_blocking(move || (read.now(), read)).await else { continue };
        if looks.are_due(&read, now) {
            info!("files of the configuration changed; reading them again");
            reload(&reloads).await;
        }
    }
}

/// What was seen before.
#[derive(Debug)]
struct Looks<T> {
    /// At the last look.
    last: Option<T>,
    /// When a reload was last asked for: one that reads nothing leaves no other trace.
    tried: Option<T>,
}

impl<T> Default for Looks<T> {
    fn default() -> Self {
        Self { last: None, tried: None }
    }
}

impl<T: Clone + PartialEq> Looks<T> {
    /// Whether what is seen `now` differs from what was `read`, is at rest, and was not tried yet.
    fn are_due(&mut self, read: &T, now: T) -> bool {
        let rests = self.last.as_ref() == Some(&now);
        let due = rests && now != *read && self.tried.as_ref() != Some(&now);
        if due {
            self.tried = Some(now.clone());
        }
        self.last = Some(now);
        due
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::sleep;

    use super::*;
    use crate::{
        controller::tests::rig::{Rig, TEXT},
        state::Author,
    };

    #[tokio::test(start_paused = true)]
    async fn what_is_written_while_a_generation_waits_is_read_afterwards() {
        let text = format!("[daemon]\nwatch = true\n{TEXT}");
        let rig = Rig::serving(&text).await;
        let first = || rig.handle.snapshot().desired.pools["web"].backends[0].name.clone();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lb.toml");
        fs::write(&file, &text).unwrap();
        let reloader = Arc::new(Reloader::new(file.clone(), rig.handle.clone()));
        reloader.reload(Author::default()).await.unwrap();
        tokio::spawn(follow(Arc::clone(&reloader), rig.handle.clone(), Notifier::default()));
        rig.apply(&text.replace("web-1", "applied"), Some(EVERY * 60)).await.unwrap();
        fs::write(&file, text.replace("web-1", "written")).unwrap();
        sleep(EVERY * 10).await;
        assert_eq!((first().as_str(), rig.handle.snapshot().last_reload.refused.clone()), ("applied", None));
        rig.handle.confirm().await.unwrap();
        sleep(EVERY * 5).await;
        assert_eq!(first(), "written");
    }

    /// Looks at these states, each of which is read when it is due, unless reading fails; tells where it was due.
    fn due(states: &[u32], readable: bool) -> Vec<usize> {
        let (mut looks, mut read) = (Looks::default(), 0);
        let mut look = |now: &u32| {
            let due = looks.are_due(&read, *now);
            if due && readable {
                read = *now;
            }
            due
        };
        (0..).zip(states).filter(|(_, now)| look(now)).map(|(number, _)| number).collect()
    }

    #[test]
    fn what_changed_is_read_once_it_rests_and_only_once() {
        assert!(due(&[0, 0, 0, 0], true).is_empty());
        assert_eq!(due(&[0, 1, 1, 1, 1], true), [2]);
        assert_eq!(due(&[1, 1, 1], true), [1]);
        assert_eq!(due(&[0, 1, 2, 3, 4, 4, 4], true), [5]);
        assert_eq!(due(&[0, 1, 1, 2, 2, 2, 3, 3], true), [2, 4, 7]);
    }

    #[test]
    fn what_cannot_be_read_is_tried_once() {
        assert_eq!(due(&[0, 1, 1, 1, 1], false), [2]);
        assert_eq!(due(&[0, 1, 1, 1, 2, 2, 2, 1, 1, 1], false), [2, 5, 8]);
        assert_eq!(due(&[0, 1, 1, 0, 0, 0], false), [2]);
    }
}
