//! `[pool.NAME.health]`

use std::{ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

use super::duration;
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::Spanned,
        quantity::{self, Wrong, wrong},
        raw::Section,
    },
    model::{Check, Health},
};

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const STREAK: RangeInclusive<u64> = 1..=100;
const DEFAULT_RISE: u32 = 2;
const DEFAULT_FALL: u32 = 3;
const DEFAULT_PATH: &str = "/";
const DEFAULT_STATUS: (u16, u16) = (200, 299);

/// The types that are built, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Tcp,
    Http,
}

const TYPES: [(&str, Kind); 3] = [("none", Kind::None), ("tcp", Kind::Tcp), ("http", Kind::Http)];
const LATER_TYPES: [&str; 6] = ["https", "udp", "dns", "grpc", "tls", "exec"];
const HTTP_KEYS: [&str; 3] = ["path", "host", "expect_status"];
const KEYS: [&str; 9] = ["probe", "port", "path", "host", "expect_status", "interval", "timeout", "rise", "fall"];

/// The health check of a pool; no section means none.
pub(super) fn health(section: &Section<'_>) -> Health {
    if section.is_present() {
        section.require("type", "add `type = \"tcp\"`, or \"http\", or \"none\"");
    }
    let kind = section.choice("type", &TYPES, &LATER_TYPES);
    if let Some(kind) = kind {
        without_effect(section, kind);
    }
    section.choice("probe", &[("direct", ())], &["vip"]);
    let http = Check::Http {
        path: section.parsed("path", path).map_or_else(|| DEFAULT_PATH.into(), Spanned::into_inner),
        host: section.parsed("host", host).map(Spanned::into_inner),
        expect_status: expect_status(section),
    };
    let port = section.integer("port", &(1..=65_535)).and_then(|port| u16::try_from(port.into_inner()).ok());
    let (interval, timeout) = times(section);
    let streak = |key, default| {
        section.integer(key, &STREAK).and_then(|count| u32::try_from(count.into_inner()).ok()).unwrap_or(default)
    };
    Health {
        check: match kind {
            None | Some(Kind::None) => Check::None,
            Some(Kind::Tcp) => Check::Tcp,
            Some(Kind::Http) => http,
        },
        port,
        interval,
        timeout,
        rise: streak("rise", DEFAULT_RISE),
        fall: streak("fall", DEFAULT_FALL),
    }
}

/// `interval` and `timeout`, the latter never longer.
fn times(section: &Section<'_>) -> (Duration, Duration) {
    let interval = duration(section, "interval", &INTERVAL);
    let length = interval.as_ref().map_or(DEFAULT_INTERVAL, |interval| *interval.get_ref());
    let Some(timeout) = duration(section, "timeout", &TIMEOUT) else {
        return (length, DEFAULT_TIMEOUT.min(length));
    };
    if *timeout.get_ref() > length {
        let shown = quantity::show_duration(length);
        let mut complaint = Complaint::new(Code::Conflict, timeout.span(), "`timeout` is longer than `interval`")
            .label(format!("longer than {shown}, the time between two probes"))
            .hint(format!("give `timeout` at most \"{shown}\", or a longer `interval`"));
        if let Some(interval) = &interval {
            complaint = complaint.also(interval.span(), "`interval` is here");
        }
        section.complain(complaint);
    }
    (length, timeout.into_inner())
}

/// Complains about keys that the check's type does not look at.
fn without_effect(section: &Section<'_>, kind: Kind) {
    let (code, keys, why) = match kind {
        Kind::Http => return,
        Kind::Tcp => (Code::Conflict, HTTP_KEYS.as_slice(), "is for `type = \"http\"`, not \"tcp\""),
        Kind::None => (Code::NoEffect, KEYS.as_slice(), "has no effect with `type = \"none\"`"),
    };
    for key in keys {
        if let Some((place, _)) = section.entry(key) {
            let complaint = Complaint::new(code, place.span(), format!("`{key}` {why}"));
            section.complain(complaint.hint(format!("remove `{key}`, or change `type`")));
        }
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
