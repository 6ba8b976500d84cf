//! The task that follows next hops for as long as the daemon runs.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tracing::{field::display, info, warn};

use super::{Error, Follower, Snapshot, Unreachable};

/// First and longest wait before new sockets are tried.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Follows the next hops of the addresses that `targets` names, in a task of its own.
///
/// The receiver shows an empty snapshot until its first change, which comes within about a second, whatever can be
/// reached by then; further ones come only when something differs. The task ends when `targets` has no sender or the
/// snapshot no receiver any more, or when it is aborted. If netlink fails it logs that, keeps what it published, and
/// tries again.
pub fn spawn(targets: watch::Receiver<BTreeSet<IpAddr>>) -> (watch::Receiver<Arc<Snapshot>>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(Arc::default());
    (receiver, tokio::spawn(run(targets, sender)))
}

async fn run(mut targets: watch::Receiver<BTreeSet<IpAddr>>, sender: watch::Sender<Arc<Snapshot>>) {
    let mut follower = None;
    let (mut wait, longest) = RETRY_WAIT;
    loop {
        let error = match follow(&mut follower, &mut targets, &sender, &mut wait).await {
            Ok(()) => return,
            Err(error) => anyhow::Error::from(error),
        };
        warn!(error = format!("{error:#}"), retry_in = ?wait, "next hops cannot be followed");
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(longest),
            () = sender.closed() => return,
        }
    }
}

/// Runs until an error, or until one of the channels is closed.
async fn follow(
    kept: &mut Option<Follower>,
    targets: &mut watch::Receiver<BTreeSet<IpAddr>>,
    sender: &watch::Sender<Arc<Snapshot>>,
    wait: &mut Duration,
) -> Result<(), Error> {
    let first = kept.is_none();
    let follower = match kept {
        Some(follower) => {
            follower.reopen()?;
            follower
        }
        None => kept.insert(Follower::open()?),
    };
    let addresses = targets.borrow_and_update().clone();
    follower.sync(&addresses).await?;
    if first {
        follower.resolve().await?;
    }
    publish(sender, follower.snapshot(), first);
    *wait = RETRY_WAIT.0;
    loop {
        tokio::select! {
            changed = targets.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let addresses = targets.borrow_and_update().clone();
                follower.sync(&addresses).await?;
            }
            changed = follower.wait() => {
                changed?;
                follower.settle().await?;
            }
            () = sender.closed() => return Ok(()),
        }
        publish(sender, follower.snapshot(), false);
    }
}

fn publish(sender: &watch::Sender<Arc<Snapshot>>, new: Snapshot, always: bool) {
    let old = sender.borrow().clone();
    if *old == new && !always {
        return;
    }
    for (backend, hop) in &new.hops {
        match (old.hops.get(backend).copied().flatten(), hop) {
            (before, Some(hop)) if before != Some(*hop) => {
                let vlan = (hop.tags[0] != [0; 4]).then(|| display(Vlan(hop.tags)));
                info!(%backend, ifindex = hop.ifindex, vlan, mac = %Mac(hop.mac), mtu = hop.mtu, "next hop found");
            }
            (before, None) if before.is_some() || old.reasons.get(backend) != new.reasons.get(backend) => {
                let why = new.reason(*backend);
                let reason = why.map(ToString::to_string).unwrap_or_default();
                if why.is_some_and(Unreachable::is_a_mistake) {
                    warn!(%backend, reason, "no next hop: packets to it cannot leave; name another address");
                } else {
                    info!(%backend, reason, "no next hop");
                }
            }
            _ => {}
        }
    }
    sender.send_replace(Arc::new(new));
}

/// A MAC address as operators write it.
struct Mac([u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        for byte in self.0 {
            write!(f, "{separator}{byte:02x}")?;
            separator = ":";
        }
        Ok(())
    }
}

/// VLAN tags by their ids, the outer one first: `100`, `100.5`.
struct Vlan([[u8; 4]; 2]);

impl std::fmt::Display for Vlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        for [_, _, high, low] in self.0.into_iter().filter(|tag| *tag != [0; 4]) {
            write!(f, "{separator}{}", u16::from_be_bytes([high, low]) & 0xfff)?;
            separator = ".";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::heard;

    #[test]
    fn tags_are_told_by_their_ids_without_priorities() {
        let told = |tags| Vlan(tags).to_string();
        assert_eq!(told([[0x81, 0, 0x60, 100], [0; 4]]), "100");
        assert_eq!(told([[0x88, 0xa8, 0x01, 0x2c], [0x81, 0, 0, 5]]), "300.5");
    }

    #[test]
    fn warns_of_an_address_that_can_never_be_a_backends() {
        let mut snapshot = Snapshot::default();
        for (address, reason) in [("10.0.0.1", Unreachable::Local), ("10.0.0.2", Unreachable::NoRoute)] {
            let address = address.parse().unwrap();
            snapshot.hops.insert(address, None);
            snapshot.reasons.insert(address, reason);
        }
        let (sender, _receiver) = watch::channel(Arc::default());
        heard::listen();
        publish(&sender, snapshot.clone(), true);
        publish(&sender, snapshot, true);
        let text = heard::told();
        let told: Vec<bool> = text.lines().map(|line| line.contains(" WARN ")).collect();
        assert_eq!(told, [true, false], "once each: {text}");
        assert!(text.contains("10.0.0.1") && text.contains("an address of this host"), "{text}");
    }
}
