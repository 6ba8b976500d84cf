//! The command line: what can be asked for, and which module answers.
//!
//! Each command is a file in `cli/` with `Args` and `run`; none has logic of its own beyond reading its arguments,
//! asking the part that knows, and printing through [`output`].

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::{
    api::{client::ClientError, types::Problem},
    config::{self, Bundle, Reading, Traces, diagnostic::Diagnostics},
    model::Config,
    runner,
};

pub mod apply;
mod ask;
pub mod backend;
pub mod check;
pub mod completions;
pub mod confirm;
pub mod decap;
pub mod explain;
pub mod flow;
pub mod history;
pub mod load;
pub mod man;
mod order;
pub mod output;
mod pins;
pub mod plan;
mod programs;
pub mod reload;
pub mod ring;
pub mod rollback;
pub mod run;
pub mod stats;
pub mod status;
pub mod top;
pub mod unload;
pub mod vip;

/// Where tables, program and links are pinned unless `--pin-path` says otherwise.
pub const DEFAULT_PIN_PATH: &str = "/sys/fs/bpf/lb";
/// Exit code of a command line that makes no sense (`EX_USAGE` of sysexits.h).
pub const USAGE_EXIT: u8 = 64;

/// A standalone XDP layer-4 load balancer
#[derive(Debug, Parser)]
#[command(name = "lb", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 differences or degraded, 3 invalid config, 64 wrong usage.")]
pub struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Folder on a BPF file system that holds the pinned program, links and tables
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_PIN_PATH)]
    pub pin_path: PathBuf,
    /// Socket of the daemon to ask [default: /run/lb/lb.sock]
    #[arg(long, global = true, value_name = "SOCKET")]
    pub api: Option<PathBuf>,
    /// How to print results
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
    /// Say more; twice for details
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// Where the daemon is asked.
    pub fn socket(&self) -> &Path {
        self.api.as_deref().unwrap_or(Path::new(config::DEFAULT_API_SOCKET))
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For people, with more columns where there are more
    Wide,
    /// For programs
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate config files and print every complaint
    Check(check::Args),
    /// Balance, until told to stop
    Run(run::Args),
    /// Fill and pin the dataplane, all reachable backends taken as healthy, and exit
    Load(load::Args),
    /// Put a configuration in force through the daemon
    Apply(apply::Args),
    /// Let a configuration stay that was applied with `--confirm`
    Confirm(confirm::Args),
    /// Put an older configuration in force
    Rollback(rollback::Args),
    /// List the configurations that were in force
    History(history::Args),
    /// Detach from all interfaces and remove every pin
    Unload(unload::Args),
    /// On a backend: unwrap tunnelled packets without tunnel devices
    Decap(decap::Args),
    /// Tell what a configuration would change, against the running tables; nothing is written
    Plan(plan::Args),
    /// Have the daemon read its configuration file again, and tell what came of it
    Reload(reload::Args),
    /// Show how the daemon is; without one, what the pinned tables tell
    Status(status::Args),
    /// Look at VIPs, without a daemon by address from the pinned tables; disable and enable them
    Vip(vip::Args),
    /// Look at backends, without a daemon by address from the pinned tables; drain, enable, disable and weigh them
    Backend(backend::Args),
    /// Show counters: why frames left, what the flow table met and holds
    Stats(stats::Args),
    /// Watch VIPs, backends and drops; without a daemon by address, from the pinned tables
    Top(top::Args),
    /// Print a script that completes this command's words in a shell
    Completions(completions::Args),
    /// Print or write the manual
    Man(man::Args),
    /// Look at the flow table
    Flow(flow::Args),
    /// Look at rings: which backend takes which new flows
    Ring(ring::Args),
    /// Show what would become of a packet and why; nothing is counted or remembered
    Explain(explain::Args),
    /// Run programs for the daemon that started this process
    #[command(name = runner::WORD, hide = true)]
    Programs,
}

/// How a command ended, when it did not fail with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or: no difference.
    Done,
    /// Not done; the command has said why.
    Failed,
    /// Differences found, or degraded.
    Differs,
    /// The configuration is refused; the complaints are printed.
    InvalidConfig,
    /// The command line makes no sense.
    WrongUsage,
}

/// Runs the command.
///
/// # Errors
/// When the command fails; the chain of errors says what was attempted.
pub fn run(arguments: &Arguments) -> Result<Exit, anyhow::Error> {
    let global = &arguments.global;
    note_useless_api(&arguments.command, global);
    match &arguments.command {
        Command::Check(args) => check::run(args, global),
        Command::Run(args) => run::run(args, global),
        Command::Load(args) => load::run(args, global),
        Command::Apply(args) => apply::run(args, global),
        Command::Confirm(args) => confirm::run(args, global),
        Command::Rollback(args) => rollback::run(args, global),
        Command::History(args) => history::run(args, global),
        Command::Unload(args) => unload::run(args, global),
        Command::Decap(args) => decap::run(args, global),
        Command::Plan(args) => plan::run(args, global),
        Command::Reload(args) => reload::run(args, global),
        Command::Status(args) => status::run(args, global),
        Command::Vip(args) => vip::run(args, global),
        Command::Backend(args) => backend::run(args, global),
        Command::Stats(args) => stats::run(args, global),
        Command::Top(args) => top::run(args, global),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Flow(args) => flow::run(args, global),
        Command::Ring(args) => ring::run(args, global),
        Command::Explain(args) => explain::run(args, global),
        Command::Programs => programs::run(),
    }
}

/// Says so if a socket is given to a command that changes the tables by itself. Whoever gives one to `check` loses nothing.
fn note_useless_api(command: &Command, global: &Global) {
    if let (Command::Check(_), Some(_)) = (command, &global.api) {
        let _ = writeln!(io::stderr(), "! --api changes nothing: `lb check` asks no daemon");
    }
    let name = match command {
        Command::Load(_) => "load",
        Command::Unload(_) => "unload",
        Command::Decap(_) => "decap",
        _ => return,
    };
    if global.api.is_some() {
        let at = global.pin_path.display();
        // The command does what it should all the same.
        let _ = writeln!(
            io::stderr(),
            "! --api is not used: `lb {name}` asks no daemon, it works on what is pinned at {at}"
        );
    }
}

/// The process's exit code.
pub fn exit_code(exit: Exit) -> ExitCode {
    ExitCode::from(match exit {
        Exit::Done => 0,
        Exit::Failed => 1,
        Exit::Differs => 2,
        Exit::InvalidConfig => 3,
        Exit::WrongUsage => USAGE_EXIT,
    })
}

/// How a command ended that failed with `error`: a refused configuration, by [`load_config`] or by the daemon, and
/// [`Misuse`] have their own exit codes.
pub fn failure(error: &anyhow::Error) -> Exit {
    match error {
        error if error.is::<Refused>() => Exit::InvalidConfig,
        error if error.is::<Misuse>() => Exit::WrongUsage,
        error if matches!(error.downcast_ref(), Some(ClientError::Refused(Problem { diagnostics: Some(_), .. }))) => {
            Exit::InvalidConfig
        }
        _ => Exit::Failed,
    }
}

/// What to add to the report of an error, if anything helps.
pub fn hint(global: &Global, error: &anyhow::Error) -> Option<String> {
    ask::without_daemon(global, error)
}

/// A command line that the parser takes, but that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum Misuse {
    /// A tuple that is none.
    #[error(transparent)]
    Tuple(#[from] crate::explain::tuple::TupleError),
    /// The daemon listens where its configuration says.
    #[error(
        "`lb run` takes its socket from [api] socket, here {}, not from --api {}; leave --api out or change the file",
        configured.display(),
        given.display()
    )]
    OtherSocket {
        /// From the configuration.
        configured: PathBuf,
        /// From the command line.
        given: PathBuf,
    },
}

/// A configuration was refused, and its complaints are printed already.
#[derive(Debug, thiserror::Error)]
#[error("config refused: {summary}")]
pub struct Refused {
    /// The file and how many complaints it got.
    summary: String,
}

/// Reads and validates a configuration for a command that needs a valid one. Complaints and warnings go to stderr.
///
/// # Errors
/// When the file cannot be read, or is invalid ([`Refused`], which the command hands up as it is).
pub fn load_config(path: &Path, global: &Global) -> Result<Config, anyhow::Error> {
    load_bundle(path, global).map(|(_, config)| config)
}

/// The same, with the texts that it was read from.
///
/// # Errors
/// As [`load_config`].
pub fn load_bundle(path: &Path, global: &Global) -> Result<(Bundle, Config), anyhow::Error> {
    load_traced(path, global).map(|(bundle, config, _)| (bundle, config))
}

/// The same, with what the files looked like.
///
/// # Errors
/// As [`load_config`].
pub fn load_traced(path: &Path, global: &Global) -> Result<(Bundle, Config, Traces), anyhow::Error> {
    let file = path.display().to_string();
    let Reading { bundle, checked, traces } =
        Bundle::read(path).with_context(|| format!("cannot read config {file}"))?;
    // A closed stderr must not keep the daemon from starting.
    let _ =
        io::stderr().write_all(print_diagnostics(&checked.diagnostics, global, io::stderr().is_terminal()).as_bytes());
    let summary = || format!("{file}: {}", checked.diagnostics.summary());
    let config = checked.config.ok_or_else(|| Refused { summary: summary() })?;
    Ok((bundle, config, traces))
}

/// Diagnostics as `global` wants them, one JSON object a line or annotated excerpts.
fn print_diagnostics(diagnostics: &Diagnostics, global: &Global, terminal: bool) -> String {
    match global.output {
        Output::Table | Output::Wide => diagnostics.render(output::colours(terminal)),
        Output::Json => {
            let lines: Vec<String> = diagnostics.iter().map(|one| format!("{}\n", serde_json::json!(one))).collect();
            lines.concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["lb -o json -v --pin-path /p check x", "lb check x -v --pin-path=/p -ojson"] {
            let Global { pin_path, api, output, verbose } = parse(line).unwrap().global;
            assert_eq!((pin_path, output, verbose), (PathBuf::from("/p"), Output::Json, 1), "{line}");
            assert_eq!(api, None);
        }
    }

    #[test]
    fn wide_tables_are_asked_for_as_output() {
        assert_eq!(parse("lb vip list -o wide").unwrap().global.output, Output::Wide);
    }

    #[test]
    fn a_refused_config_has_its_own_exit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lb.toml");
        std::fs::write(&file, "mood = 1\n").unwrap();
        let global = parse("lb check x").unwrap().global;
        let error = load_config(&file, &global).unwrap_err();
        assert_eq!(failure(&error), Exit::InvalidConfig);
        assert_eq!(error.to_string(), format!("config refused: {}: 1 error, 2 warnings", file.display()));
        let error = load_config(&folder.path().join("none"), &global).unwrap_err();
        assert_eq!(failure(&error), Exit::Failed);
    }

    #[test]
    fn a_config_with_warnings_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lb.toml");
        std::fs::write(&file, "").unwrap();
        let config = load_config(&file, &parse("lb check x").unwrap().global).unwrap();
        assert!(config.vips.is_empty() && config.dataplane.interfaces.is_empty());
    }
}
