//! The demo runs to its end, and leaves nothing behind.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{balancer, leftovers, scenario::is_root};
use rustix::process::{Pid, Signal, kill_process};

fn demo() -> Result<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-demo"));
    command.env("LB_BIN", balancer::binary()?).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// The name of the demo's lab, from the first that it prints of it.
fn lab_of<'a>(mut lines: impl Iterator<Item = &'a str>) -> Result<String> {
    let namespace = lines.find_map(|line| line.split_whitespace().find(|word| word.starts_with("lbdemo-")));
    let name = namespace.and_then(|namespace| namespace.rsplit_once('-')).context("no namespace is printed")?;
    Ok(name.0.into())
}

#[test]
fn every_step_of_the_demo_holds_and_nothing_is_left() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let output = demo()?.output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}\n{printed}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(printed.contains("Every step held") && !printed.contains("FAIL"), "{printed}");
    assert_eq!(leftovers::of(&lab_of(printed.lines())?), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_wrong_option_is_a_wrong_use_as_with_lb() -> Result<()> {
    for (option, code) in [("--kep", 64), ("--help", 0)] {
        let output = Command::new(env!("CARGO_BIN_EXE_lb-demo")).arg(option).output()?;
        assert_eq!(output.status.code(), Some(code), "{option}");
    }
    Ok(())
}

#[test]
fn a_demo_that_is_interrupted_cleans_up() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mut child = demo()?.spawn()?;
    let mut printed = BufReader::new(child.stdout.take().context("no pipe")?).lines().map_while(Result::ok);
    let begun: Vec<String> = printed.by_ref().take_while(|line| !line.contains("The balancer's file")).collect();
    let lab = lab_of(begun.iter().map(String::as_str))?;
    ensure!(leftovers::of(&lab).len() > 5, "the demo has no lab {lab}: {begun:?}");
    kill_process(Pid::from_child(&child), Signal::INT)?;
    assert_eq!(child.wait()?.code(), Some(130));
    assert_eq!(leftovers::of(&lab), Vec::<String>::new());
    Ok(())
}
