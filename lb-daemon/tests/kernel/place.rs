//! Where a test works: a pin path of its own, and a network namespace if it needs one.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use lb_common::maps::Tuning;
use lb_daemon::{
    dataplane::kernel::{Kernel, Options},
    plan::Capacity,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Entries of the flow table in tests.
pub(super) const FLOW_ENTRIES: u32 = 4096;
/// Sizes of the other tables in tests.
pub(super) const CAPACITY: Capacity = Capacity {
    vips: 16,
    targets: 64,
    ring_blocks: 32,
    groups: 8,
    servers: 16,
    prefixes: 64,
    tunnel_sources: 8,
    own: 4,
};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A pin path that is gone when the test ends.
pub(super) struct Place {
    pub(super) path: PathBuf,
}

impl Place {
    /// `None`, with a printed reason, where the test cannot run.
    pub(super) fn new() -> Option<Self> {
        let mount = Path::new("/sys/fs/bpf");
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let root = rustix::process::geteuid().is_root();
        if !root || !mounts.lines().any(|line| line.contains(" /sys/fs/bpf bpf ")) {
            eprintln!("skipped: needs root and a BPF file system at {}", mount.display());
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Some(Self { path: mount.join(format!("lb-test-{}-{number}", process::id())) })
    }

    pub(super) fn options(&self) -> Options {
        Options {
            pin_path: self.path.clone(),
            capacity: CAPACITY,
            flow_entries: FLOW_ENTRIES,
            tuning: Tuning::default(),
        }
    }

    pub(super) fn open(&self) -> Kernel {
        Kernel::open(&self.options()).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Names of what is pinned, folders included.
    pub(super) fn names(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, names: &mut Vec<String>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                names.push(path.strip_prefix(root).unwrap().display().to_string());
                if path.is_dir() && !path.is_symlink() {
                    walk(&path, root, names);
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.path, &self.path, &mut names);
        names.sort();
        names
    }

    /// Number of a pinned map or program, by bpftool's eyes.
    pub(super) fn id(&self, kind: &str, name: &str) -> u64 {
        let json = self.bpftool(kind, name);
        json["id"].as_u64().unwrap_or_else(|| panic!("no id: {json}"))
    }

    pub(super) fn bpftool(&self, kind: &str, name: &str) -> serde_json::Value {
        let path = self.path.join(name);
        let output = Command::new("bpftool").args(["-j", kind, "show", "pinned"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let result = Kernel::unload(&self.path);
        let _ = fs::remove_dir_all(&self.path);
        if !thread::panicking() {
            result.unwrap();
        }
    }
}

/// A network namespace with a veth pair `lbx0` and `lbx1`; this thread is in it.
pub(super) struct Net {
    name: String,
    outside: File,
}

impl Net {
    pub(super) fn new() -> Self {
        let name = format!("lb-kt-{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let outside = File::open("/proc/thread-self/ns/net").unwrap();
        run("ip", &["netns", "add", &name]);
        enter(&File::open(format!("/run/netns/{name}")).unwrap());
        let net = Self { name, outside };
        run("ip", &["link", "add", "lbx0", "type", "veth", "peer", "name", "lbx1"]);
        run("ip", &["link", "set", "lbx0", "up"]);
        run("ip", &["link", "set", "lbx1", "up"]);
        net
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        enter(&self.outside);
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Runs a command that must succeed.
pub(super) fn run(command: &str, arguments: &[&str]) {
    let output = Command::new(command).args(arguments).output().unwrap();
    assert!(output.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An error with all its sources.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
