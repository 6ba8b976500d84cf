//! Files that tcpdump and Wireshark read.

use std::{fs, io, path::Path, time::Duration};

/// Longest frame that such a file holds.
pub const MAX_FRAME: u32 = 65_536;

/// Writes Ethernet frames with the time of each since 1970.
///
/// # Errors
/// When the file cannot be written.
pub fn write<'a>(file: &Path, frames: impl Iterator<Item = (Duration, &'a [u8])>) -> io::Result<()> {
    let mut bytes = Vec::new();
    // Microseconds, version 2.4, Ethernet; see draft-ietf-opsawg-pcap section 4.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, MAX_FRAME, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for (time, frame) in frames {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        for word in [seconds, time.subsec_micros(), length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    fs::write(file, bytes)
}
