//! `config/lb.service`: that systemd understands it, and that it fits the daemon.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use clap::Parser;
use lb_daemon::{
    cli::{self, Arguments, DEFAULT_PIN_PATH},
    config::{self, DEFAULT_API_SOCKET},
};

const UNIT: &str = include_str!("../../config/lb.service");

/// Values by key, the last of each.
fn settings() -> BTreeMap<&'static str, &'static str> {
    UNIT.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn its_folders_are_those_that_the_daemon_uses_by_default() {
    let settings = settings();
    let below = |root: &str, key: &str| Path::new(root).join(settings[key]);
    let state_dir = config::parse("", "lb.toml").unwrap().daemon.state_dir;
    assert_eq!(below("/var/lib", "StateDirectory"), state_dir);
    assert_eq!(settings["Environment"], format!("TMPDIR={}", state_dir.display()));
    assert_eq!(Some(&*below("/run", "RuntimeDirectory")), Path::new(DEFAULT_API_SOCKET).parent());
    assert_eq!(Some(Path::new(settings["ReadWritePaths"])), Path::new(DEFAULT_PIN_PATH).parent());
    // It would close /sys/fs/bpf.
    assert!(!settings.contains_key("ProtectKernelTunables"));
}

#[test]
fn its_command_is_one_and_stopping_it_lets_forwarding_go_on() {
    let settings = settings();
    let command = settings["ExecStart"].split(' ').collect::<Vec<_>>();
    let cli::Command::Run(run) = Arguments::try_parse_from(command).unwrap().command else {
        panic!("it runs no daemon")
    };
    assert!(format!("{run:?}").contains("detach_on_exit: false"), "{run:?}");
    assert_eq!(settings["ConfigurationDirectory"], "lb");
    assert_eq!((settings["Type"], settings["Restart"]), ("notify-reload", "always"));
    assert_eq!(settings["OOMPolicy"], "continue", "a program that is ended for want of memory must not stop the unit");
    assert!(UNIT.contains("\nType=notify\n"), "older systemd goes by the first of both");
}

#[test]
fn systemd_understands_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.service");
    // Only the binary may be missing here.
    fs::write(&file, UNIT.replace("/usr/local/sbin/lb", "/bin/true")).unwrap();
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&file).output() else {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let ours = said.lines().filter(|line| line.contains("lb.service") && !line.contains("ignoring: notify-reload"));
    assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
    assert!(output.status.success(), "{said}");
}
