//! What the log says of states as they come, and what the operator's hook is told.

use std::{collections::BTreeMap, mem, net::IpAddr, sync::Arc, time::SystemTime};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    controller::{
        Snapshot,
        snapshot::{BackendView, Headcount, VipView},
    },
    hook::{Event, Hook, What, Who},
    model::{AdminState, Service},
    plan::wanted::Disposition,
};

/// Tells when the daemon is ready, when a backend takes more or less than before, when a VIP loses its last backend or has one
/// again, and when it has too few healthy ones or enough again.
pub(super) async fn announce(mut snapshots: watch::Receiver<Arc<Snapshot>>, mut hook: Hook) {
    let mut ready = false;
    let mut told = Told::default();
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update().clone();
        if snapshot.applied == 0 || snapshot.fresh {
            continue;
        }
        hook.follow(snapshot.config.daemon.on_change.as_ref());
        let now = Event::stamp(SystemTime::now());
        for (vip, backend) in told.backends(&snapshot) {
            hook.tell(&of_backend(now.clone(), vip, backend));
        }
        for vip in told.vips(&snapshot) {
            hook.tell(&of_vip(now.clone(), vip));
        }
        for (vip, worry) in told.worries(&snapshot) {
            hook.tell(&of_worry(now.clone(), vip, worry));
        }
        if !ready && !snapshot.settling && snapshot.failing.is_none() {
            ready = true;
            info!(generation = snapshot.in_force.about.number, "serving");
        }
    }
}

/// What a backend takes now; the log has it then.
fn of_backend(time: String, view: &VipView, backend: &BackendView) -> Event {
    let BackendView { name, address, reason, pool, .. } = backend;
    let (vip, why) = (&view.name, reason.as_deref());
    let event = match backend.effect {
        Disposition::Serving => {
            info!(vip, backend = name, %address, reason = why, "backend serving");
            What::BackendServing
        }
        Disposition::Draining => {
            info!(vip, backend = name, %address, reason = why, "backend draining");
            What::BackendDraining
        }
        Disposition::Down => {
            info!(vip, backend = name, %address, reason = why, "backend down");
            What::BackendDown
        }
    };
    let who = Who { pool: pool.clone(), backend: name.clone(), address: *address };
    let (vip, service) = (vip.clone(), view.service.to_string());
    Event { time, event, vip, service, backend: Some(who), reason: reason.clone() }
}

/// Whether a VIP has a backend; the log has it then.
fn of_vip(time: String, view: &VipView) -> Event {
    let event = if view.serving() == 0 {
        warn!(vip = view.name, "vip has no serving backend; its packets are dropped");
        What::VipWithoutBackend
    } else {
        info!(vip = view.name, "vip has a serving backend again");
        What::VipServing
    };
    of_whole(time, event, view, None)
}

/// Whether a VIP has enough healthy backends; the log has it then.
fn of_worry(time: String, view: &VipView, worry: Worry) -> Event {
    let Headcount { usable: healthy, of, .. } = view.healthy;
    let vip = &view.name;
    let (event, reason) = match worry {
        Worry::Down(Some(why)) => {
            warn!(vip, why, "vip down; it forwards as before");
            (What::VipDown, Some(why))
        }
        Worry::Down(None) => {
            info!(vip, healthy, of, "vip up again: enough backends are healthy");
            (What::VipUp, None)
        }
        Worry::Panic(Some(why)) => {
            warn!(vip, why, "vip in panic");
            (What::VipInPanic, Some(why))
        }
        Worry::Panic(None) => {
            info!(vip, healthy, of, "vip no longer in panic");
            (What::VipOutOfPanic, None)
        }
    };
    of_whole(time, event, view, reason)
}

fn of_whole(time: String, event: What, view: &VipView, reason: Option<String>) -> Event {
    Event { time, event, vip: view.name.clone(), service: view.service.to_string(), backend: None, reason }
}

/// What was told so far. Of what is new and waits for its first check nothing is: what comes of it is told.
#[derive(Default)]
struct Told {
    backends: BTreeMap<(Service, IpAddr), Disposition>,
    /// VIPs, and whether they had a serving backend.
    vips: BTreeMap<Service, bool>,
    /// VIPs with too few healthy backends: whether they are down by `min_healthy`, and whether in panic.
    worries: BTreeMap<Service, [bool; 2]>,
}

/// What is wrong with a VIP that may forward; nothing any more, if there are no words.
#[derive(Debug, PartialEq)]
enum Worry {
    /// It has fewer healthy backends than `min_healthy`.
    Down(Option<String>),
    /// All its backends are used.
    Panic(Option<String>),
}

impl Told {
    /// Backends that take more or less than before. Of those that were not there before, the ones that do not serve: a line
    /// for each that is as it should be would bury them.
    fn backends<'s>(&mut self, now: &'s Snapshot) -> Vec<(&'s VipView, &'s BackendView)> {
        let before = mem::take(&mut self.backends);
        let mut news = Vec::new();
        for (vip, backend) in now.vips.iter().flat_map(|vip| vip.backends.iter().map(move |backend| (vip, backend))) {
            let key = (vip.service, backend.address);
            let told = before.get(&key).copied();
            if told.is_none() && waits(backend) {
                continue;
            }
            if told.unwrap_or(Disposition::Serving) != backend.effect {
                news.push((vip, backend));
            }
            self.backends.insert(key, backend.effect);
        }
        news
    }

    /// VIPs that have lost their last serving backend, or never had one, and those that have one again.
    fn vips<'s>(&mut self, now: &'s Snapshot) -> Vec<&'s VipView> {
        let before = mem::take(&mut self.vips);
        let mut news = Vec::new();
        for vip in &now.vips {
            let told = before.get(&vip.service).copied();
            // Nothing is lost by what an operator does not want to serve.
            let serves = vip.disabled.is_some() || vip.serving() > 0;
            if !serves && (vip.settling || told.is_none() && vip.backends.iter().any(waits)) {
                // Where all backends were replaced, those of before serve on until then.
                self.vips.extend(told.map(|served| (vip.service, served)));
                continue;
            }
            if told.unwrap_or(true) != serves && vip.disabled.is_none() {
                news.push(vip);
            }
            self.vips.insert(vip.service, serves);
        }
        news
    }

    /// VIPs that came to have too few healthy backends, or have enough again.
    fn worries<'s>(&mut self, now: &'s Snapshot) -> Vec<(&'s VipView, Worry)> {
        let before = mem::take(&mut self.worries);
        let mut news = Vec::new();
        for vip in &now.vips {
            let told = before.get(&vip.service).copied().unwrap_or_default();
            let (down, panic) = (vip.lacks(), vip.panic());
            let is = [down.is_some(), panic.is_some()];
            news.extend((is[0] != told[0]).then_some((vip, Worry::Down(down))));
            news.extend((is[1] != told[1]).then_some((vip, Worry::Panic(panic))));
            self.worries.extend((is != [false; 2]).then_some((vip.service, is)));
        }
        news
    }
}

/// Whether it depends on a first check what this backend will take.
fn waits(backend: &BackendView) -> bool {
    backend.effect == Disposition::Down && backend.up.is_none() && backend.admin == AdminState::Active
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::rig::{Rig, TEXT};

    fn names<'s>(news: &[(&'s VipView, &'s BackendView)]) -> Vec<(&'s str, &'s str, Disposition)> {
        news.iter().map(|(vip, backend)| (vip.name.as_str(), backend.name.as_str(), backend.effect)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn backends_that_take_more_or_less_are_told_by_name() {
        let rig = Rig::serving(TEXT).await;
        let first = rig.handle.snapshot();
        let mut told = Told::default();
        assert_eq!(names(&told.backends(&first)), [], "all serve, as they should");
        rig.report("10.0.0.2", false);
        rig.settle().await;
        let second = rig.handle.snapshot();
        let both = |effect| [("web", "web-2", effect), ("web-v6", "web-2", effect)];
        assert_eq!(names(&told.backends(&second)), both(Disposition::Down));
        assert_eq!(names(&Told::default().backends(&second)), both(Disposition::Down), "of new ones, who is down");
        assert_eq!(names(&told.backends(&first)), both(Disposition::Serving));
        assert_eq!(names(&told.backends(&first)), []);
    }

    #[tokio::test(start_paused = true)]
    async fn too_few_healthy_backends_are_told_when_it_begins_and_when_it_ends() {
        let least = "name = \"web\"\nmin_healthy = 2\npanic_threshold = \"50%\"";
        let rig = Rig::serving(&TEXT.replacen("name = \"web\"\naddress", &format!("{least}\naddress"), 1)).await;
        let mut told = Told::default();
        let news = |told: &mut Told, rig: &Rig| {
            let snapshot = rig.handle.snapshot();
            let news = told.worries(&snapshot).into_iter().map(|(vip, worry)| (vip.name.clone(), worry));
            news.collect::<Vec<_>>()
        };
        assert_eq!(news(&mut told, &rig), []);
        rig.report("10.0.0.1", false);
        rig.settle().await;
        assert_eq!(news(&mut told, &rig), [], "two of three are enough");
        rig.report("10.0.0.2", false);
        rig.settle().await;
        let down = "1 of 3 backends healthy, min_healthy is 2".to_owned();
        let panic = "panic: 1 of 3 backends up, all used".to_owned();
        let web = |worry| ("web".to_owned(), worry);
        assert_eq!(news(&mut told, &rig), [web(Worry::Down(Some(down))), web(Worry::Panic(Some(panic)))]);
        assert_eq!(news(&mut told, &rig), []);
        rig.report("10.0.0.1", true);
        rig.settle().await;
        assert_eq!(news(&mut told, &rig), [web(Worry::Down(None)), web(Worry::Panic(None))]);
        assert_eq!(told.worries, BTreeMap::new());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_its_first_check_is_neither_down_nor_without_backend() {
        let rig = Rig::serving(TEXT).await;
        let mut snapshot = Snapshot::clone(&rig.handle.snapshot());
        let mut set = |up, effect, admin| {
            for vip in &mut snapshot.vips {
                for backend in &mut vip.backends {
                    (backend.up, backend.effect, backend.admin) = (up, effect, admin);
                }
            }
            snapshot.clone()
        };
        let waiting = set(None, Disposition::Down, AdminState::Active);
        let failed = set(Some(false), Disposition::Down, AdminState::Active);
        let off = set(None, Disposition::Down, AdminState::Disabled);
        let serving = set(Some(true), Disposition::Serving, AdminState::Active);
        let all: usize = serving.vips.iter().map(|vip| vip.backends.len()).sum();
        let counts = |told: &mut Told, now: &Snapshot| (told.backends(now).len(), told.vips(now).len());

        let mut told = Told::default();
        assert_eq!(counts(&mut told, &waiting), (0, 0));
        assert_eq!(counts(&mut told, &serving), (0, 0), "as it should be");
        assert_eq!(counts(&mut told, &waiting), (all, serving.vips.len()), "it served, so this is a loss");

        let mut told = Told::default();
        assert_eq!(counts(&mut told, &waiting), (0, 0));
        assert_eq!(counts(&mut told, &failed), (all, serving.vips.len()), "the first check failed");
        assert_eq!(counts(&mut told, &failed), (0, 0));
        assert_eq!(counts(&mut told, &serving), (all, serving.vips.len()));
        assert_eq!(counts(&mut Told::default(), &off), (all, serving.vips.len()), "no check will help");
    }
}
