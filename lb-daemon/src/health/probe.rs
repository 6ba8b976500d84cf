//! One attempt to reach a backend.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use self::reach::Reach;
use super::{Member, Way, agent::Said};
use crate::{
    client::{Clients, Failed},
    model::Ask,
    runner::Runner,
};

mod agent;
mod dns;
pub(super) mod exec;
mod grpc;
mod http;
mod reach;
mod tcp;
mod tls;
mod udp;

/// What to ask of whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// Address and port to connect to: the backend's, or the VIP's if it is to be carried to the backend.
    pub target: SocketAddr,
    /// The backend that it is to be carried to.
    pub carried_to: Option<Member>,
    /// Whether it asks at the backend's own address where it cannot be carried.
    pub else_directly: bool,
    /// Longest time for the whole attempt.
    pub timeout: Duration,
    /// What is asked, and what counts as an answer; what it leaves to the VIP is filled in.
    pub ask: Ask,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In one word.
    pub result: Verdict,
    /// How long it took.
    pub latency: Duration,
    /// In words, and without figures that differ each time: `200 OK`, `connection refused`.
    pub text: String,
    /// What was said, if an agent was asked and understood.
    pub said: Option<Said>,
}

/// How an attempt ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Success,
    /// Otherwise than expected.
    Failure,
    /// Not in time.
    Timeout,
    /// It could not be made, for want of descriptors, ports or memory here. Says nothing about the backend.
    Skipped,
    /// It cannot be made as things are, and will not be until somebody mends that. Says nothing about the backend either.
    Impossible,
}

/// What came of an attempt: in words, and what was said if an agent was asked.
struct Answer {
    text: String,
    said: Option<Said>,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { text, said: None }
    }
}

impl From<Said> for Answer {
    fn from(said: Said) -> Self {
        Self { text: said.to_string(), said: Some(said) }
    }
}

/// Makes one attempt, by this way if it is to be carried, and then from none of these addresses. Never takes much longer than
/// its timeout; may be dropped at any time.
pub(super) async fn run(
    probe: &Probe,
    (way, taken): (Option<Way>, &BTreeSet<IpAddr>),
    clients: &Clients,
    runner: Option<&Runner>,
) -> Outcome {
    let start = Instant::now();
    let (reach, detour) = match reach(probe, way, taken) {
        Ok(found) => found,
        Err(reason) => {
            let text = format!("{reason}: mend that, or set `probe = \"direct\"`");
            return Outcome { result: Verdict::Impossible, latency: start.elapsed(), text, said: None };
        }
    };
    // Each in a box of its own, or probes of every type would take the room of the largest.
    let (result, answer) = match &probe.ask {
        Ask::Tcp => within(probe, tcp::attempt(&reach)).await,
        Ask::Tls(tls) => within(probe, Box::pin(tls::attempt(&reach, tls, clients))).await,
        Ask::Http(http) => within(probe, Box::pin(http::attempt(&reach, http, clients))).await,
        Ask::Grpc(grpc) => within(probe, Box::pin(grpc::attempt(&reach, grpc, clients))).await,
        Ask::Udp(udp) => within(probe, Box::pin(udp::attempt(&reach, udp))).await,
        Ask::Dns(dns) => within(probe, Box::pin(dns::attempt(&reach, dns))).await,
        Ask::Agent(send) => within(probe, Box::pin(agent::attempt(&reach, send.as_ref()))).await,
        // It is nobody that is reached.
        Ask::Exec(exec) => {
            let (result, text) = Box::pin(exec::run(exec, probe.timeout, runner)).await;
            (result, text.into())
        }
    };
    let Answer { mut text, said } = answer;
    if let Some(reason) = detour {
        let _ = write!(text, ", asked directly: {reason}");
    }
    Outcome { result, latency: start.elapsed(), text, said }
}

/// Where to ask, and why directly although the VIP was to be asked.
///
/// # Errors
/// Why the VIP cannot be asked, if nothing else will do.
fn reach(probe: &Probe, way: Option<Way>, taken: &BTreeSet<IpAddr>) -> Result<(Reach, Option<String>), String> {
    let (Some(member), Some(way)) = (probe.carried_to, way) else { return Ok((Reach::direct(probe.target), None)) };
    match Reach::by(&way, probe.target, member.backend, taken) {
        Ok(reach) => Ok((reach, None)),
        Err(reason) if probe.else_directly => {
            let to = SocketAddr::new(member.backend, probe.target.port());
            Ok((Reach::direct(to), Some(reason)))
        }
        Err(reason) => Err(reason),
    }
}

/// Waits for the end of an attempt, for as long as the probe may take.
async fn within<T: Into<Answer>>(probe: &Probe, attempt: impl Future<Output = Result<T, Failed>>) -> (Verdict, Answer) {
    match timeout(probe.timeout, attempt).await {
        Ok(Ok(answer)) => (Verdict::Success, answer.into()),
        Ok(Err(Failed::Answer(text))) => (Verdict::Failure, text.into()),
        Ok(Err(Failed::Here(error))) => (Verdict::Skipped, error.to_string().into()),
        Ok(Err(Failed::Never(text))) => (Verdict::Impossible, text.into()),
        Err(_) if probe.ask.takes_silence() => (Verdict::Success, "sent, and no error came back".to_owned().into()),
        Err(_) => (Verdict::Timeout, format!("no answer within {:?}", probe.timeout).into()),
    }
}

#[cfg(test)]
mod tests;
