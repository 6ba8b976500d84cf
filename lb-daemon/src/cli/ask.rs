//! Asks the daemon on behalf of a command.

use std::time::Duration;

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime;

use super::Global;
use crate::api::client::{Client, ClientError};

/// Asks for a resource and waits for the answer. The error is a [`crate::api::client::ClientError`], unless the system
/// has no place for a socket.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub(super) fn get<T: DeserializeOwned>(global: &Global, path: &str) -> Result<T, anyhow::Error> {
    wait(Client::new(global.socket()).get(path))
}

/// Asks for something to be done and waits for the answer. Errors are those of [`get`].
///
/// # Errors
/// When no daemon answers, or it refuses.
pub(super) fn post<T: DeserializeOwned>(
    global: &Global,
    path: &str,
    body: &impl Serialize,
) -> Result<T, anyhow::Error> {
    wait(Client::new(global.socket()).post(path, body))
}

fn wait<T>(answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, anyhow::Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot wait for an answer")?;
    Ok(runtime.block_on(answer)?)
}

/// Whether there was no daemon to ask.
pub(super) fn found_no_daemon(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::NoDaemon { .. }))
}

/// Text as a part of a path or of a query.
pub(super) fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A time in seconds, up to the next one: a wait is never shorter than what was asked for.
pub(super) fn seconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// What still works without a daemon, for a command that needs one and found none.
pub(super) fn without_daemon(global: &Global, error: &anyhow::Error) -> Option<String> {
    if !found_no_daemon(error) {
        return None;
    }
    let at = global.pin_path.display();
    Some(if global.pin_path.exists() {
        format!(
            "what is pinned at {at} forwards on; `lb status`, `vip`, `backend`, `stats`, `top`, `flow`, `ring`, `explain` and \
             `plan` read it without a daemon"
        )
    } else {
        format!("nothing is loaded at {at} either; start a daemon: `lb run --config FILE`")
    })
}

/// The time in words: the two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A user by name and number, as far as they are known.
pub(super) fn user(name: Option<&str>, uid: Option<u32>) -> Option<String> {
    match (name, uid) {
        (Some(name), Some(uid)) => Some(format!("{name} ({uid})")),
        (Some(name), None) => Some(name.to_owned()),
        (None, uid) => uid.map(|uid| format!("uid {uid}")),
    }
}

/// The share of a whole in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_into_paths_whole() {
        assert_eq!(escape("web-1.a_b"), "web-1.a_b");
        assert_eq!(escape("[::1]:443 tcp/ä"), "%5B%3A%3A1%5D%3A443%20tcp%2F%C3%A4");
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        for (seconds, words) in [(7, "7 s"), (61, "1 min 1 s"), (7265, "2 h 1 min"), (180_000, "2 d 2 h")] {
            assert_eq!(duration(seconds), words);
        }
    }
}
