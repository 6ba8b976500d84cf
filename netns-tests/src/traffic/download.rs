//! A long download, each byte of which is compared with what the server should have sent.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::http::Connection;
use crate::{host::server::Pattern, netns::Namespace, wait};

/// A download that runs on a thread of its own.
#[derive(Debug)]
pub struct Download {
    bytes: u64,
    received: Arc<AtomicU64>,
    release: Option<mpsc::Sender<()>>,
    thread: JoinHandle<Result<()>>,
}

impl Download {
    /// Starts a download of `bytes`, at most `rate` a second. It stands still at `hold` bytes, the connection open, until
    /// [`Download::release`]: so a test is sure to be in its midst, however slow the machine.
    ///
    /// # Errors
    /// When no connection opens.
    pub fn start(namespace: &Namespace, from: SocketAddr, bytes: u64, rate: u64, hold: u64) -> Result<Self> {
        let mut connection = Connection::open(namespace, from)?;
        let received = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&received);
        let (release, released) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let target = format!("/big?bytes={bytes}&rate={rate}");
            let (status, length) = connection.begin(&target, "close")?;
            ensure!(status == 200 && length == bytes, "status {status}, {length} bytes promised");
            read(&mut connection, bytes, &progress, |received| {
                // A sender that is gone has released as well.
                if received >= hold {
                    released.recv().unwrap_or_default();
                }
            })
        });
        Ok(Self { bytes, received, release: Some(release), thread })
    }

    /// Bytes received and found right so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether bytes are still to come.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Lets it go on to its end.
    pub fn release(&mut self) {
        self.release = None;
    }

    /// Waits until that many bytes came.
    ///
    /// # Errors
    /// When the limit passes or the download broke.
    pub fn wait_for(&self, bytes: u64, limit: Duration) -> Result<()> {
        wait::until(&format!("{bytes} bytes of a download"), limit, || {
            let received = self.received();
            ensure!(received >= bytes || self.is_running(), "it broke after {received} bytes");
            Ok((received >= bytes).then_some(()))
        })
    }

    /// Waits for the end and returns the number of bytes.
    ///
    /// # Errors
    /// When the connection broke or a byte was wrong.
    pub fn finish(mut self) -> Result<u64> {
        self.release();
        let result = self.thread.join().map_err(|_| anyhow!("the download's thread panicked"))?;
        let received = self.received.load(Ordering::Relaxed);
        result.with_context(|| format!("a download of {} bytes broke after {received}", self.bytes))?;
        ensure!(received == self.bytes, "{received} of {} bytes came", self.bytes);
        Ok(received)
    }
}

fn read(connection: &mut Connection, bytes: u64, progress: &AtomicU64, mut hold: impl FnMut(u64)) -> Result<()> {
    let mut received = 0;
    let mut buffer = vec![0; Pattern::BLOCK];
    for number in 0..bytes.div_ceil(Pattern::BLOCK as u64) {
        let wanted = Pattern::block(number);
        let length = wanted.len().min(usize::try_from(bytes - received)?);
        connection.read_exact(&mut buffer[..length])?;
        ensure!(buffer[..length] == wanted[..length], "block {number} is not what the server sent");
        received += length as u64;
        progress.store(received, Ordering::Relaxed);
        hold(received);
    }
    Ok(())
}
