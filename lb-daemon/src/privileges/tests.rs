//! Threads that are confined, and what can be told without any.

use std::{collections::BTreeSet, fs, io, path::Path, thread};

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities};

use super::{
    capabilities::{Kept, give_up, missing_from, names},
    denied::{Folder, reason},
    *,
};

const ROOT: CapabilitySet = CapabilitySet::from_bits_retain(0x1ff_ffff_ffff);

#[test]
fn keeps_what_is_needed_and_no_more() {
    let usual = Kept { always: CapabilitySet::BPF | CapabilitySet::NET_ADMIN, loading: CapabilitySet::PERFMON };
    assert_eq!(Kept::of(ROOT), usual);
    assert_eq!(Kept::of(usual.always | usual.loading), usual);
    // As a container runtime that knows neither of the newer ones gives them.
    let admin = CapabilitySet::SYS_ADMIN;
    let old = Kept { always: admin | CapabilitySet::NET_ADMIN, loading: CapabilitySet::empty() };
    assert_eq!(Kept::of(admin | CapabilitySet::NET_ADMIN | CapabilitySet::CHOWN), old);
    assert_eq!(Kept::of(ROOT - CapabilitySet::PERFMON), Kept { loading: admin, ..usual });
    assert_eq!(names(Kept::of(ROOT).always), ["CAP_BPF", "CAP_NET_ADMIN"]);
}

#[test]
fn names_missing_capabilities() {
    let all = ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"];
    assert_eq!(missing_from(CapabilitySet::empty()), all);
    assert_eq!(missing_from(CapabilitySet::BPF | CapabilitySet::PERFMON), all[2..]);
    assert_eq!(missing_from(CapabilitySet::SYS_ADMIN), all[2..]);
    assert_eq!(missing_from(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN), [""; 0]);
}

#[test]
fn a_thread_that_gave_up_uses_the_rest_only_while_it_loads() {
    let before = capabilities(None).unwrap();
    if !missing().is_empty() {
        eprintln!("skipped: it needs the capabilities of a daemon");
        return;
    }
    let confined = || {
        let kept = give_up().unwrap();
        let idle = CapabilitySets {
            effective: kept.always,
            permitted: kept.always | kept.loading,
            inheritable: CapabilitySet::empty(),
        };
        assert_eq!(capabilities(None).unwrap(), idle);
        let loading = Loading::begin();
        assert_eq!(capabilities(None).unwrap().effective, idle.permitted);
        drop(loading);
        assert_eq!(capabilities(None).unwrap(), idle);
        assert_eq!(missing(), [""; 0]);
        end_loading();
        let other = CapabilitySets { permitted: kept.always, ..idle };
        assert_eq!(capabilities(None).unwrap(), other);
        drop(Loading::begin());
        assert_eq!(capabilities(None).unwrap(), other);
        assert_eq!(missing(), ["CAP_PERFMON"]);
    };
    thread::spawn(confined).join().unwrap();
    // Other threads are not concerned.
    assert_eq!(capabilities(None).unwrap(), before);
}

#[test]
fn a_thread_behind_the_filter_starts_threads_and_nothing_else() {
    let confined = || {
        rustix::thread::set_no_new_privs(true).unwrap();
        assert_eq!(calls::fence(), Fence::Whole);
        assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
        let refused = |error: io::Error| error.raw_os_error() == Some(libc::ENOSYS);
        assert!(refused(std::process::Command::new("/bin/true").spawn().unwrap_err()));
        let packet = rustix::net::socket(rustix::net::AddressFamily::PACKET, rustix::net::SocketType::RAW, None);
        assert!(refused(packet.unwrap_err().into()));
        assert!(refused(
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&fs::File::open("/proc/self/ns/net").unwrap()),
                None,
            )
            .unwrap_err()
            .into()
        ));
        std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        fs::read_to_string("/proc/self/status").unwrap()
    };
    thread::spawn(confined).join().unwrap();
}

#[test]
fn says_why_a_confined_daemon_cannot_read_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
    for one in [&inside, &outside] {
        fs::create_dir(one).unwrap();
        fs::write(one.join("file"), "").unwrap();
    }
    let folders = [Folder::at(&inside).unwrap()];
    let why = |path: &Path| reason(path, &folders);
    assert_eq!(why(&inside.join("file")), Denied::Permission);
    for path in [outside.join("file"), inside.join("../out/file"), folder.path().join("in2")] {
        assert_eq!(why(&path), Denied::Outside, "{}", path.display());
    }
    std::os::unix::fs::symlink(outside.join("file"), inside.join("link")).unwrap();
    assert_eq!(why(&inside.join("link")), Denied::Outside);
    // A folder of the same name is another folder.
    fs::rename(&inside, folder.path().join("old")).unwrap();
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("file"), "").unwrap();
    assert_eq!(why(&inside.join("file")), Denied::Outside);
    let explained = io::Error::new(io::ErrorKind::PermissionDenied, Denied::Outside);
    assert_eq!(Denied::of(&explained), Some(Denied::Outside));
    assert_eq!(Denied::of(&io::Error::from_raw_os_error(libc::EACCES)), None);
}

#[test]
fn the_unit_file_gives_what_the_daemon_needs() {
    let unit = include_str!("../../../config/lb.service");
    let words = |key: &str| -> BTreeSet<&str> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.flat_map(str::split_whitespace).collect()
    };
    let kept = Kept::of(ROOT);
    // And the right to take the others from the bounding set.
    let needed = names(kept.always | kept.loading).into_iter().chain(["CAP_SETPCAP"]);
    assert_eq!(words("CapabilityBoundingSet"), needed.collect());
    let families = calls::FAMILIES.iter().map(|family| match *family {
        libc::AF_UNIX => "AF_UNIX",
        libc::AF_INET => "AF_INET",
        libc::AF_INET6 => "AF_INET6",
        libc::AF_NETLINK => "AF_NETLINK",
        other => panic!("a family without a name: {other}"),
    });
    assert_eq!(words("RestrictAddressFamilies"), families.collect());
    // Confining itself and working on the tables is in none of systemd's usual groups.
    for call in ["bpf", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"] {
        assert!(words("SystemCallFilter").contains(call), "{call}");
    }
}
