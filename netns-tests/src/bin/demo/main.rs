//! `lb-demo`: lays out a lab, runs the real balancer in it, and shows what it does. `./dev demo` builds and runs it.
//!
//! The process that is started only watches: a second one does the work, so that whatever ends that one, Ctrl-C
//! included, somebody is left to clean up.

use std::{
    fs::OpenOptions,
    io::{self, Read as _, Write as _},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use netns_tests::{leftovers, scenario::is_root, wait};
use rustix::process::{Pid, Signal, getsid, kill_process, set_parent_process_death_signal, setsid};
use tokio::signal::unix::{SignalKind, signal};

mod report;
mod story;
mod tour;

/// First word of the names that the demo's labs take.
const PREFIX: &str = "lbdemo";
/// Exit code of a command that was interrupted.
const INTERRUPTED: u8 = 130;
/// Exit code of a command line that makes no sense, as `lb` has it.
const USAGE: u8 = lb_daemon::cli::USAGE_EXIT;
/// Last byte that the working process prints if it stays, with its lab: end of transmission.
const STAYS: u8 = 4;

/// Shows lb at work, on this machine alone
#[derive(Debug, Parser)]
#[command(name = "lb-demo")]
struct Arguments {
    /// Leave the lab up afterwards, and print how to look inside
    #[arg(long)]
    keep: bool,
    /// Take down the lab of this name, or every one that was left up
    #[arg(long, value_name = "LAB", num_args = 0..=1, default_missing_value = PREFIX, conflicts_with = "keep")]
    down: Option<String>,
    /// Do the work (the demo starts itself a second time so)
    #[arg(long, hide = true)]
    work: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A reader that went away (`--help | head -1`) is no failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if !is_root() {
        return ExitCode::FAILURE;
    }
    let result = match (arguments.down, arguments.work) {
        (Some(lab), _) => take_down(&lab),
        (None, true) => work(arguments.keep),
        (None, false) => watch(arguments.keep),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lb-demo: {error:#}");
        ExitCode::FAILURE
    })
}

/// Starts the process that does the work, and cleans up after it.
fn watch(keep: bool) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the other process is there: a signal must not end this one alone.
    let signals = runtime
        .block_on(async { Ok::<_, io::Error>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)) });
    let (mut interrupt, mut terminate) = signals.context("cannot handle signals")?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--work")
        .args(keep.then_some("--keep"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the demo's second process")?;
    let pid = Pid::from_child(&child);
    let ended = runtime.block_on(async move {
        let forward = tokio::spawn(async move {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            // It may be gone already.
            let _ = kill_process(pid, Signal::TERM);
        });
        let ended = tokio::task::spawn_blocking(move || end_of(&mut child)).await;
        forward.abort();
        ended
    })??;
    leftovers::sweep();
    if ended.is_none() {
        eprintln!("\nlb-demo: interrupted; what it had made is gone");
    }
    Ok(ended.unwrap_or_else(|| ExitCode::from(INTERRUPTED)))
}

/// Shows what the working process prints until it ends or says that it stays. `None` if a signal ended it.
fn end_of(child: &mut Child) -> Result<Option<ExitCode>> {
    let mut printed = child.stdout.take().context("no pipe")?;
    let mut buffer = [0; 4096];
    loop {
        let text = match printed.read(&mut buffer)? {
            0 => break,
            length => &buffer[..length],
        };
        let stays = text.ends_with(&[STAYS]);
        io::stdout().write_all(text.strip_suffix(&[STAYS]).unwrap_or(text))?;
        io::stdout().flush()?;
        if stays {
            return Ok(Some(ExitCode::SUCCESS));
        }
    }
    let code = child.wait()?.code();
    Ok(code.map(|code| ExitCode::from(u8::try_from(code).unwrap_or(1))))
}

/// Does the work, in the second process.
fn work(keep: bool) -> Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let tour = tour::Tour::start()?;
    let lab = match tour.run(keep) {
        Ok(lab) => lab,
        Err(failed) => {
            println!("\n{failed:#}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let Some(lab) = lab else { return Ok(ExitCode::SUCCESS) };
    stay()?;
    // `--down` ends this process, and whoever runs a lab next clears away what it leaves.
    loop {
        thread::park();
        let _ = &lab;
    }
}

/// Lets the watching process go, and goes on in the background.
fn stay() -> Result<()> {
    set_parent_process_death_signal(None)?;
    setsid().context("cannot leave the terminal")?;
    io::stdout().write_all(&[STAYS])?;
    io::stdout().flush()?;
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    Ok(())
}

/// Ends demos that stayed up, and clears away what they had made. One that is still at work is another's, and goes on.
fn take_down(lab: &str) -> Result<ExitCode> {
    let prefix = format!("{lab}-");
    ensure!(prefix.starts_with(PREFIX), "demos have names that begin with {PREFIX}");
    // See `stay`: only then does it lead a session.
    let stays = |pid: &Pid| getsid(Some(*pid)).is_ok_and(|session| session == *pid);
    let staying = || leftovers::holders(&prefix).into_iter().filter_map(Pid::from_raw).filter(stays);
    let ended: Vec<Pid> = staying().collect();
    for pid in &ended {
        kill_process(*pid, Signal::TERM).with_context(|| format!("cannot end process {}", pid.as_raw_nonzero()))?;
    }
    wait::until("the demo ends", Duration::from_secs(10), || Ok(staying().next().is_none().then_some(())))?;
    leftovers::sweep();
    println!("demo labs taken down: {}", ended.len());
    Ok(ExitCode::SUCCESS)
}
