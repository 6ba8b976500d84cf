//! `[pool.NAME.health]`

use std::{ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

use super::{duration, templates::Templates};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::{At, Spanned},
        quantity::{self, Wrong, wrong},
        raw::Section,
        schema,
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
pub(super) enum Kind {
    None,
    Tcp,
    Http,
}

pub(super) const TYPES: [(&str, Kind); 3] = [("none", Kind::None), ("tcp", Kind::Tcp), ("http", Kind::Http)];
const LATER_TYPES: [&str; 6] = ["https", "udp", "dns", "grpc", "tls", "exec"];
const HTTP_KEYS: [&str; 3] = ["path", "host", "expect_status"];
const KEYS: [&str; 9] = ["probe", "port", "path", "host", "expect_status", "interval", "timeout", "rise", "fall"];

/// A health section as it was read.
struct Settings {
    health: Health,
    interval: Option<Spanned<Duration>>,
    timeout: Option<Spanned<Duration>>,
}

/// The health check of a pool, and the place that tells of it; no section means none.
pub(super) fn health<'a>(pool: &Section<'a>, templates: &mut Templates<'a>) -> (Health, At) {
    let none = pool.absent(&schema::HEALTH, pool.span());
    let Some((_, value)) = pool.entry("health") else { return (settings(&none).health, pool.span()) };
    let (own, named) = match value.get_ref() {
        DeValue::String(_) => (pool.absent(&schema::HEALTH, value.span()), pool.string("health")),
        DeValue::Table(_) => {
            let own = pool.child("health", &schema::HEALTH);
            (own, own.string("template"))
        }
        _ => {
            let hint = "write `health = { type = \"tcp\" }`, or the name of a [health.NAME] in quotes";
            pool.mistyped("health", value, "a table or the name of a template", hint.into());
            return (settings(&none).health, value.span());
        }
    };
    let Some(merged) = templates.under(own, named) else { return (settings(&none).health, own.span()) };
    merged.require("type", "add `type = \"tcp\"`, or \"http\", or \"none\"");
    let Settings { health, interval, timeout } = settings(&merged);
    if let Some(timeout) = timeout.filter(|timeout| *timeout.get_ref() > health.interval) {
        too_long(&merged, &timeout, interval.as_ref(), health.interval);
    }
    (health, own.span())
}

/// What a section says, key by key.
pub(super) fn look_through(section: &Section<'_>) {
    settings(section);
}

fn settings(section: &Section<'_>) -> Settings {
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
    let interval = duration(section, "interval", &INTERVAL);
    let timeout = duration(section, "timeout", &TIMEOUT);
    let length = interval.map_or(DEFAULT_INTERVAL, Spanned::into_inner);
    let streak = |key, default| {
        section.integer(key, &STREAK).and_then(|count| u32::try_from(count.into_inner()).ok()).unwrap_or(default)
    };
    let health = Health {
        check: match kind {
            None | Some(Kind::None) => Check::None,
            Some(Kind::Tcp) => Check::Tcp,
            Some(Kind::Http) => http,
        },
        port,
        interval: length,
        timeout: timeout.map_or(DEFAULT_TIMEOUT.min(length), Spanned::into_inner),
        rise: streak("rise", DEFAULT_RISE),
        fall: streak("fall", DEFAULT_FALL),
    };
    Settings { health, interval, timeout }
}

/// Complains that `timeout` is longer than `interval`, which is `length`; at the one of them that was written nearer to the
/// pool.
fn too_long(
    section: &Section<'_>,
    timeout: &Spanned<Duration>,
    interval: Option<&Spanned<Duration>>,
    length: Duration,
) {
    let [shown, needed] = [length, *timeout.get_ref()].map(quantity::show_duration);
    section.complain(match interval {
        Some(interval) if section.depth("interval") < section.depth("timeout") => {
            Complaint::new(Code::Conflict, interval.span(), "`interval` is shorter than `timeout`")
                .label(format!("shorter than {needed}, which a probe may take"))
                .also(timeout.span(), "`timeout` is here")
                .hint(format!("give `interval` at least \"{needed}\", or a shorter `timeout`"))
        }
        _ => {
            let complaint = Complaint::new(Code::Conflict, timeout.span(), "`timeout` is longer than `interval`")
                .label(format!("longer than {shown}, the time between two probes"))
                .hint(format!("give `timeout` at most \"{shown}\", or a longer `interval`"));
            match interval {
                Some(interval) => complaint.also(interval.span(), "`interval` is here"),
                None => complaint,
            }
        }
    });
}

/// Complains about keys that the check's type does not look at. What lies below the type was meant for another one.
fn without_effect(section: &Section<'_>, kind: Kind) {
    let (code, keys, why) = match kind {
        Kind::Http => return,
        Kind::Tcp => (Code::Conflict, HTTP_KEYS.as_slice(), "is for `type = \"http\"`, not \"tcp\""),
        Kind::None => (Code::NoEffect, KEYS.as_slice(), "has no effect with `type = \"none\"`"),
    };
    let beside = |key| section.depth(key).is_some_and(|depth| Some(depth) <= section.depth("type"));
    for key in keys.iter().filter(|key| beside(key)) {
        if let Some((place, _)) = section.entry(key) {
            let mut complaint = Complaint::new(code, place.span(), format!("`{key}` {why}"));
            if let Some((kind, _)) = section.entry("type").filter(|_| section.depth(key) < section.depth("type")) {
                complaint = complaint.also(kind.span(), "`type` is from here");
            }
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
