//! Servers on a thread of their own.

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

use crate::netns::Namespace;

/// What runs on a thread of its own, and ends, with all tasks and sockets, when this is dropped.
#[derive(Debug)]
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Runs `serve` until then. Sockets that it needs are best made before, as [`listen`] does.
    ///
    /// # Errors
    /// When there is no runtime to be had.
    pub fn start<F: Future<Output = ()>>(serve: impl FnOnce() -> F + Send + 'static) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { () = serve() => {}, _ = stopped => {} }
            });
        });
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A socket within a namespace that takes connections from now on, for a runtime to serve.
///
/// # Errors
/// When it cannot be bound.
pub fn listen(namespace: &Namespace, address: SocketAddr) -> Result<TcpListener> {
    let listener = namespace.enter(|| TcpListener::bind(address));
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
