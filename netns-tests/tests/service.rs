//! The daemon under a service manager, whose place a socket takes.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::Balancer,
    hang::Hung,
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Lab, Layout, vips},
    traffic::http,
};
use rustix::process::Signal;

/// The manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(lab: &Lab) -> Result<(Self, String)> {
        let path = lab.folder().join("notify");
        Ok((Self(UnixDatagram::bind(&path)?), path.display().to_string()))
    }

    /// The next message that is not `WATCHDOG=1`, nor a mere line of status.
    fn next(&self) -> Result<String> {
        self.until(|message| message != "WATCHDOG=1\n" && !message.starts_with("STATUS="))
    }

    /// The next message that is `wanted`.
    fn until(&self, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut passed = Vec::new();
        self.0.set_read_timeout(Some(Duration::from_secs(10)))?;
        loop {
            let mut buffer = [0; 1024];
            let length = self.0.recv(&mut buffer).with_context(|| format!("no such message after {passed:?}"))?;
            let message = String::from_utf8(buffer[..length].to_vec())?;
            if wanted(&message) {
                return Ok(message);
            }
            passed.push(message);
        }
    }

    /// Messages that come within `time`.
    fn within(&self, time: Duration) -> Result<Vec<String>> {
        let end = Instant::now() + time;
        let mut messages = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(messages);
            }
            self.0.set_read_timeout(Some(left))?;
            let mut buffer = [0; 1024];
            if let Ok(length) = self.0.recv(&mut buffer) {
                messages.push(String::from_utf8(buffer[..length].to_vec())?);
            }
        }
    }
}

#[test]
fn the_manager_hears_of_start_reload_state_and_end_in_order() {
    scenario(&Layout::with_backends(3), |lab| {
        let settings = Settings::web(lab, Health::Http(80));
        let mut lb = Balancer::prepare(lab, &settings)?;
        let (manager, address) = Manager::listen(lab)?;
        lb.set("NOTIFY_SOCKET", address);
        lb.start_again()?;
        lab.quiet_offloads_of_balancer()?;
        let ready = manager.next()?;
        ensure!(ready.starts_with("READY=1\nSTATUS=generation 1, 2 of 2 VIPs serving"), "{ready:?}");
        assert_eq!(http::ask_many(&lab.client, vips(80)[0], 20).failed(), 0, "it said that it is ready");

        lab.log().expect("web-2");
        lab.backend("web-2").stop();
        manager.until(|message| message.ends_with(", 2 of 2 VIPs serving, 1 backend down\n"))?;

        lb.reload(&settings.clone().only(&["web-1", "web-3"]))?;
        let reloading = manager.next()?;
        let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").context("no reload was announced")?;
        since.trim().parse::<u64>()?;
        let ready = manager.next()?;
        ensure!(ready.starts_with("READY=1\nSTATUS=generation ") && !ready.contains("refused"), "{ready:?}");

        lb.log().expect("reload refused");
        lb.reload_refused("nonsense = 1")?;
        ensure!(manager.next()?.starts_with("RELOADING=1\n"), "a refused reload is a reload too");
        let ready = manager.next()?;
        ensure!(ready.starts_with("READY=1\n") && ready.ends_with(", the last reload was refused\n"), "{ready:?}");

        lb.stop()?;
        assert_eq!(manager.next()?, "STOPPING=1\nSTATUS=stopping\n");
        assert_eq!(manager.within(Duration::from_millis(200))?, [""; 0]);
        Ok(())
    });
}

#[test]
fn an_abstract_socket_is_reached_by_a_confined_daemon() {
    scenario(&Layout::with_backends(1), |lab| {
        let mut lb = Balancer::prepare(lab, &Settings::web(lab, Health::None))?;
        let name = format!("lb-{}", lab.name());
        let address = SocketAddr::from_abstract_name(&name)?;
        // Abstract names belong to a network namespace.
        let manager = Manager(lab.lb.enter(|| UnixDatagram::bind_addr(&address))?);
        lb.set("NOTIFY_SOCKET", format!("@{name}"));
        lb.start_again()?;
        ensure!(manager.next()?.starts_with("READY=1\n"), "it is not ready");
        lb.hang_up()?;
        ensure!(manager.next()?.starts_with("RELOADING=1\n"), "it does not reload");
        ensure!(manager.next()?.starts_with("READY=1\n"), "the reload does not end");
        Ok(())
    });
}

#[test]
fn the_watchdog_is_fed_only_while_the_controller_answers() {
    scenario(&Layout::with_backends(1), |lab| {
        let mut lb = Balancer::prepare(lab, &Settings::web(lab, Health::None))?;
        let (manager, address) = Manager::listen(lab)?;
        lb.set("NOTIFY_SOCKET", address);
        lb.set("WATCHDOG_USEC", "400000");
        lb.start_again()?;
        manager.next()?;
        let alive = manager.within(Duration::from_secs(2))?;
        // Five a second; a busy machine may be late, but never by a whole period of the manager's.
        ensure!(alive.iter().filter(|message| *message == "WATCHDOG=1\n").count() >= 5, "{alive:?}");

        let process = lb.process().context("it does not run")?;
        let hung = Hung::stop(process, "controller")?;
        // One may have been on its way.
        manager.within(Duration::from_millis(300))?;
        assert_eq!(manager.within(Duration::from_secs(1))?, [""; 0], "said while the controller hangs");
        // What the manager would do now: SIGTERM waits for the controller in vain, and the second ends the process.
        lb.log().expect("told again to stop");
        lb.signal(Signal::TERM)?;
        assert_eq!(manager.next()?, "STOPPING=1\nSTATUS=stopping\n");
        lb.signal(Signal::INT)?;
        drop(hung);
        let status = lb.ended()?;
        ensure!(status.code() == Some(1), "it ended otherwise: {status}");
        Ok(())
    });
}
