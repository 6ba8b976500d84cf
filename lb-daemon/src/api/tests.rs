//! The API over a real unix socket, before a controller over tables in memory.

mod applied;
mod document;
mod health;
mod overrides;
mod read_only;
mod schema;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinHandle,
    time::timeout,
};

use super::{
    Facts,
    body::LARGEST,
    client::{Client, ClientError},
    read_only, router,
    socket::{Socket, SocketError, listen},
    types::{Backend, Condition, Effect, Flows, PlanRequest, Preview, Reloaded, Stats, Status, Vip},
};
use crate::{
    config::Bundle,
    controller::{
        reloader::Reloader,
        tests::rig::{Rig, TEXT},
    },
    http::serve,
    privileges::{Confinement, Fence},
    telemetry::heard,
};

/// A daemon's API and all that is behind it.
struct Api {
    rig: Rig,
    socket: PathBuf,
    config: PathBuf,
    server: JoinHandle<()>,
    /// Shows and changes nothing.
    looking: PathBuf,
    _sockets: [Socket; 2],
    _folder: TempDir,
}

impl Api {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (socket, config) = (folder.path().join("run/lb.sock"), folder.path().join("lb.toml"));
        fs::write(&config, TEXT).unwrap();
        let rig = Rig::serving(TEXT).await;
        let reloader = Arc::new(Reloader::new(config.clone(), rig.handle.clone()));
        let confinement = Confinement {
            capabilities: vec!["CAP_BPF"],
            while_loading: vec!["CAP_PERFMON"],
            files: Fence::Whole,
            calls: Fence::Missing("the test has none".into()),
        };
        let (pin_path, started) = ("/sys/fs/bpf/none".into(), Instant::now());
        let facts = Facts { config: config.clone(), pin_path, started, confinement };
        let (listener, guard) = listen(&socket).await.unwrap();
        let router = router(rig.handle.clone(), reloader, facts);
        let looking = folder.path().join("look.sock");
        let (looks, other) = listen(&looking).await.unwrap();
        tokio::spawn(serve(looks, read_only(router.clone(), &socket), LARGEST));
        let server = tokio::spawn(serve(listener, router, LARGEST));
        Self { rig, socket, config, server, looking, _sockets: [guard, other], _folder: folder }
    }

    fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Sends bytes and reads what comes until the connection ends.
    async fn raw(&self, request: &[u8]) -> String {
        Self::raw_on(&self.socket, request).await
    }

    async fn raw_on(socket: &Path, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        // The server may close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("it never ends");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn status_line(&self, request: &str) -> String {
        self.raw(request.as_bytes()).await.lines().next().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn tells_status_vips_backends_flows_and_counters() {
    let api = Api::new().await;
    api.rig.count(api.rig.target("web", "web-1"), 5);
    let status: Status = api.client().get("/v1/status").await.unwrap();
    assert_eq!((status.state, status.generation, status.vips, status.backends), (Condition::Serving, Some(1), 3, 7));
    assert_eq!(status.tables["targets"].capacity, 256);
    assert_eq!(status.features, Some(vec!["multi_buffer".to_owned()]));
    let vips: Vec<Vip> = api.client().get("/v1/vips").await.unwrap();
    assert_eq!(vips.iter().map(|vip| vip.name.as_str()).collect::<Vec<_>>(), ["web", "web-v6", "dns"]);
    assert_eq!((vips[0].traffic.packets, vips[0].backends_serving), (5, 3));
    let settings = vips[0].settings.as_ref().unwrap();
    assert_eq!(
        (settings.encap.as_str(), settings.flow_tracking.as_str(), vips[0].prefix_length),
        ("ipip", "always", 32)
    );
    let backends: Vec<Backend> = api.client().get("/v1/backends").await.unwrap();
    let first = &backends[0];
    assert_eq!(
        (first.state, first.weight, first.traffic.packets, first.up),
        (Effect::Serving, Some(100), 5, Some(true))
    );
    assert!(first.share.is_some_and(|share| (share - 1.0 / 3.0).abs() < 1e-9), "{:?}", first.share);
    assert_eq!((first.pool.as_str(), backends[6].pool.as_str()), ("web", "dns"));
    let one: Vec<Backend> = api.client().get("/v1/backends?pool=web&backend=web-2").await.unwrap();
    assert!(
        !one.is_empty() && one.iter().all(|backend| (&*backend.pool, &*backend.name) == ("web", "web-2")),
        "{one:?}"
    );
    let flows: Flows = api.client().get("/v1/flows/count").await.unwrap();
    assert_eq!((flows.capacity, flows.entries), (64, 0));
    let counted: Stats = api.client().get("/v1/stats").await.unwrap();
    assert_eq!(counted.verdicts[0].verdict, "forwarded");
    assert_eq!(counted.verdicts[0].packets, 5);
}

#[tokio::test]
async fn reloads_and_hands_the_complaints_back() {
    let api = Api::new().await;
    let none = serde_json::json!({});
    let done: Reloaded = api.client().post("/v1/reload", &none).await.unwrap();
    assert_eq!((done.generation, done.ops), (1, 0));
    fs::write(&api.config, TEXT.replace("pool = \"dns\"", "pool = \"dsn\"")).unwrap();
    let Err(ClientError::Refused(problem)) = api.client().post::<Reloaded>("/v1/reload", &none).await else {
        panic!("taken")
    };
    assert!(problem.diagnostics.unwrap().contains("lb.toml:"), "{}", problem.error);
    let status: Status = api.client().get("/v1/status").await.unwrap();
    assert_eq!((status.state, status.last_reload.unwrap().ok), (Condition::Degraded, false));
    fs::write(&api.config, format!("[metrics]\nlisten = \"127.0.0.1:9651\"\n{TEXT}")).unwrap();
    let Err(ClientError::Refused(problem)) = api.client().post::<Reloaded>("/v1/reload", &none).await else {
        panic!("taken")
    };
    assert!(problem.error.contains("metrics.listen"), "{}", problem.error);
    fs::remove_file(&api.config).unwrap();
    assert!(matches!(api.client().post::<Reloaded>("/v1/reload", &none).await, Err(ClientError::Refused(_))));
    assert_eq!(api.rig.steered_to("web").len(), 3, "all the while it serves");
}

#[tokio::test]
async fn wrong_requests_get_their_status() {
    let api = Api::new().await;
    let end = "Host: lb\r\nConnection: close\r\n\r\n";
    for (request, status) in [
        (format!("GET /v1/status HTTP/1.1\r\n{end}"), "200"),
        (format!("GET /v1/nothing HTTP/1.1\r\n{end}"), "404"),
        (format!("POST /v1/status HTTP/1.1\r\n{end}"), "405"),
        (format!("GET /v1/reload HTTP/1.1\r\n{end}"), "405"),
        (format!("POST /v1/reload HTTP/1.1\r\nContent-Length: 9\r\n{end}{{\"a\": 1}} "), "400"),
        (format!("POST /v1/reload HTTP/1.1\r\nContent-Length: {}\r\n{end}", LARGEST + 1), "413"),
        (format!("GET /v1/status HTTP/1.1\r\nX: {}\r\n{end}", "x".repeat(100_000)), "431"),
        ("\u{0}\u{1}garbage\r\n\r\n".to_owned(), "400"),
    ] {
        let line = api.status_line(&request).await;
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{line:?} to {:?}", &request[..40.min(request.len())]);
    }
    let oversized = "x".repeat(LARGEST + 1);
    let chunked = format!(
        "POST /v1/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{end}{:x}\r\n{oversized}\r\n0\r\n\r\n",
        oversized.len()
    );
    assert!(api.status_line(&chunked).await.starts_with("HTTP/1.1 413"), "a body that hides its length");
    let status: Status = api.client().get("/v1/status").await.unwrap();
    assert_eq!(status.state, Condition::Serving);
}

#[tokio::test]
async fn a_body_that_is_refused_says_why_and_an_empty_one_asks_for_nothing_special() {
    let api = Api::new().await;
    let post = async |body: &str| {
        let head =
            format!("POST /v1/reload HTTP/1.1\r\nHost: lb\r\nConnection: close\r\nContent-Length: {}", body.len());
        let answer = api.raw(format!("{head}\r\n\r\n{body}").as_bytes()).await;
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let unknown =
        "{\"error\":\"the body is refused: mood: unknown field `mood`, there are no fields at line 1 column 7\"}";
    assert_eq!(post("{\"mood\": 1}").await, unknown);
    let broken = "{\"error\":\"the body is refused: expected value at line 1 column 1\"}";
    assert_eq!(post("\u{0}\u{1}").await, broken);
    let done: Reloaded = serde_json::from_str(&post("").await).unwrap();
    assert_eq!((done.generation, done.ops), (1, 0));
    let large = format!("POST /v1/reload HTTP/1.1\r\nHost: lb\r\nContent-Length: {}\r\n\r\n", LARGEST + 1);
    let answer = api.raw(large.as_bytes()).await;
    assert!(answer.ends_with("{\"error\":\"the body is too large; 16 MiB are taken at most\"}"), "{answer}");
}

#[tokio::test]
async fn the_log_says_who_asked_for_a_change_and_what_came_of_it() {
    heard::listen();
    let api = Api::new().await;
    let _: Status = api.client().get("/v1/status").await.unwrap();
    let _: Reloaded = api.client().post("/v1/reload", &serde_json::json!({})).await.unwrap();
    let _ = api.client().post::<Reloaded>("/v1/reload", &serde_json::json!({ "a": 1 })).await.unwrap_err();
    let log = heard::told();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("request")).collect();
    let (uid, pid) = (rustix::process::getuid().as_raw(), std::process::id());
    assert_eq!(lines.len(), 2, "what changes nothing is not logged: {lines:?}");
    for (line, outcome) in lines.iter().zip(["request done", "request refused"]) {
        for part in [outcome, "method=POST", "path=\"/v1/reload\"", &format!("uid={uid}"), &format!("pid={pid}")] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
    assert!(lines[0].contains("outcome=200") && lines[1].contains("outcome=400"), "{lines:?}");
    assert!(lines[1].contains("unknown field `a`"), "{lines:?}");
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_nobody_out() {
    let api = Api::new().await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        // A full backlog refuses for a moment.
        loop {
            match UnixStream::connect(&api.socket).await {
                Ok(stream) => break idle.push(stream),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
    let begun = Instant::now();
    for _ in 0..20 {
        let _: Status = api.client().get("/v1/status").await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!api.server.is_finished());
    let mut kept = 0;
    for mut stream in idle {
        let mut byte = [0];
        // An end of file is a connection that gave way; silence is one that still has a place.
        kept += u32::from(timeout(Duration::from_millis(5), stream.read(&mut byte)).await.is_err());
    }
    assert!(kept <= 64, "{kept} idle connections hold places");
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_a_second_daemon_is_turned_away() {
    let api = Api::new().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&api.socket), 0o660);
    assert!(matches!(listen(&api.socket).await, Err(SocketError::InUse(_))));
    let _: Status = api.client().get("/v1/status").await.unwrap();
}

#[tokio::test]
async fn a_dead_daemons_socket_is_taken_over_and_a_file_is_not() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lb.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left over by a dead daemon");
    let (listener, guard) = listen(&path).await.unwrap();
    assert!(UnixStream::connect(&path).await.is_ok());
    drop((listener, guard));
    assert!(!path.exists(), "an orderly end leaves nothing");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(listen(&path).await, Err(SocketError::NotASocket(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn of_two_daemons_that_start_at_once_one_gets_the_socket_and_keeps_it() {
    let folder = TempDir::new().unwrap();
    for round in 0..100 {
        let path = folder.path().join(format!("{round}.sock"));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let start = std::sync::Barrier::new(2);
        let daemon = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            start.wait();
            let listening = runtime.block_on(listen(&path)).ok();
            // The runtime too: without it the listener would end before the other has tried.
            (listening, runtime)
        };
        let kept = std::thread::scope(|scope| {
            let daemons = [scope.spawn(daemon), scope.spawn(daemon)];
            daemons.map(|daemon| daemon.join().unwrap())
        });
        assert_eq!(kept.iter().filter(|(listening, _)| listening.is_some()).count(), 1, "round {round}");
        assert!(path.exists(), "round {round}");
    }
}

#[tokio::test]
async fn a_socket_that_cannot_be_made_is_called_by_its_own_name() {
    // Nobody may make files there, not even root; and the longest name that a socket can have has 107 bytes.
    let error = listen(Path::new("/sys/lb.sock")).await.unwrap_err();
    assert!(matches!(error, SocketError::NotAllowed { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("socket /sys/lb.sock:") && text.contains("set another [api] socket"), "{text}");
    let folder = TempDir::new().unwrap();
    let long = folder.path().join("s".repeat(120));
    let text = listen(&long).await.unwrap_err().to_string();
    assert!(text.ends_with(&long.display().to_string()), "{text}");
}

#[tokio::test]
async fn without_a_daemon_the_client_says_so() {
    let folder = TempDir::new().unwrap();
    let client = Client::new(&folder.path().join("lb.sock"));
    let error = client.get::<Status>("/v1/status").await.unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
    assert!(error.to_string().starts_with("no daemon answers on /"), "{error}");
}

#[tokio::test]
async fn a_plan_tells_what_would_change_or_why_the_file_is_refused() {
    let api = Api::new().await;
    let plan = async |text: &str| {
        let request = PlanRequest { bundle: Bundle::of("lb.toml", text) };
        api.client().post::<Preview>("/v1/plan", &request).await
    };
    assert!(!plan(TEXT).await.unwrap().differs);
    let preview = plan(&TEXT.replace("10.0.0.2", "10.0.0.9")).await.unwrap();
    assert_eq!((preview.differs, preview.vips_changed), (true, 2));
    let Err(ClientError::Refused(problem)) = plan("mood = 1\n").await else { panic!("not refused") };
    assert_eq!(problem.error, "this is no valid configuration: 1 error, 2 warnings");
    assert!(problem.diagnostics.unwrap().contains("lb.toml:1:1"));
    let listed = TEXT.replace("name = \"dns\"", "name = \"dns\"\ndeny_file = \"/etc/hostname\"");
    let Err(ClientError::Refused(problem)) = plan(&listed).await else { panic!("a file was read for a plan") };
    assert!(problem.diagnostics.unwrap().contains("unreadable-file"));
}
