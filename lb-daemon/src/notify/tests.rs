//! A socket in the place of the service manager, before a controller over tables in memory.

use std::os::unix::net::UnixDatagram as Socket;

use tempfile::TempDir;
use tokio::time::sleep;

use super::*;
use crate::controller::tests::rig::{Rig, TEXT};

/// The manager's end.
struct Heard {
    socket: Socket,
    folder: TempDir,
}

impl Heard {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = Socket::bind(folder.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, folder }
    }

    fn notifier(&self, watchdog: Option<Duration>) -> Notifier {
        Notifier::new(self.folder.path().join("notify").as_os_str(), watchdog).unwrap()
    }

    /// Messages that came since the last time.
    fn all(&self) -> Vec<String> {
        let mut messages = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            messages.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        messages
    }
}

#[tokio::test(start_paused = true)]
async fn tells_of_start_reload_and_end_in_order() {
    let heard = Heard::new();
    let notifier = heard.notifier(None);
    let rig = Rig::new(TEXT);
    let states = tokio::spawn(states(notifier.clone(), rig.handle.snapshots()));
    rig.settle().await;
    assert_eq!(heard.all(), ["STATUS=starting, waiting for first results\n"]);
    // Nobody waits for a reload of what has not started yet.
    notifier.reloading();
    notifier.reloaded("");
    assert_eq!(heard.all(), [""; 0]);
    rig.report_all(true);
    rig.settle().await;
    assert_eq!(heard.all(), ["READY=1\nSTATUS=generation 1, 3 of 3 VIPs serving\n"]);
    rig.report("10.0.0.2", false);
    rig.settle().await;
    let all = heard.all();
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].ends_with(", 3 of 3 VIPs serving, 1 backend down\n"), "{all:?}");
    notifier.reloading();
    notifier.reloaded("as before");
    let all = heard.all();
    let since = all[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim().parse::<u64>().unwrap();
    let now = monotonic_microseconds();
    assert!(now - since < 1_000_000, "{since} is not now, {now}");
    assert_eq!(all[1..], ["READY=1\nSTATUS=as before\n"]);
    rig.handle.stop().await;
    states.await.unwrap();
    notifier.stopping();
    assert_eq!(heard.all(), ["STOPPING=1\nSTATUS=stopping\n"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_apply_is_a_start_and_says_so() {
    let heard = Heard::new();
    let rig = Rig::new(TEXT);
    rig.tables().broken = true;
    let _states = tokio::spawn(states(heard.notifier(None), rig.handle.snapshots()));
    rig.report_all(true);
    rig.settle().await;
    let all = heard.all();
    assert_eq!(all.last().unwrap(), "READY=1\nSTATUS=generation 1, 0 of 3 VIPs serving, applying fails\n", "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn says_that_it_lives_only_while_the_controller_answers() {
    let heard = Heard::new();
    let notifier = heard.notifier(Some(Duration::from_secs(2)));
    let every = notifier.watchdog_interval().unwrap();
    let rig = Rig::serving(TEXT).await;
    let watchdog = tokio::spawn(watchdog(notifier, every, rig.handle.clone()));
    sleep(Duration::from_millis(4500)).await;
    assert_eq!(heard.all(), ["WATCHDOG=1\n"; 5]);
    rig.handle.stop().await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(heard.all(), [""; 0]);
    assert!(!watchdog.is_finished());
}

#[test]
fn the_watchdogs_time_is_for_this_process_alone() {
    let second = Some(Duration::from_secs(1));
    assert_eq!(watchdog_time(Some("1000000"), Some("7"), 7), second);
    assert_eq!(watchdog_time(Some("1000000"), None, 7), second);
    assert_eq!(watchdog_time(Some("1000000"), Some("8"), 7), None);
    for none in [None, Some("0"), Some("soon")] {
        assert_eq!(watchdog_time(none, None, 7), None, "{none:?}");
    }
}

#[test]
fn abstract_names_are_reached_and_other_addresses_refused() {
    let name = format!("lb-notify-test-{}", process::id());
    let socket = Socket::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    Notifier::new(OsStr::new(&format!("@{name}")), None).unwrap().stopping();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"STOPPING=1\nSTATUS=stopping\n");
    let error = Notifier::new(OsStr::new("vsock:2:1234"), None).unwrap_err().to_string();
    assert!(error.contains("vsock:2:1234") && error.contains("absolute path"), "{error}");
    // Without a manager nothing is said, and nothing breaks.
    Notifier::default().stopping();
}
