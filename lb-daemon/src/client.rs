//! What probes and webhooks have in common: connections from here to servers that cannot be trusted to behave.

use std::io;

mod bounded;
pub(crate) mod http;
pub(crate) mod tls;

pub(crate) use self::{
    bounded::Bounded,
    tls::{Clients, system_file},
};

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The other side's fault, or the network's.
    Answer(String),
    /// Our own.
    Here(io::Error),
    /// Our own, and not to be mended by another attempt.
    Never(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL) => Self::Here(error),
            _ => Self::Answer(words(&error)),
        }
    }
}

/// An error in the words of operators, without number.
pub(crate) fn words(error: &io::Error) -> String {
    if let Some(reason) = tls::reason(error) {
        return reason;
    }
    match error.kind() {
        // rustls explains at length what TLS expects there.
        io::ErrorKind::UnexpectedEof if error.to_string().contains("close_notify") => "closed without an answer".into(),
        io::ErrorKind::Other => error.to_string(),
        kind if error.raw_os_error().is_some() && kind.to_string() != "uncategorized error" => kind.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_our_own_is_not_the_others_fault() {
        for number in [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM] {
            assert!(matches!(Failed::from(io::Error::from_raw_os_error(number)), Failed::Here(_)));
        }
        for (number, expected) in [(libc::ECONNREFUSED, "connection refused"), (libc::EHOSTUNREACH, "host unreachable")]
        {
            let Failed::Answer(text) = Failed::from(io::Error::from_raw_os_error(number)) else { panic!("{number}") };
            assert_eq!(text, expected);
        }
    }
}
