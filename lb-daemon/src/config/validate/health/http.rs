//! Keys of HTTP checks.

use toml::de::DeValue;

use crate::{
    config::{
        place::Spanned,
        quantity::{self, Wrong, wrong},
        raw::Section,
    },
    model::Http,
};

/// The keys that this reads.
pub(super) const KEYS: &[&str] = &["path", "host", "expect_status"];

const DEFAULT_PATH: &str = "/";
const DEFAULT_STATUS: (u16, u16) = (200, 299);

pub(super) fn http(section: &Section<'_>) -> Http {
    Http {
        path: section.parsed("path", path).map_or_else(|| DEFAULT_PATH.into(), Spanned::into_inner),
        host: section.parsed("host", host).map(Spanned::into_inner),
        expect_status: expect_status(section),
    }
}

/// What a request line can carry (RFC 9112 section 3.2.1).
fn path(text: &str) -> Result<String, Wrong> {
    if !text.starts_with('/') {
        Err(wrong("does not begin with a slash", format!("write \"/{text}\"")))
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        Err(wrong("a space, `#` or non-ASCII character cannot be sent", "write it in percent form, such as %20"))
    } else {
        Ok(text.to_owned())
    }
}

fn host(text: &str) -> Result<String, Wrong> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'[' | b']');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(fits) {
        return Err(wrong("not a host name", "write what a `Host` header carries, such as \"www.example.org\""));
    }
    Ok(text.to_owned())
}

/// Status codes as numbers or strings; never empty.
fn expect_status(section: &Section<'_>) -> Vec<(u16, u16)> {
    const KEY: &str = "expect_status";
    let mut ranges = Vec::new();
    for value in section.array(KEY) {
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => {
                section.wrong_type(KEY, value, "a status code or a string such as \"200-299\"");
                continue;
            }
        };
        match quantity::statuses(&text) {
            Ok(range) => ranges.push(range),
            Err(wrong) => section.invalid(KEY, value.span(), wrong),
        }
    }
    if let Some((_, value)) = section.entry(KEY)
        && value.get_ref().as_array().is_some_and(|array| array.is_empty())
    {
        section.invalid(KEY, value.span(), wrong("no status would be a success", "write [\"200-299\"]"));
    }
    if ranges.is_empty() { vec![DEFAULT_STATUS] } else { ranges }
}
