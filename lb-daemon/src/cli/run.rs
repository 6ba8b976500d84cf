//! `lb run`: the daemon.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tracing::{debug, info, warn};

use super::{Exit, Global, Misuse, load_config, output};
use crate::{
    api::{self, Facts, socket},
    config::Diagnostics,
    controller::{
        Attached, Checks, Controller, Snapshot, Wires, beliefs, chain, engine, fits,
        reloader::{Failure, Reloader},
        tuning::tuning,
    },
    dataplane::kernel::{Kernel, Options, missing_capabilities, share_one_heap},
    health, http, metrics,
    model::Config,
    nexthop,
    plan::{diff, lists::Lists},
    telemetry,
};

/// Threads that serve checks, the API and scrapes. They mostly wait; the tables are written by a thread of their own.
const WORKERS: usize = 2;
/// Threads for what blocks: reading the configuration file and looking up names.
const BLOCKING: usize = 4;
/// Longest wait at the end for those.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Balance, until told to stop
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// When stopped, take forwarding down; without this it goes on, with flows and all
    #[arg(long)]
    detach_on_exit: bool,
}

/// Runs the daemon until SIGTERM or SIGINT. SIGHUP reads the file again.
///
/// # Errors
/// When the daemon cannot start. What was in force before then still is.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    // Before there are threads.
    share_one_heap();
    telemetry::start(global.verbose)?;
    let config = load_config(&args.config, global)?;
    if let Some(given) = global.api.clone().filter(|given| *given != config.api_socket) {
        return Err(Misuse::OtherSocket { configured: config.api_socket, given }.into());
    }
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()
        .context("cannot start the daemon's threads")?;
    let outcome = runtime.block_on(daemon(config, &args.config, &global.pin_path));
    // The controller's thread has ended, and with it its hold on the pins. Who still reads a file may never come back.
    runtime.shutdown_timeout(LAST_WAIT);
    let served = outcome?;
    if args.detach_on_exit {
        Kernel::unload(&global.pin_path).context("cannot take forwarding down")?;
        info!("stopped; forwarding is taken down");
    } else if served {
        info!("stopped; forwarding goes on, `lb unload` takes it down");
    } else {
        info!("stopped before anything was served; `lb unload` takes the program off");
    }
    Ok(Exit::Done)
}

/// Starts all parts, waits for the end, ends all parts. Tells whether the tables serve anything then.
async fn daemon(config: Config, file: &Path, pin_path: &Path) -> Result<bool, anyhow::Error> {
    let started = Instant::now();
    // Without them something else may fail first, such as a folder for the socket, and the reason would stay hidden.
    let missing = missing_capabilities();
    if !missing.is_empty() {
        return Err(anyhow!("this process lacks {}; run it as root or with these capabilities", missing.join(", ")));
    }
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    // First the places that another daemon might have: whoever holds them goes on undisturbed.
    let (listener, _socket) = socket::listen(&config.api_socket).await?;
    let scrapes = match config.metrics_listen {
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("cannot listen on {address} ([metrics] listen)"))?)
        }
        None => None,
    };
    let (kernel, attached) = open(&config, pin_path)?;
    let mut parts = JoinSet::new();
    let stats = health::Stats::new().context("cannot count health checks")?;
    let wires = wires(&mut parts, stats.clone());
    let (controller, handle) = Controller::new(kernel, config, attached, wires)?;
    let mut ended = controller.spawn(runtime::Handle::current())?;
    let reloader = Arc::new(Reloader::new(file.to_owned(), handle.clone()));
    let facts = Facts { config: file.to_owned(), pin_path: pin_path.to_owned(), started };
    let router = api::router(handle.clone(), Arc::clone(&reloader), facts);
    part(&mut parts, "the API", http::serve(listener, router, api::body::LARGEST));
    if let Some(listener) = scrapes {
        let exporter = metrics::Exporter::new(handle.clone(), stats);
        part(&mut parts, "the metrics", http::serve(listener, metrics::router(exporter), 0));
    }
    part(&mut parts, "the announcements", announce(handle.snapshots()));
    let outcome = tokio::select! {
        () = signals.until_stopped(&reloader) => Ok(()),
        _ = &mut ended => return Err(anyhow!("the controller ended unexpectedly; forwarding goes on")),
        Some(part) = parts.join_next() => Err(anyhow!("{} ended unexpectedly; forwarding goes on", part?)),
    };
    handle.stop().await;
    // An error only says that it has ended already.
    let _ = ended.await;
    let last = handle.snapshot();
    // Tables that were there before serve from the start.
    outcome.map(|()| last.generation > 0 || last.used.vips > 0)
}

/// Opens or adopts the tables, puts the program over them, and attaches it.
fn open(config: &Config, pin_path: &Path) -> Result<(Kernel, Vec<Attached>), anyhow::Error> {
    let lists = Lists::of(config);
    let options = Options {
        pin_path: pin_path.to_owned(),
        capacity: diff::needs(&beliefs::best_case(config, &lists)),
        flow_entries: config.dataplane.flow_table_entries,
        tuning: tuning(config),
    };
    let mut kernel = Kernel::open(&options)?;
    let adopted = kernel.adopted();
    // Interfaces that are not named any more are let go only by a daemon that can go on.
    let attached = match fits(&mut kernel, config, &lists) {
        Ok(_) => engine::attach(&mut kernel, &config.dataplane).map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    match attached {
        Ok(attached) => {
            info!(pin_path = %pin_path.display(), adopted, "tables ready");
            for one in &attached {
                info!(interface = one.interface, mode = one.mode, "attached");
            }
            Ok((kernel, attached))
        }
        Err(error) => {
            drop(kernel);
            // Tables that were there serve on; those made a moment ago would only be in the way.
            if !adopted && let Err(error) = Kernel::unload(pin_path) {
                warn!(error = chain(&error), "what was just pinned could not be removed");
            }
            Err(error)
        }
    }
}

/// Starts the health checks and the search for next hops.
fn wires(parts: &mut JoinSet<&'static str>, stats: health::Stats) -> Wires {
    let (checks, asked) = watch::channel(Arc::new(Checks::new()));
    let (health, checker) = health::driver::spawn(asked, stats);
    let (hop_targets, asked) = watch::channel(BTreeSet::new());
    let (hops, follower) = nexthop::watcher::spawn(asked);
    part(parts, "the health checks", async { drop(checker.await) });
    part(parts, "the search for next hops", async { drop(follower.await) });
    Wires { checks, health, hop_targets, hops }
}

/// Runs a part of the daemon that is not meant to end; its name comes out if it does.
fn part(parts: &mut JoinSet<&'static str>, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    parts.spawn(async move {
        work.await;
        name
    });
}

/// Logs when the daemon is ready, and when a VIP loses its last backend or has one again.
async fn announce(mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut ready = false;
    let mut empty = BTreeSet::new();
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update().clone();
        if snapshot.generation == 0 {
            continue;
        }
        let now: BTreeSet<String> = snapshot.without_backend().map(|vip| vip.name.clone()).collect();
        for vip in now.difference(&empty) {
            warn!(vip, "vip has no serving backend; its packets are dropped");
        }
        for vip in empty.difference(&now).filter(|vip| snapshot.vips.iter().any(|known| known.name == **vip)) {
            info!(vip, "vip has a serving backend again");
        }
        empty = now;
        if !ready && !snapshot.settling && snapshot.failing.is_none() {
            ready = true;
            info!(generation = snapshot.generation, "serving");
        }
    }
}

/// Prints complaints with the lines they are about.
fn show(diagnostics: &Diagnostics) {
    let text = diagnostics.render(output::colours(io::stderr().is_terminal()));
    // A closed stderr must not end the daemon.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The signals that concern the daemon.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reloads upon SIGHUP; returns upon SIGTERM or SIGINT, also while a reload is under way.
    async fn until_stopped(&mut self, reloader: &Reloader) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {}
            }
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                () = reload(reloader) => {}
            }
        }
    }
}

/// Reloads once and tells what came of it.
async fn reload(reloader: &Reloader) {
    match reloader.reload().await {
        Ok(done) => info!(generation = done.generation, ops = done.ops, "reloaded"),
        // The controller has logged why; excerpts of the file are for people, as at the start.
        Err(Failure::Invalid(diagnostics)) => show(&diagnostics),
        Err(refused) => debug!(%refused, "SIGHUP changed nothing"),
    }
}
