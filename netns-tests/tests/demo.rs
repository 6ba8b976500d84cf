//! The demo runs to its end, and leaves nothing behind.

use std::process::Command;

use anyhow::{Result, ensure};
use netns_tests::{balancer, leftovers, netns, scenario::is_root};

fn labs_of_the_demo() -> Result<Vec<String>> {
    let entries = std::fs::read_dir(netns::FOLDER)?.filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with("lbdemo-")).collect())
}

fn demo() -> Result<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-demo"));
    command.env("LB_BIN", balancer::binary()?);
    Ok(command)
}

#[test]
fn every_step_of_the_demo_holds_and_nothing_is_left() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    leftovers::sweep();
    let before = labs_of_the_demo()?;
    let output = demo()?.output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}\n{printed}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(printed.contains("Every step held") && !printed.contains("FAIL"), "{printed}");
    assert_eq!(labs_of_the_demo()?, before);
    Ok(())
}

#[test]
fn a_demo_that_is_interrupted_cleans_up() -> Result<()> {
    use std::io::{BufRead as _, BufReader};
    if !is_root() {
        return Ok(());
    }
    leftovers::sweep();
    let before = labs_of_the_demo()?;
    let mut child = demo()?.stdout(std::process::Stdio::piped()).spawn()?;
    let printed = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut lines = printed.lines().map_while(Result::ok);
    ensure!(lines.any(|line| line.contains("The balancer's file")), "the demo did not come far");
    ensure!(labs_of_the_demo()?.len() > before.len(), "the demo has no lab");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)?;
    let status = child.wait()?;
    assert_eq!(status.code(), Some(130));
    assert_eq!(labs_of_the_demo()?, before);
    Ok(())
}
