//! Removes what a killed run left: namespaces, processes in them, pins, folders.
//!
//! Everything that a lab makes bears the number of the process that made it: `lbtest-PID-N…`. If that process is gone,
//! so should the rest be.

use std::{
    fs,
    os::{linux::fs::MetadataExt as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use crate::netns;

/// First words of the names that labs take.
pub const PREFIXES: [&str; 2] = ["lbtest", "lbdemo"];

/// Where pins live.
pub const BPFFS: &str = "/sys/fs/bpf";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Removes what was left by runs whose process is gone. Never fails: what cannot be removed disturbs nobody, since each
/// lab's names are its own.
pub fn sweep() {
    let _guard = ONE_AT_A_TIME.lock();
    for name in names(Path::new(netns::FOLDER)).filter(|name| is_orphan(name)) {
        kill_inside(&netns::path(&name));
        let _ = netns::output(Command::new("ip").args(["netns", "del", &name]));
    }
    for folder in [PathBuf::from(BPFFS), std::env::temp_dir()] {
        for name in names(&folder).filter(|name| is_orphan(name)) {
            let _ = fs::remove_dir_all(folder.join(name));
        }
    }
}

/// What there is of the lab of that name: namespaces, pins and folders.
pub fn of(lab: &str) -> Vec<String> {
    let places = [PathBuf::from(netns::FOLDER), BPFFS.into(), std::env::temp_dir()];
    let listed = |place: PathBuf| names(&place).map(move |name| (place.clone(), name)).collect::<Vec<_>>();
    let found = places.into_iter().flat_map(listed).filter(|(_, name)| belongs(name, lab));
    found.map(|(place, name)| place.join(name).display().to_string()).collect()
}

/// Removes the pins of the lab of that name: its balancers' and its backends'.
pub fn remove_pins(lab: &str) {
    for name in names(Path::new(BPFFS)).filter(|name| belongs(name, lab)) {
        let _ = fs::remove_dir_all(Path::new(BPFFS).join(name));
    }
}

/// Kills every process that is inside the namespace whose file this is. Only a lab puts processes there.
pub fn kill_inside(namespace: &Path) {
    for process in inside(namespace) {
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
}

/// Every process that is inside the namespace whose file this is, and has not ended.
pub fn inside(namespace: &Path) -> Vec<rustix::process::Pid> {
    let Ok(wanted) = fs::metadata(namespace) else { return Vec::new() };
    let is_inside = |process: &String| {
        let found = fs::metadata(format!("/proc/{process}/ns/net"));
        found.is_ok_and(|found| found.ino() == wanted.ino() && found.st_dev() == wanted.st_dev())
    };
    let processes = names(Path::new("/proc")).filter(|name| name.parse::<i32>().is_ok()).filter(is_inside);
    processes.filter_map(|name| rustix::process::Pid::from_raw(name.parse().ok()?)).collect()
}

/// Numbers of processes that hold a lab whose name begins with `prefix`.
pub fn holders(prefix: &str) -> Vec<i32> {
    let mut found: Vec<i32> = names(Path::new(netns::FOLDER))
        .filter(|name| name.starts_with(prefix))
        .filter_map(|name| owner(&name))
        .filter(|owner| is_alive(*owner))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn belongs(name: &str, lab: &str) -> bool {
    name.strip_prefix(lab).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn is_orphan(name: &str) -> bool {
    owner(name).is_some_and(|owner| !is_alive(owner))
}

fn owner(name: &str) -> Option<i32> {
    let mut words = name.split('-');
    let prefix = words.next()?;
    PREFIXES.contains(&prefix).then(|| words.next()?.parse().ok())?
}

fn is_alive(process: i32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_who_made_it() {
        assert_eq!(owner("lbtest-4711-0-client"), Some(4711));
        assert_eq!(owner("lbdemo-1-0"), Some(1));
        assert_eq!(owner("lbtest-x"), None);
        assert_eq!(owner("docker0"), None);
        assert_eq!(owner("mine-12-0"), None);
    }

    #[test]
    fn a_living_process_has_no_orphans() {
        assert!(!is_orphan(&format!("lbtest-{}-0", std::process::id())));
        assert!(is_orphan("lbtest-2147483647-0"));
    }
}
