use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    health::Ejected,
    model::{Ask, Check, Exec, Health, Http, Protocol, Route, Service},
};

const INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(80);

/// A listener that counts its connections, until it is stopped.
struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Server {
    async fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = accepted.clone();
        let task = tokio::spawn(async move {
            loop {
                let _ = listener.accept().await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, accepted, task: task.abort_handle() }
    }

    /// Closes the port.
    fn stop(&self) {
        self.task.abort();
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

fn id(address: SocketAddr) -> Member {
    let service = Service::of("192.0.2.1".parse().unwrap(), address.port(), Protocol::Tcp);
    Member { service, backend: address.ip() }
}

fn tcp() -> Check {
    Check { interval: INTERVAL, timeout: TIMEOUT, ..Check::of(Ask::Tcp) }
}

fn inputs(checks: watch::Receiver<Arc<Checks>>, ejections: watch::Receiver<Arc<Ejections>>) -> Inputs {
    Inputs {
        checks,
        ways: watch::channel(Arc::default()).1,
        ejections,
        hindered: watch::channel(Arc::default()).0,
        runner: None,
        kept: BTreeMap::new(),
    }
}

/// Each backend with one check.
fn checks(checks: &[(Member, Check)]) -> Arc<Checks> {
    let health = |check: &Check| Arc::new(Health { checks: vec![check.clone()], ..Health::default() });
    Arc::new(checks.iter().map(|(member, check)| (*member, health(check))).collect())
}

/// A driver under test.
struct Rig {
    checks: watch::Sender<Arc<Checks>>,
    view: watch::Receiver<Arc<HealthView>>,
    ejections: watch::Sender<Arc<Ejections>>,
    task: JoinHandle<()>,
}

impl Rig {
    fn new(wanted: &[(Member, Check)]) -> Self {
        let (sender, receiver) = watch::channel(checks(wanted));
        let (ejections, ejected) = watch::channel(Arc::default());
        let (view, task) = spawn(inputs(receiver, ejected), Stats::new().unwrap());
        Self { checks: sender, view, ejections, task }
    }

    fn set(&self, wanted: &[(Member, Check)]) {
        self.checks.send_replace(checks(wanted));
    }

    fn status(&self, id: Member) -> Option<Standing> {
        self.view.borrow().get(&id).cloned()
    }

    /// Waits until this check is up or down, and returns how long that took.
    async fn until(&mut self, id: Member, up: bool) -> Duration {
        let start = Instant::now();
        let reached = self.view.wait_for(|view| view.get(&id).is_some_and(|status| status.up == up));
        timeout(Duration::from_secs(5), reached).await.expect("the state within 5 s").unwrap();
        start.elapsed()
    }
}

#[tokio::test]
async fn a_backend_goes_down_in_time_and_returns_in_time() {
    let server = Server::start("127.0.0.1:0").await;
    let check = id(server.address);
    let mut rig = Rig::new(&[(check, tcp())]);
    rig.until(check, true).await;
    server.stop();
    let took = rig.until(check, false).await;
    // Three failures span two to three intervals, each up to a tenth longer; a busy machine gets half a second more.
    assert!(took >= INTERVAL * 2 * 9 / 10, "{took:?}: before `fall` failures");
    assert!(took <= INTERVAL * 3 * 11 / 10 + TIMEOUT + Duration::from_millis(500), "{took:?}");
    let status = rig.status(check).unwrap();
    assert_eq!((status.reason.as_str(), status.checks["tcp"].failures), ("connection refused", 3));
    let server = Server::start(&server.address.to_string()).await;
    let took = rig.until(check, true).await;
    assert!(took >= INTERVAL * 9 / 10, "{took:?}: before `rise` successes");
    assert!(took <= INTERVAL * 2 * 11 / 10 + TIMEOUT + Duration::from_millis(500), "{took:?}");
    assert!(server.accepted() >= 2);
}

#[tokio::test]
async fn a_steady_backend_wakes_nobody_but_is_kept_up_to_date() {
    let server = Server::start("127.0.0.1:0").await;
    let check = id(server.address);
    let mut rig = Rig::new(&[(check, tcp())]);
    rig.until(check, true).await;
    rig.view.mark_unchanged();
    sleep(REFRESH + INTERVAL * 5).await;
    assert!(!rig.view.has_changed().unwrap(), "neither state nor text changed");
    let status = rig.status(check).unwrap();
    assert!(status.up && status.checks["tcp"].successes >= 5, "{status:?}");
    assert!(server.accepted() >= 8, "{} probes", server.accepted());
}

#[tokio::test]
async fn a_reload_keeps_the_state_of_what_stays() {
    let (stays, goes) = (Server::start("127.0.0.1:0").await, Server::start("127.0.0.2:0").await);
    let mut rig = Rig::new(&[(id(stays.address), tcp()), (id(goes.address), tcp())]);
    rig.until(id(stays.address), true).await;
    rig.until(id(goes.address), true).await;
    let before = rig.status(id(stays.address)).unwrap();
    rig.set(&[(id(stays.address), Check { fall: 2, ..tcp() })]);
    timeout(Duration::from_secs(1), rig.view.wait_for(|view| view.len() == 1)).await.unwrap().unwrap();
    let after = rig.status(id(stays.address)).unwrap();
    assert_eq!((after.up, after.since), (true, before.since));
    sleep(TIMEOUT).await;
    let probes = goes.accepted();
    sleep(INTERVAL * 3).await;
    assert_eq!(goes.accepted(), probes, "a removed check is not probed");
    rig.set(&[]);
    timeout(Duration::from_secs(1), rig.view.wait_for(|view| view.is_empty())).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_ejected_backend_returns_by_itself() {
    let server = Server::start("127.0.0.1:0").await;
    let check = id(server.address);
    // No result comes in between: the driver wakes for the end of the ejection.
    let mut rig = Rig::new(&[(check, Check { interval: Duration::from_mins(1), ..tcp() })]);
    rig.until(check, true).await;
    let length = Duration::from_millis(300);
    let ejected = Ejected { until: clock() + length, reason: "no handshake".into() };
    rig.ejections.send_replace(Arc::new([(check, ejected)].into()));
    assert!(rig.until(check, false).await < length / 2);
    assert_eq!(rig.status(check).unwrap().reason, "no handshake");
    let took = rig.until(check, true).await;
    assert!((length / 3..length + Duration::from_millis(500)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn what_was_kept_is_published_at_once_and_holds_until_results_say_otherwise() {
    let (dead, lives) = (Server::start("127.0.0.1:0").await, Server::start("127.0.0.1:0").await);
    dead.stop();
    let (was_up, was_down) = (id(dead.address), id(lives.address));
    let kept = |(member, up)| {
        let (since, heard) = (SystemTime::UNIX_EPOCH, SystemTime::now());
        (CheckId { member, check: "tcp".into() }, Kept { up, last: "as before".into(), since, heard, word: None })
    };
    let (_checks, wanted) = watch::channel(checks(&[(was_up, tcp()), (was_down, tcp())]));
    let (_, ejections) = watch::channel(Arc::default());
    let kept = [(was_up, true), (was_down, false)].into_iter().map(kept).collect();
    let inputs = Inputs { kept, ..inputs(wanted, ejections) };
    let start = Instant::now();
    let (mut view, task) = spawn(inputs, Stats::new().unwrap());
    timeout(Duration::from_secs(5), view.wait_for(|view| view.len() == 2)).await.unwrap().unwrap();
    let told = |view: &HealthView| [was_up, was_down].map(|one| (view[&one].up, view[&one].reason.clone()));
    assert_eq!(told(&view.borrow_and_update()), [(true, "as before".into()), (false, "as before".into())]);
    let fell = timeout(Duration::from_secs(5), view.wait_for(|view| !view[&was_up].up));
    fell.await.unwrap().unwrap();
    assert!(start.elapsed() >= INTERVAL * 9 / 10, "before `fall` failures");
    timeout(Duration::from_secs(5), view.wait_for(|view| view[&was_down].up)).await.unwrap().unwrap();
    assert!(lives.accepted() >= 2, "`rise` successes");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn it_is_told_which_checks_cannot_be_made_and_when_they_can_again() {
    let exec = |words: &[&str]| {
        let argv = words.iter().map(|word| (*word).to_owned()).collect();
        Check { route: Route::Direct, ..Check::of(Ask::Exec(Exec { argv, env: BTreeMap::new() })) }
    };
    let member = id("127.0.0.1:9".parse().unwrap());
    let (wanted, receiver) = watch::channel(checks(&[(member, exec(&["/bin/check"]))]));
    let (_ejections, ejections) = watch::channel(Arc::default());
    let (hindered, mut told) = watch::channel(Arc::default());
    // There is no runner.
    let (_view, task) = spawn(Inputs { hindered, ..inputs(receiver, ejections) }, Stats::new().unwrap());
    let start = clock();
    told.wait_for(|told| !told.is_empty()).await.unwrap();
    let took = clock() - start;
    assert!(took < REFRESH * 2, "{took:?}");
    let all: Vec<(CheckId, String)> =
        told.borrow_and_update().iter().map(|(id, told)| (id.clone(), told.why.clone())).collect();
    let why = "there is no process that runs programs; restart lb".to_owned();
    assert_eq!(all, [(CheckId { member, check: "exec".into() }, why)]);
    wanted.send_replace(checks(&[]));
    let gone = timeout(LOOK * 2, told.wait_for(|told| told.is_empty())).await;
    gone.expect("what is not asked any more is not told of").unwrap();
    task.abort();
}

#[tokio::test]
async fn many_checks_run_side_by_side() {
    // Port 9 of these loopback addresses refuses; they hold up nobody.
    let server = Server::start("127.0.0.1:0").await;
    let mut checks = vec![(id(server.address), tcp())];
    for n in 0..500_u32 {
        let [.., c, d] = n.to_be_bytes();
        checks.push((id(SocketAddr::from(([127, 9, c, d], 9))), tcp()));
    }
    let mut rig = Rig::new(&checks);
    let all = rig.view.wait_for(|view| view.len() == checks.len());
    timeout(Duration::from_secs(5), all).await.expect("a result for each").unwrap();
    let up: Vec<Member> = rig.view.borrow().iter().filter(|(_, status)| status.up).map(|(id, _)| *id).collect();
    assert_eq!(up, [id(server.address)]);
}

#[tokio::test]
async fn programs_that_hang_hold_up_no_other_probes() {
    // Nobody reads at the other end.
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let server = Server::start("127.0.0.1:0").await;
    let exec = Ask::Exec(Exec { argv: vec!["/bin/check".into()], env: BTreeMap::new() });
    let hangs = Check { timeout: Duration::from_mins(1), route: Route::Direct, ..Check::of(exec) };
    let mut wanted = vec![(id(server.address), tcp())];
    wanted.extend((1..=200_u8).map(|n| (id(SocketAddr::from(([127, 9, 0, n], 9))), hangs.clone())));
    let (_checks, receiver) = watch::channel(checks(&wanted));
    let (_ejections, ejections) = watch::channel(Arc::default());
    let (sender, _view) = watch::channel(Arc::default());
    let driver = Driver { most: 4, ..Driver::new(BTreeMap::new(), sender, Stats::new().unwrap()) };
    let inputs = Inputs { runner: Some(Runner::at(ours).unwrap()), ..inputs(receiver, ejections) };
    let task = tokio::spawn(driver.run(inputs));
    // All of them have been started by then.
    sleep(Duration::from_secs(1)).await;
    let before = server.accepted();
    sleep(INTERVAL * 10).await;
    assert!(server.accepted() >= before + 5, "{before} probes, then {}", server.accepted());
    task.abort();
}

#[tokio::test]
async fn probes_that_hang_hold_up_no_programs() {
    // It takes connections and says nothing.
    let server = Server::start("127.0.0.1:0").await;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let hangs = Check { timeout: Duration::from_mins(1), ..Check::of(Ask::Http(Http::default())) };
    let exec = Ask::Exec(Exec { argv: vec!["/bin/check".into()], env: BTreeMap::new() });
    let runs = Check { route: Route::Direct, ..Check::of(exec) };
    let hangs = Check { route: Route::Direct, port: Some(server.address.port()), ..hangs };
    let backend = |n: u8, check: &Check| (id(SocketAddr::from(([127, 0, 0, n], 9))), check.clone());
    // Those that hang are the first to be started.
    let mut wanted = vec![backend(1, &hangs)];
    wanted.extend((2..=21).map(|n| backend(n, &runs)));
    let (_checks, receiver) = watch::channel(checks(&wanted));
    let (_ejections, ejections) = watch::channel(Arc::default());
    let (sender, _view) = watch::channel(Arc::default());
    let driver = Driver { most: 1, ..Driver::new(BTreeMap::new(), sender, Stats::new().unwrap()) };
    let inputs = Inputs { runner: Some(Runner::at(ours).unwrap()), ..inputs(receiver, ejections) };
    let task = tokio::spawn(driver.run(inputs));
    let mut orders = BufReader::new(tokio::net::UnixStream::from_std(theirs).unwrap()).lines();
    for _ in 2..=21 {
        let order = timeout(Duration::from_secs(5), orders.next_line()).await;
        assert!(order.expect("a program that is run").unwrap().is_some());
    }
    assert_eq!(server.accepted(), 1);
    task.abort();
}

#[tokio::test]
async fn ends_with_its_channels_and_stops_probing_when_aborted() {
    let server = Server::start("127.0.0.1:0").await;
    let check = id(server.address);
    let Rig { checks, view, task, .. } = Rig::new(&[(check, tcp())]);
    drop(checks);
    timeout(Duration::from_secs(1), task).await.expect("no sender, no checks").unwrap();
    assert!(view.has_changed().is_err(), "the sender is gone too");

    let Rig { checks, view, task, .. } = Rig::new(&[(check, tcp())]);
    drop(view);
    timeout(Duration::from_secs(1), task).await.expect("nobody listens").unwrap();
    drop(checks);

    let mut rig = Rig::new(&[(check, tcp())]);
    rig.until(check, true).await;
    rig.task.abort();
    assert!((&mut rig.task).await.unwrap_err().is_cancelled());
    sleep(TIMEOUT).await;
    let probes = server.accepted();
    sleep(INTERVAL * 3).await;
    assert_eq!(server.accepted(), probes);
}

#[tokio::test]
async fn counts_probes_and_transitions() {
    let server = Server::start("127.0.0.1:0").await;
    let check = id(server.address);
    let stats = Stats::new().unwrap();
    let (_checks, receiver) = watch::channel(checks(&[(check, tcp())]));
    let (_, ejections) = watch::channel(Arc::default());
    let (mut view, task) = spawn(inputs(receiver, ejections), stats.clone());
    timeout(Duration::from_secs(5), view.wait_for(|view| !view.is_empty())).await.unwrap().unwrap();
    server.stop();
    timeout(Duration::from_secs(5), view.wait_for(|view| !view[&check].up)).await.unwrap().unwrap();
    task.abort();
    let registry = prometheus::Registry::new();
    stats.register(&registry).unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "lb_health_checks_total{result=\"failure\"} 3",
        "lb_health_transitions_total{state=\"down\"} 1",
        "lb_health_transitions_total{state=\"up\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn probes_that_are_due_within_a_grain_start_together() {
    let members = (1..=100).map(|nth| id(SocketAddr::from(([127, 0, 1, nth], 9))));
    let checks = checks(&members.map(|member| (member, tcp())).collect::<Vec<_>>());
    let mut driver = Driver::new(BTreeMap::new(), watch::channel(Arc::default()).0, Stats::new().unwrap());
    driver.set(&checks);
    let (begun, mut starts) = (clock(), Vec::new());
    while driver.running.len() < checks.len() {
        tokio::time::sleep_until(driver.wake().unwrap().into()).await;
        let before = driver.running.len();
        driver.start_due();
        let overdue = driver.roster.next_deadline().filter(|at| *at < clock());
        assert!(driver.running.len() > before && overdue.is_none(), "{starts:?}");
        starts.push(clock() - begun);
    }
    let apart = starts.windows(2).map(|pair| pair[1].checked_sub(pair[0]).unwrap());
    assert!(apart.clone().all(|pause| pause >= GRAIN), "{starts:?}");
    // They are spread over the interval, one millisecond from the other.
    assert!(u128::try_from(starts.len()).unwrap() <= INTERVAL.as_nanos() / GRAIN.as_nanos() + 1, "{starts:?}");
}
