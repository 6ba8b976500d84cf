//! Keys of DNS checks.

use crate::{
    config::{
        place::Spanned,
        quantity::{Wrong, wrong},
        raw::Section,
    },
    model::{Dns, Rcode, RecordType, Transport},
};

/// The keys that this reads.
pub(super) const KEYS: &[&str] = &["query", "query_type", "expect_rcode", "expect_answer", "transport"];

/// Longest name and longest part of one between two dots, in bytes as they are written (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Most bytes of an answer: as many as one text of a record has.
const LONGEST_ANSWER: usize = 255;

/// Nothing if it is not said what to ask for.
pub(super) fn dns(section: &Section<'_>) -> Option<Dns> {
    let query = section.parsed("query", query).map(Spanned::into_inner);
    let query_type = section.choice("query_type", RecordType::ALL).unwrap_or(RecordType::A);
    let expect_rcode = section.choice("expect_rcode", Rcode::ALL).unwrap_or(Rcode::NoError);
    let expect_answer = section.parsed("expect_answer", answer).map(Spanned::into_inner);
    let transport = section.choice("transport", Transport::ALL).unwrap_or(Transport::Udp);
    Some(Dns { query: query?, query_type, expect_rcode, expect_answer, transport })
}

/// A name that a question can carry: `.`, or labels with dots between and maybe one at the end.
fn query(text: &str) -> Result<String, Wrong> {
    let hint = "write a name such as \"www.example.org\", or \".\" for the root";
    let labels = text.strip_suffix('.').unwrap_or(text);
    if text == "." {
        Ok(text.to_owned())
    } else if labels.len() > LONGEST_NAME {
        Err(wrong(format!("longer than {LONGEST_NAME} characters"), hint))
    } else if !labels.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        Err(wrong("not a name", format!("{hint}; one in another script is written \"xn--...\"")))
    } else if labels.split('.').any(|label| label.is_empty() || label.len() > LONGEST_LABEL) {
        Err(wrong(format!("a part between dots is not 1 to {LONGEST_LABEL} characters long"), hint))
    } else {
        Ok(text.to_owned())
    }
}

fn answer(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.len() > LONGEST_ANSWER {
        let hint = "write an address such as \"192.0.2.1\", a name, or a text; without the key any answer will do";
        return Err(wrong(format!("not 1 to {LONGEST_ANSWER} bytes"), hint));
    }
    Ok(text.to_owned())
}
