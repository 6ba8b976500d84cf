//! Keys of UDP checks.

use crate::{
    config::{
        place::Spanned,
        quantity::{self, Wrong, wrong},
        raw::Section,
    },
    model::{Payload, Udp},
};

/// The keys that this reads.
pub(super) const KEYS: &[&str] = &["send", "expect"];

/// Most bytes of either: they fit any network in one packet, wrapped and all.
const LONGEST: usize = 1024;

/// Nothing if it is not said what to send.
pub(super) fn udp(section: &Section<'_>) -> Option<Udp> {
    let expect = section.parsed("expect", payload).map(Spanned::into_inner);
    Some(Udp { send: section.parsed("send", payload)?.into_inner(), expect })
}

/// Bytes to send or to expect.
pub(super) fn payload(text: &str) -> Result<Payload, Wrong> {
    let bytes = match text.strip_prefix("hex:") {
        Some(digits) => quantity::hex(digits)?,
        None => text.as_bytes().to_vec(),
    };
    match bytes.len() {
        0 => Err(wrong("no bytes at all", "write some text, or \"hex:\" and hexadecimal digits")),
        1..=LONGEST => Ok(Payload(bytes)),
        more => Err(wrong(format!("{more} bytes"), format!("give at most {LONGEST} bytes"))),
    }
}
