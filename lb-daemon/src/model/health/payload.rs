//! Bytes of datagrams, and the check that sends them.

use std::fmt;

/// What an UDP check sends, and what it takes for an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Udp {
    /// What is sent.
    pub send: Payload,
    /// What the answer begins with; without it any answer will do, and none.
    pub expect: Option<Payload>,
}

/// Bytes that are sent or expected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Payload(pub Vec<u8>);

impl fmt::Display for Payload {
    /// As the file may have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.starts_with("hex:") && !text.contains(char::is_control) => write!(f, "{text:?}"),
            _ => {
                f.write_str("\"hex:")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("\"")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_as_text_where_that_is_plain() {
        for (bytes, shown) in [
            (&b"ping \"1\""[..], "\"ping \\\"1\\\"\""),
            (b"\xff\x00\x0a", "\"hex:ff000a\""),
            (b"a\r\n", "\"hex:610d0a\""),
            (b"hex:0a", "\"hex:6865783a3061\""),
        ] {
            assert_eq!(Payload(bytes.into()).to_string(), shown);
        }
    }
}
