//! A program that is run, and its exit code.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::Verdict;
use crate::{
    health::Member,
    model::Exec,
    runner::{How, Lacking, Program, Runner},
};

/// Adds what the program is asked for to its environment.
pub(in crate::health) fn tell(exec: &mut Exec, member: Member, check: &Arc<str>, target: SocketAddr) {
    let told = [
        ("LB_VIP", member.service.some_address().to_string()),
        ("LB_VIP_PORT", member.service.port.to_string()),
        ("LB_PROTOCOL", member.service.protocol.to_string()),
        ("LB_ADDRESS", member.backend.to_string()),
        ("LB_PORT", target.port().to_string()),
        ("LB_CHECK", check.to_string()),
    ];
    exec.env.extend(told.map(|(name, value)| (name.to_owned(), value)));
}

/// The runner keeps the time: a program that waits for its turn has not begun.
pub(super) async fn run(exec: &Exec, timeout: Duration, runner: Option<&Runner>) -> (Verdict, String) {
    let Some(runner) = runner else {
        return (Verdict::Impossible, "there is no process that runs programs; restart lb".into());
    };
    let program = Program { argv: exec.argv.clone(), env: exec.env.clone(), input: None, timeout };
    match runner.run(program).await {
        Ok(ended) => (verdict(&ended.how), ended.words(timeout)),
        // It still does what it did when it was killed for want of a result.
        Err(lingers @ Lacking::Lingers) => (Verdict::Timeout, lingers.to_string()),
        // Says nothing about the backend.
        Err(lacking) => (Verdict::Skipped, lacking.to_string()),
    }
}

fn verdict(how: &How) -> Verdict {
    match how {
        How::Code(0) => Verdict::Success,
        How::Code(_) | How::Signal(_) | How::Endless => Verdict::Failure,
        How::Late => Verdict::Timeout,
        How::Never(_) => Verdict::Impossible,
    }
}
