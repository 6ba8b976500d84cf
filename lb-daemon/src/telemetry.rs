//! Log lines: to stderr, where a service manager or a person reads them.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Environment variable that overrides the command line, with `tracing`'s directives: `lb_daemon=debug,warn`.
pub const VARIABLE: &str = "LB_LOG";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `LB_LOG` is not understood.
    #[error("{VARIABLE} is not understood")]
    Filter(#[from] ParseError),
    /// Somebody set it up before.
    #[error("logging is set up already")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging to stderr; `verbose` is how often `-v` was given.
///
/// # Errors
/// When `LB_LOG` makes no sense, or logging was started before.
pub fn start(verbose: u8) -> Result<(), TelemetryError> {
    let filter = match std::env::var(VARIABLE) {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(directives)?,
        _ => EnvFilter::try_new(directives(verbose))?,
    };
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !no_colour)
        .with_target(verbose > 0)
        // It would complain on stderr that stderr is closed, and panic over that.
        .log_internal_errors(false)
        .try_init()
        .map_err(TelemetryError::Twice)
}

/// What is logged: ours from info on, other people's crates when they warn.
const fn directives(verbose: u8) -> &'static str {
    match verbose {
        0 => "warn,lb=info,lb_daemon=info",
        1 => "warn,lb=debug,lb_daemon=debug",
        _ => "info,lb=trace,lb_daemon=trace",
    }
}

/// What is logged on the thread of a test.
///
/// One subscriber is there for all threads and stays. With one that a thread sets for itself, another thread that is the first
/// to come to a log line finds nobody who listens, and `tracing` notes for all threads that nobody wants that line.
#[cfg(test)]
pub(crate) mod heard {
    use std::{
        cell::RefCell,
        io::{self, Write},
        mem,
        sync::Once,
    };

    thread_local! {
        static HEARD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    }

    static SET_UP: Once = Once::new();

    /// Keeps what a thread says, if it is listened to.
    struct OwnThread;

    impl Write for OwnThread {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            HEARD.with_borrow_mut(|heard| heard.as_mut().map_or(Ok(bytes.len()), |heard| heard.write(bytes)))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Listens to this thread from now on.
    pub(crate) fn listen() {
        SET_UP.call_once(|| {
            tracing_subscriber::fmt().with_ansi(false).with_writer(|| OwnThread).init();
            // For lines that others came to while it was set up.
            tracing::callsite::rebuild_interest_cache();
        });
        HEARD.set(Some(Vec::new()));
    }

    /// All that it said since then. It is listened to no more.
    pub(crate) fn told() -> String {
        String::from_utf8(HEARD.with_borrow_mut(mem::take).unwrap()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_heard_although_another_thread_came_to_it_first() {
        fn say() {
            tracing::info!("a line of this test");
        }
        heard::listen();
        std::thread::spawn(say).join().unwrap();
        say();
        let told = heard::told();
        assert_eq!(told.matches("a line of this test").count(), 1, "its own and no other's: {told}");
    }

    #[test]
    fn every_level_of_verbosity_is_understood() {
        for verbose in 0..4 {
            assert!(EnvFilter::try_new(directives(verbose)).is_ok());
        }
    }
}
