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
    /// It cannot be made as things are. Says nothing about a backend of which something is known, and of another one only
    /// that nothing will be.
    Impossible,
}

/// Makes one attempt, by this way if it is to be carried, and then from none of these addresses. Never takes much longer than its timeout; may be dropped at any
/// time.
pub(super) async fn run(
    probe: &Probe,
    (way, taken): (Option<Way>, &BTreeSet<IpAddr>),
    clients: &Clients,
    runner: Option<&Runner>,
) -> Outcome {
    let start = Instant::now();
    if let Ask::Exec(exec) = &probe.ask {
        let (result, text) = Box::pin(exec::run(exec, probe.timeout, runner)).await;
        return Outcome { result, latency: start.elapsed(), text, said: None };
    }
    let (reach, detour) = match reach(probe, way, taken) {
        Ok(found) => found,
        Err(reason) => {
            let text = format!("{reason}: mend that, or set `probe = \"direct\"`");
            return Outcome { result: Verdict::Impossible, latency: start.elapsed(), text, said: None };
        }
    };
    let attempted = timeout(probe.timeout, attempt(probe, &reach, clients)).await;
    let (result, mut text, said) = match attempted {
        Ok(Ok((text, said))) => (Verdict::Success, text, said),
        Ok(Err(Failed::Answer(text))) => (Verdict::Failure, text, None),
        Ok(Err(Failed::Here(error))) => (Verdict::Skipped, error.to_string(), None),
        Ok(Err(Failed::Never(text))) => (Verdict::Impossible, text, None),
        Err(_) if probe.ask.takes_silence() => (Verdict::Success, "sent, and no error came back".into(), None),
        Err(_) => (Verdict::Timeout, format!("no answer within {:?}", probe.timeout), None),
    };
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

/// The answer in words, and what an agent said.
async fn attempt(probe: &Probe, reach: &Reach, clients: &Clients) -> Result<(String, Option<Said>), Failed> {
    if reach.to().port() == 0 {
        return Err(Failed::Answer("no port to probe: the vip serves any port and the check names none".into()));
    }
    let text = match &probe.ask {
        Ask::Tcp => tcp::attempt(reach).await,
        // Each in a box of its own, or probes of every type would take the room of the largest.
        Ask::Tls(tls) => Box::pin(tls::attempt(reach, tls, clients)).await,
        Ask::Http(http) => Box::pin(http::attempt(reach, http, clients)).await,
        Ask::Grpc(grpc) => Box::pin(grpc::attempt(reach, grpc, clients)).await,
        Ask::Udp(udp) => Box::pin(udp::attempt(reach, udp)).await,
        // It is nobody that is reached.
        Ask::Exec(_) => Err(Failed::Never("a program is run, not reached".into())),
        Ask::Dns(dns) => Box::pin(dns::attempt(reach, dns)).await,
        Ask::Agent(send) => {
            let said = Box::pin(agent::attempt(reach, send.as_ref())).await?;
            return Ok((said.to_string(), Some(said)));
        }
    };
    Ok((text?, None))
}

#[cfg(test)]
mod tests;
