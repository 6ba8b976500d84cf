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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_verbosity_is_understood() {
        for verbose in 0..4 {
            assert!(EnvFilter::try_new(directives(verbose)).is_ok());
        }
    }
}
