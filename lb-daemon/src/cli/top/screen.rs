//! The terminal, while it is ours.

use std::{
    io::{self, Read, Write},
    thread,
    time::Duration,
};

use anyhow::Context;
use rustix::{
    stdio::{stdin, stdout},
    termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr},
};
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

/// To the second screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the corner; to the end of the line, and of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST: &str = "\x1b[J";
/// Size of a terminal that tells none.
const USUAL: (usize, usize) = (80, 24);

/// A terminal that shows one frame after the other; it is as it was when this is dropped.
pub(super) struct Screen {
    /// How keys were taken before.
    before: Option<Termios>,
}

impl Screen {
    /// Takes the terminal over: keys come one by one and are not shown.
    pub(super) fn enter() -> Result<Self, anyhow::Error> {
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut keys = before.clone();
            // Interrupts stay: Ctrl-C comes as a signal.
            keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            tcsetattr(stdin(), OptionalActions::Now, &keys).context("cannot read single keys")?;
        }
        let screen = Self { before };
        put(ENTER).context("cannot write to the terminal")?;
        Ok(screen)
    }

    /// Lines that fit.
    pub(super) fn lines() -> usize {
        size().1
    }

    /// Shows a text, as far as it fits.
    pub(super) fn show(text: &str) -> Result<(), anyhow::Error> {
        let (width, height) = size();
        let mut frame = HOME.to_owned();
        for (number, line) in text.lines().take(height).enumerate() {
            if number > 0 {
                frame.push_str("\r\n");
            }
            frame.extend(line.chars().take(width));
            frame.push_str(REST_OF_LINE);
        }
        frame.push_str(REST);
        put(&frame).context("cannot write to the terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = put(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Columns and lines.
fn size() -> (usize, usize) {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL,
    }
}

/// Waits, unless the user has had enough.
pub(super) struct Patience {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
    /// Where keys come from, if they do.
    keys: Option<mpsc::Receiver<u8>>,
}

impl Patience {
    /// Listens for signals, and for keys if there is a keyboard.
    pub(super) fn new() -> Result<Self, anyhow::Error> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot wait")?;
        let context = runtime.enter();
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let keys = isatty(stdin()).then(keys).transpose()?;
        drop(context);
        Ok(Self { runtime, interrupt, terminate, keys })
    }

    /// What comes of `work`; nothing once the user has had enough.
    pub(super) fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let Self { runtime, interrupt, terminate, keys } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => None,
                _ = terminate.recv() => None,
                () = quit(keys.as_mut()) => None,
                done = work => Some(done),
            }
        })
    }

    /// Lets time pass. Tells whether to go on.
    pub(super) fn pause(&mut self, time: Duration) -> bool {
        self.unless_stopped(async { sleep(time).await }).is_some()
    }
}

/// Waits for the key that ends it all, or for the end of the keys.
async fn quit(keys: Option<&mut mpsc::Receiver<u8>>) {
    let Some(keys) = keys else { return std::future::pending().await };
    while let Some(key) = keys.recv().await {
        if key.eq_ignore_ascii_case(&b'q') {
            return;
        }
    }
}

/// Keys as they are pressed. Whoever reads a terminal waits for as long as nobody presses one, so a thread does it, which ends
/// with the process.
fn keys() -> Result<mpsc::Receiver<u8>, anyhow::Error> {
    let (pressed, keys) = mpsc::channel(16);
    let read = move || {
        for key in io::stdin().lock().bytes().map_while(Result::ok) {
            if pressed.blocking_send(key).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".into()).spawn(read).context("cannot read keys")?;
    Ok(keys)
}
