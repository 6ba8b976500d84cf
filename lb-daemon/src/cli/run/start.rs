//! What a start takes, before anything runs beside it.

use std::{env, net::TcpListener, os::unix::net::UnixListener, path::Path};

use anyhow::Context;
use tokio::runtime;
use tracing::{info, warn};

use super::signals::Signals;
use crate::{
    api::socket::{self, Socket},
    client,
    config::Bundle,
    controller::{Attached, StartError, beliefs, chain, engine, grows, room, tuning::tuning},
    dataplane::kernel::{Kernel, Opened, Options},
    model::Config,
    plan::{diff, lists::Lists},
    privileges::Files,
};

/// The places that another daemon might have. Whoever holds them goes on undisturbed.
pub(super) struct Places {
    /// Where the API is asked.
    pub(super) api: Place,
    /// Where it is asked by those who may only look.
    pub(super) read_only: Option<Place>,
    /// Where metrics are fetched.
    pub(super) scrapes: Option<TcpListener>,
}

/// A unix socket.
pub(super) struct Place {
    pub(super) listener: UnixListener,
    /// Removes the socket at the end.
    pub(super) socket: Socket,
}

impl Place {
    async fn take(path: &Path) -> Result<Self, anyhow::Error> {
        let (listener, socket) = socket::listen(path).await?;
        Ok(Self { listener: listener.into_std().context("cannot keep the API's socket")?, socket })
    }
}

/// Begins to listen for signals, so that none ends the process half way from here on, and takes the places.
pub(super) fn places(config: &Config) -> Result<(Signals, Places), anyhow::Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let signals = Signals::listen().context("cannot listen for signals")?;
        let api = Place::take(&config.api_socket).await?;
        let read_only = match &config.api_read_only_socket {
            Some(path) => Some(Place::take(path).await.context("cannot take [api] read_only_socket")?),
            None => None,
        };
        let scrapes = match config.metrics_listen {
            Some(address) => {
                let listening = tokio::net::TcpListener::bind(address).await;
                let listening = listening.and_then(tokio::net::TcpListener::into_std);
                Some(listening.with_context(|| format!("cannot listen on {address} ([metrics] listen)"))?)
            }
            None => None,
        };
        Ok((signals, Places { api, read_only, scrapes }))
    })
}

/// Opens or adopts the tables, puts the program over them, and attaches it.
pub(super) fn open(config: &Config, pin_path: &Path) -> Result<(Kernel, Vec<Attached>), anyhow::Error> {
    let lists = Lists::of(config);
    let options = Options {
        pin_path: pin_path.to_owned(),
        capacity: diff::needs(&beliefs::best_case(config, &lists)),
        flow_entries: config.dataplane.flow_table_entries,
        tuning: tuning(config),
    };
    let mut opened = Opened::new(&options)?;
    let adopted = opened.adopted();
    // Until here no packet has noticed anything, and a refusal leaves all as it was.
    let state = opened.observe().map_err(StartError::Observe)?;
    let room = room(&state, config, &lists)?;
    opened.require(&config.dataplane.interfaces)?;
    grows(&opened.room(), &room);
    let mut kernel = opened.take_over(&room)?;
    let attached = engine::attach(&mut kernel, &config.dataplane).map_err(anyhow::Error::from);
    let kept = attached.and_then(|attached| Ok(kernel.keep_by(engine::grip(&config.daemon)).map(|()| attached)?));
    match kept {
        Ok(attached) => {
            info!(pin_path = %pin_path.display(), adopted, "tables ready");
            for one in &attached {
                info!(interface = one.interface, mode = one.mode, "attached");
            }
            Ok((kernel, attached))
        }
        Err(error) => {
            drop(kernel);
            if !adopted {
                take_back(pin_path);
            }
            Err(error)
        }
    }
}

/// What the daemon reaches while it runs.
pub(super) fn files(bundle: &Bundle, config: &Config, pin_path: &Path) -> Files {
    let sockets = [Some(&config.api_socket), config.api_read_only_socket.as_ref()];
    let folders = sockets.into_iter().flatten().filter_map(|socket| socket.parent().map(Path::to_path_buf));
    Files {
        named: bundle.files.keys().cloned().chain(client::system_file()).collect(),
        kept: folders.chain([config.daemon.state_dir.clone()]).collect(),
        pins: pin_path.to_owned(),
        // For the verifier's words.
        temporary: env::temp_dir(),
    }
}

/// Removes tables that were made a moment ago and would only be in the way.
pub(super) fn take_back(pin_path: &Path) {
    if let Err(error) = Kernel::unload(pin_path) {
        warn!(error = chain(&error), "what was just pinned could not be removed; `lb unload` does it");
    }
}
