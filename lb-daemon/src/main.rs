//! The `lb` command: arguments in, a command run, an exit code out.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use lb_daemon::cli::{Arguments, USAGE_EXIT, exit_code, failure, hint, run};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match run(&arguments) {
        Ok(exit) => exit_code(exit),
        Err(error) => {
            // Nobody may be listening on stderr any more; the exit code still tells.
            let _ = writeln!(io::stderr(), "lb: {error:#}");
            if let Some(hint) = hint(&arguments.global, &error) {
                let _ = writeln!(io::stderr(), "lb: {hint}");
            }
            exit_code(failure(&error))
        }
    }
}

/// Prints clap's message: `--help` and `--version` are answers, anything else is a wrong use of the command.
fn usage(error: &clap::Error) -> ExitCode {
    // A reader that went away (`lb --help | head -1`) is no failure.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE_EXIT) } else { ExitCode::SUCCESS }
}
