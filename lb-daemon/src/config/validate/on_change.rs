//! `[daemon.on_change]`

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use hyper::Uri;
use rustls::pki_types::ServerName;

use super::{duration, program::argv};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::Spanned,
        quantity::{Wrong, wrong},
        raw::Section,
    },
    model::OnChange,
};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES: RangeInclusive<u64> = 0..=100;
const DEFAULT_RETRIES: u32 = 3;

/// Who is told of changes; nobody, if there is no such section.
pub(super) fn on_change(section: &Section<'_>) -> Option<Arc<OnChange>> {
    if !section.is_present() {
        return None;
    }
    let exec = argv(section, "exec").unwrap_or_default();
    let webhook = section.parsed("webhook", webhook).map(Spanned::into_inner);
    if section.entry("exec").is_none() && section.entry("webhook").is_none() {
        let complaint = Complaint::new(Code::MissingKey, section.span(), "[daemon.on_change] tells nobody");
        section.complain(
            complaint.hint("add `exec = [\"/usr/local/bin/tell\"]` or `webhook = \"https://example.org/changes\"`"),
        );
    }
    let retries = section.integer("retries", &RETRIES).and_then(|count| u32::try_from(count.into_inner()).ok());
    Some(Arc::new(OnChange {
        exec,
        webhook,
        timeout: duration(section, "timeout", &TIMEOUT).map_or(DEFAULT_TIMEOUT, Spanned::into_inner),
        retries: retries.unwrap_or(DEFAULT_RETRIES),
    }))
}

/// A URL that can be posted to.
fn webhook(text: &str) -> Result<String, Wrong> {
    let example = "write it as in \"https://example.org/changes\"";
    let uri: Uri = text.parse().map_err(|_| wrong("not a URL", example))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("begins neither with http:// nor with https://", example));
    }
    let (host, authority) =
        (uri.host().unwrap_or_default(), uri.authority().map_or("", |authority| authority.as_str()));
    if authority.contains('@') {
        return Err(wrong("users and passwords are not sent", "leave them out, or have a program post: `exec`"));
    }
    let has_port = authority == host || uri.port_u16().is_some_and(|port| port > 0);
    if !has_port || ServerName::try_from(host.trim_matches(['[', ']'])).is_err() {
        return Err(wrong("names no host, or no port, that can be reached", example));
    }
    Ok(text.to_owned())
}
