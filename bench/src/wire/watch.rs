//! Whether the queues' CPUs leave us alone.

use std::{thread, time::Duration};

use anyhow::Result;

use crate::machine::{self, Priority, Watch};

/// A watch on each queue's CPU.
#[derive(Debug)]
pub struct QueueWatch(Vec<OnCpu>);

#[derive(Debug)]
struct OnCpu {
    cpu: usize,
    watch: Watch,
}

impl QueueWatch {
    /// Learns for a moment what these CPUs can do at best.
    ///
    /// # Errors
    /// If there is no such CPU.
    pub fn start(cpus: &[usize]) -> Result<Self> {
        let learnt = on_each(cpus.iter().copied(), |cpu| {
            machine::pin(Some(cpu))?;
            Ok(OnCpu { cpu, watch: Watch::start() })
        });
        Ok(Self(learnt?))
    }

    /// Waits until they are undisturbed; false if one is not within `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<bool> {
        self.all(|watch| watch.wait(limit))
    }

    /// Whether they are undisturbed now.
    pub(super) fn is_quiet(&mut self) -> Result<bool> {
        self.all(Watch::is_quiet)
    }

    fn all(&mut self, look: impl Fn(&mut Watch) -> bool + Sync) -> Result<bool> {
        let quiet = on_each(self.0.iter_mut(), |one| {
            machine::pin(Some(one.cpu))?;
            // Ordinary programs do not disturb what is measured.
            let _priority = Priority::raise();
            Ok(look(&mut one.watch))
        });
        Ok(quiet?.into_iter().all(|quiet| quiet))
    }
}

/// Does something for each at once, on threads that may be bound to a CPU.
fn on_each<I: Send, O: Send>(items: impl Iterator<Item = I>, work: impl Fn(I) -> Result<O> + Sync) -> Result<Vec<O>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.map(|item| scope.spawn(move || work(item))).collect();
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_the_cpus_that_it_is_told_to() {
        let cpus = machine::cpus().unwrap();
        let mut watch = QueueWatch::start(&cpus).unwrap();
        let found = on_each(watch.0.iter_mut(), |one| {
            machine::pin(Some(one.cpu))?;
            machine::cpus()
        });
        assert_eq!(found.unwrap(), cpus.iter().map(|cpu| vec![*cpu]).collect::<Vec<_>>());
        assert!(watch.all(|_| true).unwrap());
        assert!(QueueWatch::start(&[1023]).is_err() || cpus.contains(&1023));
    }

    #[test]
    fn one_disturbed_cpu_is_enough() {
        let mut watch = QueueWatch::start(&machine::cpus().unwrap()).unwrap();
        let first = watch.0[0].watch.clone();
        assert!(!watch.all(|watch| *watch != first).unwrap());
    }
}
