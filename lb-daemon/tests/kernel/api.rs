//! The API of a real daemon: its read-only socket, and callers that do not behave.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::place::Place;

/// Callers at once.
const CALLERS: usize = 1000;
/// Most that the daemon may take beyond what it takes anyway, in KiB: two large bodies as they are read and as they are
/// understood, and buffers.
const ROOM: u64 = 100 * 1024;

/// A daemon on no interface.
struct Daemon {
    process: Child,
    place: Place,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Option<Self> {
        let place = Place::new()?;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "[dataplane]\ninterfaces = []\nnext_hop = \"02:00:00:00:00:01\"\nflow_table_entries = 4096\n\
             [daemon]\nstate_dir = \"{}\"\n[metrics]\nlisten = \"off\"\n\
             [api]\nsocket = \"{}\"\nread_only_socket = \"{}\"\n\
             [pool.web]\nbackends = [{{ name = \"web-1\", address = \"10.0.0.11\" }}]\n\
             [[vip]]\nname = \"web\"\naddress = \"192.0.2.10\"\nport = 443\nprotocol = \"tcp\"\npool = \"web\"\n",
            path("state"),
            path("lb.sock"),
            path("look.sock")
        );
        fs::write(path("lb.toml"), config).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_lb"));
        process.arg("--pin-path").arg(&place.path).args(["run", "--config", &path("lb.toml")]);
        let process = process.stderr(Stdio::null()).spawn().unwrap();
        let daemon = Self { process, place, folder };
        let begun = Instant::now();
        while !String::from_utf8_lossy(&daemon.ask("lb.sock", &["status"]).stdout).contains(" serving\n") {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not serve");
            sleep(Duration::from_millis(50));
        }
        Some(daemon)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, socket: &str, arguments: &[&str]) -> Output {
        let mut process = Command::new(env!("CARGO_BIN_EXE_lb"));
        process.arg("--pin-path").arg(&self.place.path).arg("--api").arg(self.socket(socket));
        process.args(arguments).output().unwrap()
    }

    /// A line of what the kernel says of its memory, in KiB.
    fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Has the kernel measure the peak from here on.
    fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }

    fn connect(&self) -> UnixStream {
        loop {
            // A full backlog refuses for a moment.
            match UnixStream::connect(self.socket("lb.sock")) {
                Ok(stream) => return stream,
                Err(_) => sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Asserts that an operator is heard, soon, and that nothing has changed.
    fn serves(&self) {
        let begun = Instant::now();
        let output = self.ask("lb.sock", &["-o", "json", "status"]);
        let waited = begun.elapsed();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&status["state"], &status["generation"]), (&"serving".into(), &1.into()), "{status}");
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
        let _ = Command::new(env!("CARGO_BIN_EXE_lb")).arg("--pin-path").arg(&self.place.path).arg("unload").output();
    }
}

/// Lets this process have a thousand connections.
fn many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[test]
fn the_read_only_socket_serves_commands_that_look_and_refuses_those_that_change() {
    let Some(daemon) = Daemon::start() else { return };
    for command in [&["status"][..], &["vip", "list"], &["backend", "show", "web-1"], &["stats"]] {
        let output = daemon.ask("look.sock", command);
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let refused = daemon.ask("look.sock", &["reload"]);
    let complaint = String::from_utf8(refused.stderr).unwrap();
    let expected = format!("lb: this socket only shows; to change something, ask on {}/lb.sock\n", folder(&daemon));
    assert_eq!((refused.status.code(), complaint), (Some(1), expected));
    let done = daemon.ask("lb.sock", &["reload"]);
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "generation 1 is in force; the tables are as it wants them\n");
    // The complaints of a file that is refused come back to who asked.
    fs::write(daemon.socket("lb.toml"), "[dataplane]\nmood = 1\n").unwrap();
    let refused = daemon.ask("lb.sock", &["reload"]);
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{complaint}");
    assert!(complaint.contains("lb.toml:2:1") && complaint.contains("mood"), "{complaint}");
}

fn folder(daemon: &Daemon) -> String {
    Path::new(daemon.folder.path()).display().to_string()
}

#[test]
fn a_thousand_idle_connections_take_little_and_keep_nobody_out() {
    let Some(daemon) = Daemon::start() else { return };
    many_files();
    let before = daemon.memory("VmRSS:");
    daemon.forget_peak();
    let mut idle: Vec<UnixStream> = Vec::new();
    for _ in 0..CALLERS {
        idle.push(daemon.connect());
    }
    daemon.serves();
    let peak = daemon.memory("VmHWM:");
    println!("{CALLERS} idle connections: {before} KiB before, {peak} KiB at most");
    assert!(peak < before + 10 * 1024, "{before} KiB before, {peak} KiB at most");
}

#[test]
fn a_thousand_slow_bodies_take_a_bounded_memory_and_keep_nobody_out() {
    let Some(daemon) = Daemon::start() else { return };
    many_files();
    let before = daemon.memory("VmRSS:");
    daemon.forget_peak();
    let mut slow: Vec<UnixStream> = Vec::new();
    for number in 0..CALLERS {
        let mut stream = daemon.connect();
        stream.set_nonblocking(true).unwrap();
        let head: &[u8] = if number % 2 == 0 {
            b"POST /v1/reload HTTP/1.1\r\nHost: lb\r\nContent-Length: 16777216\r\n\r\n"
        } else {
            b"POST /v1/reload HTTP/1.1\r\nHost: lb\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n"
        };
        // Whoever had to give way already hears no more.
        let _ = stream.write_all(head);
        slow.push(stream);
    }
    let piece = vec![b' '; 64 * 1024];
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        for stream in &mut slow {
            // As much as is taken at once; the rest is for the next round.
            let _ = stream.write(&piece);
        }
        rounds += 1;
        if rounds % 20 == 0 {
            daemon.serves();
        }
    }
    daemon.serves();
    let peak = daemon.memory("VmHWM:");
    println!("{CALLERS} slow bodies, {rounds} rounds: {before} KiB before, {peak} KiB at most");
    assert!(peak < before + ROOM, "{before} KiB before, {peak} KiB at most");
    drop(slow);
    for garbage in [
        &b"\0\x01\x02"[..],
        b"GET\r\n\r\n",
        b"POST /v1/reload HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        &vec![0xff; 70_000],
    ] {
        let mut stream = daemon.connect();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // It may be answered before all of it is read.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    daemon.serves();
}

/// What `screen` shows until `wanted` is in it, or its end.
fn shown_until(screen: &mut impl Read, wanted: &str) -> String {
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains(wanted) {
        let mut piece = [0; 4096];
        match screen.read(&mut piece).unwrap() {
            0 => break,
            read => shown.extend(&piece[..read]),
        }
    }
    String::from_utf8(shown).unwrap()
}

#[test]
fn top_shows_rates_on_a_terminal_until_q_and_elsewhere_as_lines() {
    let Some(daemon) = Daemon::start() else { return };
    let once = daemon.ask("look.sock", &["-o", "json", "top", "--once"]);
    let frame: serde_json::Value = serde_json::from_slice(&once.stdout).unwrap();
    assert_eq!((&frame["vips"][0]["name"], &frame["packets_per_second"]), (&"web".into(), &0.0.into()), "{frame}");
    let once = String::from_utf8(daemon.ask("lb.sock", &["top", "--once"]).stdout).unwrap();
    assert!(once.starts_with("0 packets/s, 0 bits/s, 0 new flows/s, 0 live flows\n\nVIP "), "{once}");
    // `script` makes a terminal of its own. Ctrl-C goes to the shell too, and not every shell outlives that untold.
    let command = format!(
        "trap : INT; stty -g; {} --pin-path {} --api {} top; echo ended $?; stty -g",
        env!("CARGO_BIN_EXE_lb"),
        daemon.place.path.display(),
        daemon.socket("lb.sock").display()
    );
    for (key, ends) in [("q", "ended 0"), ("\u{3}", "ended 0")] {
        let mut script = Command::new("script");
        script
            .args(["-qec", &command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut script = script.spawn().unwrap();
        let mut keys = script.stdin.take().unwrap();
        let mut screen = script.stdout.take().unwrap();
        let mut shown = shown_until(&mut screen, "web-1");
        keys.write_all(key.as_bytes()).unwrap();
        let begun = Instant::now();
        screen.read_to_string(&mut shown).unwrap();
        script.wait().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(shown.contains("\x1b[?1049h") && shown.contains("packets/s") && shown.contains("web-1"), "{shown}");
        assert!(shown.contains("\x1b[?1049l") && shown.contains(ends), "{shown}");
        // The terminal's settings, before and after.
        let lines: Vec<&str> = shown.lines().map(str::trim).collect();
        assert_eq!(lines.first(), lines.last(), "{shown}");
        drop(keys);
    }
}
