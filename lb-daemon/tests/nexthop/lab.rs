//! Namespaces to look for next hops in, and a watcher under test.

use std::{
    collections::BTreeSet,
    fs::File,
    net::IpAddr,
    os::fd::AsFd,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use lb_daemon::nexthop::{Snapshot, watcher};
use tokio::{sync::watch, time::timeout};

/// Two namespaces and a veth between them; they go when it is dropped.
pub(crate) struct Lab {
    lb: String,
    peer: String,
}

impl Lab {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("lbnh-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { lb: format!("{id}-lb"), peer: format!("{id}-peer") };
        ip(&format!("netns add {}", lab.lb));
        ip(&format!("netns add {}", lab.peer));
        lab.in_lb(&format!(
            "link add eth0 address 02:00:00:00:00:01 type veth peer eth0 address 02:00:00:00:00:11 netns {}",
            lab.peer
        ));
        for (namespace, host) in [(&lab.lb, 1), (&lab.peer, 11)] {
            ip(&format!("-n {namespace} address add 10.7.0.{host}/24 dev eth0"));
            ip(&format!("-n {namespace} address add fd07::{host}/64 dev eth0 nodad"));
            ip(&format!("-n {namespace} link set eth0 addrgenmode none"));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set eth0 up"));
        }
        lab.in_peer("address add fe80::11/64 dev eth0 nodad");
        lab.in_lb("address add fe80::1/64 dev eth0 nodad");
        lab
    }

    pub(crate) fn in_lb(&self, command: &str) {
        ip(&format!("-n {} {command}", self.lb));
    }

    pub(crate) fn in_peer(&self, command: &str) {
        ip(&format!("-n {} {command}", self.peer));
    }

    /// Runs a test on a thread of its own within the lb's namespace, since sockets belong to the thread's.
    pub(crate) fn run<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send) {
        let namespace = File::open(format!("/run/netns/{}", self.lb)).expect("open the namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                rustix::thread::move_into_link_name_space(
                    namespace.as_fd(),
                    Some(rustix::thread::LinkNameSpaceType::Network),
                )
                .expect("enter the namespace");
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(test());
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.lb, &self.peer] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

fn run_ip(command: &str) -> Output {
    Command::new("ip").args(command.split_whitespace()).output().expect("run ip")
}

fn ip(command: &str) {
    let output = run_ip(command);
    assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A lab, if the kernel has devices of this kind; it says so if not.
pub(crate) fn lab_with(kind: &str) -> Option<Lab> {
    let lab = lab()?;
    let arguments = match kind {
        "vlan" => "link add link eth0 name probe type vlan id 4000",
        kind => &format!("link add probe type {kind}"),
    };
    let output = run_ip(&format!("-n {} {arguments}", lab.lb));
    if output.status.success() {
        lab.in_lb("link delete probe");
        return Some(lab);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Any other refusal is a fault of the test.
    assert!(said.contains("Unknown device type"), "ip {arguments}: {said}");
    println!("skipped: this kernel has no devices of type {kind}: {}", said.trim());
    None
}

pub(crate) fn lab() -> Option<Lab> {
    if rustix::process::geteuid().is_root() {
        return Some(Lab::new());
    }
    println!("skipped: network namespaces need root");
    None
}

pub(crate) fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A watcher of these addresses, and what ends it.
pub(crate) struct Watched {
    pub(crate) targets: watch::Sender<BTreeSet<IpAddr>>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Watched {
    pub(crate) async fn new(texts: &[&str]) -> Self {
        let (targets, receiver) = watch::channel(addresses(texts));
        let (mut snapshots, task) = watcher::spawn(receiver);
        timeout(Duration::from_secs(3), snapshots.changed()).await.expect("a first snapshot in time").unwrap();
        Self { targets, snapshots, task }
    }

    /// Waits for a snapshot that is as wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl FnMut(&Arc<Snapshot>) -> bool) -> Arc<Snapshot> {
        if let Ok(snapshot) = timeout(Duration::from_secs(5), self.snapshots.wait_for(wanted)).await {
            return snapshot.expect("the watcher runs").clone();
        }
        panic!("no {what} within 5 s: {:#?}", self.snapshots.borrow())
    }

    pub(crate) async fn end(self) {
        drop(self.targets);
        timeout(Duration::from_secs(1), self.task).await.expect("the watcher ends without targets").unwrap();
    }
}
