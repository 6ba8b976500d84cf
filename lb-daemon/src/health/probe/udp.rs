//! A datagram, and what comes back. A port that nobody listens on and a host that cannot be reached are told by ICMP.

use super::{Failed, Reach};
use crate::model::{Payload, Udp};

/// Most bytes of an answer that are looked at; no expectation is longer.
const LARGEST: usize = 2048;

pub(super) async fn attempt(reach: &Reach, ask: &Udp) -> Result<String, Failed> {
    let socket = reach.datagrams()?;
    socket.send(&ask.send.0).await?;
    let mut answer = [0; LARGEST];
    let length = socket.recv(&mut answer).await?;
    match &ask.expect {
        Some(Payload(expected)) if !answer[..length].starts_with(expected) => {
            Err(Failed::Answer("an answer that does not begin as expected".into()))
        }
        _ => Ok("answered".into()),
    }
}

#[cfg(test)]
mod tests;
