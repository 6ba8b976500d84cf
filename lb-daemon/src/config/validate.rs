//! From a document to the model: ranges, references, duplicates, and what cannot work together.
//!
//! A refused value is replaced by its default, so that the rest is still looked at; the caller throws the model away
//! when there was any error.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    diagnostic::{Code, Complaint},
    include::Documents,
    lists::Lists,
    place::{At, Spanned},
    quantity::{self, Wrong, wrong},
    raw::Section,
    schema,
};
use crate::model::{Config, DaemonConfig, DaemonLoss};

mod access;
mod address;
mod dataplane;
mod health;
mod limits;
mod on_change;
mod pool;
mod program;
mod protection;
mod routes;
mod server_id;
mod targets;
mod templates;
mod tunnels;
mod vip;

/// The newest form of the file that is understood, and so far the only one.
const VERSION: u64 = 1;
/// Upper 12 bits of a socket mark, on the others of which the number of a target goes.
const DEFAULT_PROBE_MARK: u32 = 0x1b00_0000;
const PROBE_MARK_SHIFT: u32 = 20;
const DEFAULT_STATE_DIR: &str = "/var/lib/lb";
const DEFAULT_METRICS_LISTEN: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9650);
/// Bytes of a unix socket's path: `sun_path` less its final zero.
const MAX_SOCKET_PATH: usize = 107;
const LOSSES: [(&str, DaemonLoss); 3] =
    [("keep", DaemonLoss::Keep), ("pass", DaemonLoss::Pass), ("withdraw", DaemonLoss::Withdraw)];
/// Names end up in paths of the API, labels of metrics and columns of tables.
const MAX_NAME: usize = 63;

/// The whole configuration.
pub(super) fn config(documents: &Documents<'_>, lists: &Lists<'_>) -> Config {
    let root = &documents.main;
    version(root);
    let dataplane = dataplane::dataplane(&root.child("dataplane", &schema::DATAPLANE), lists);
    let pools = pool::pools(documents, lists);
    let vips = vip::vips(documents, lists, &pools, &dataplane);
    let (api_socket, api_read_only_socket) = sockets(&root.child("api", &schema::API));
    Config {
        dataplane: dataplane.config,
        daemon: daemon(&root.child("daemon", &schema::DAEMON)),
        api_socket,
        api_read_only_socket,
        metrics_listen: metrics_listen(&root.child("metrics", &schema::METRICS)),
        pools: pools.into_iter().map(|(name, read)| (name, read.pool)).collect(),
        vips,
    }
}

fn version(root: &Section<'_>) {
    let Some(version) = root.integer("version", &(0..=u64::MAX)) else { return };
    if *version.get_ref() != VERSION {
        let complaint = Complaint::new(Code::InvalidValue, version.span(), "`version` is invalid");
        let label = format!("this version of lb reads version {VERSION}");
        root.complain(complaint.label(label).hint(format!("write `version = {VERSION}`")));
    }
}

fn daemon(section: &Section<'_>) -> DaemonConfig {
    let state_dir = path(section, "state_dir", DEFAULT_STATE_DIR, usize::MAX);
    DaemonConfig {
        watch: section.boolean("watch").is_some_and(Spanned::into_inner),
        state_dir: state_dir.map_or_else(|| DEFAULT_STATE_DIR.into(), Spanned::into_inner),
        on_loss: section.choice("on_daemon_loss", &LOSSES).unwrap_or_default(),
        probe_mark: probe_mark(section).unwrap_or(DEFAULT_PROBE_MARK),
        on_change: on_change::on_change(&section.child("on_change", &schema::ON_CHANGE)),
    }
}

/// `probe_mark`: the lower bits are for the number of what is probed.
fn probe_mark(section: &Section<'_>) -> Option<u32> {
    let given = section.integer("probe_mark", &(0..=u64::MAX))?;
    // Whoever reads it thinks of it in hexadecimal.
    let (code, what, label) = match u32::try_from(*given.get_ref()) {
        Ok(mark @ 1..) if mark.trailing_zeros() >= PROBE_MARK_SHIFT => return Some(mark),
        Ok(mark) if mark >> PROBE_MARK_SHIFT > 0 => (Code::InvalidValue, "invalid", "its last 20 bits are not zero"),
        _ => (Code::OutOfRange, "out of range", "not from 0x00100000 to 0xfff00000"),
    };
    let complaint = Complaint::new(code, given.span(), format!("`probe_mark` is {what}")).label(label);
    let hint = format!("give a number that ends in 00000 in hexadecimal, such as {DEFAULT_PROBE_MARK:#x}");
    section.complain(complaint.hint(hint));
    None
}

/// `socket` and `read_only_socket`.
fn sockets(section: &Section<'_>) -> (PathBuf, Option<PathBuf>) {
    let socket = path(section, "socket", super::DEFAULT_API_SOCKET, MAX_SOCKET_PATH);
    let read_only = path(section, "read_only_socket", "/run/lb/lb-read.sock", MAX_SOCKET_PATH);
    let main = socket.as_ref().map_or(Path::new(super::DEFAULT_API_SOCKET), |socket| socket.get_ref());
    if let Some(read_only) = read_only.as_ref().filter(|read_only| read_only.get_ref() == main) {
        let message = "`read_only_socket` is the same path as `socket`";
        let mut complaint = Complaint::new(Code::Conflict, read_only.span(), message).label("again here");
        if let Some(socket) = &socket {
            complaint = complaint.also(socket.span(), "`socket` is here");
        }
        section.complain(complaint.hint("give the read-only socket a path of its own, or remove the key"));
    }
    (main.to_owned(), read_only.map(Spanned::into_inner))
}

fn metrics_listen(section: &Section<'_>) -> Option<std::net::SocketAddr> {
    let parse = |text: &str| match text {
        "off" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| {
            wrong("not an address and a port", "write \"127.0.0.1:9650\", \"[::1]:9650\", or \"off\" for none")
        }),
    };
    section.parsed("listen", parse).map_or(Some(DEFAULT_METRICS_LISTEN), Spanned::into_inner)
}

/// A path that does not depend on where the daemon was started.
fn path(section: &Section<'_>, key: &'static str, example: &str, longest: usize) -> Option<Spanned<PathBuf>> {
    let parse = |text: &str| {
        if !text.starts_with('/') || text.contains('\0') {
            Err(wrong("not an absolute path", format!("begin with a slash: \"{example}\"")))
        } else if text.len() > longest {
            Err(wrong(format!("longer than {longest} bytes"), "choose a shorter path"))
        } else {
            Ok(PathBuf::from(text))
        }
    };
    section.parsed(key, parse)
}

/// A duration under `key` within `range`.
fn duration(section: &Section<'_>, key: &'static str, range: &RangeInclusive<Duration>) -> Option<Spanned<Duration>> {
    let given = section.quantity(key, "s", quantity::duration)?;
    if range.contains(given.get_ref()) {
        return Some(given);
    }
    let [low, high] = [range.start(), range.end()].map(|bound| quantity::show_duration(*bound));
    let complaint = Complaint::new(Code::OutOfRange, given.span(), format!("`{key}` is out of range"));
    let hint = format!("give `{key}` a value from \"{low}\" to \"{high}\"");
    section.complain(complaint.label(format!("not from {low} to {high}")).hint(hint));
    None
}

/// A prime number of slots under `ring_size`.
fn ring_size(section: &Section<'_>) -> Option<u32> {
    const RANGE: RangeInclusive<u64> = 251..=1_048_573;
    let given = section.integer("ring_size", &RANGE)?;
    let number = *given.get_ref();
    if !quantity::is_prime(number) {
        let prime = quantity::nearest_prime(number, &RANGE);
        let label = format!("{number} is not prime: some backends would never get their share");
        section.invalid("ring_size", given.span(), wrong(label, format!("the nearest prime is {prime}")));
        return None;
    }
    u32::try_from(number).ok()
}

/// A whole number under `key` within `range`, which `T` can hold.
fn number<T: TryFrom<u64>>(section: &Section<'_>, key: &'static str, range: &RangeInclusive<u64>) -> Option<T> {
    T::try_from(section.integer(key, range)?.into_inner()).ok()
}

/// `given`, of entries under `key`, if it is a power of two within `range`.
fn power_of_two(section: &Section<'_>, key: &str, given: &Spanned<u64>, range: &RangeInclusive<u64>) -> Option<u32> {
    let (low, high) = range.clone().into_inner();
    let number = *given.get_ref();
    let (code, state, label) = if !range.contains(&number) {
        (Code::OutOfRange, "out of range", format!("{number} entries: not from {low} to {high}"))
    } else if !number.is_power_of_two() {
        (Code::InvalidValue, "invalid", format!("{number} entries: not a power of two"))
    } else {
        return u32::try_from(number).ok();
    };
    let nearest = quantity::nearest_power(number.clamp(low, high));
    let complaint = Complaint::new(code, given.span(), format!("`{key}` is {state}")).label(label);
    section.complain(complaint.hint(format!("the nearest possible value is {nearest}")));
    None
}

/// `unknown_port`, of all VIPs or of one.
fn drops_unknown_port(section: &Section<'_>) -> Option<bool> {
    section.choice("unknown_port", &[("pass", false), ("drop", true)])
}

/// Whether a text is made of what names may be made of, however long it is.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed)
}

/// A name, of a pool, a backend or another thing.
fn name(text: &str) -> Result<String, Wrong> {
    let hint = format!("use up to {MAX_NAME} letters, digits, `-`, `_` and `.`, beginning with a letter or digit");
    if text.len() > MAX_NAME {
        Err(wrong(format!("longer than {MAX_NAME} characters"), hint))
    } else if !is_name(text) {
        Err(wrong("not a name", hint))
    } else {
        Ok(text.to_owned())
    }
}

/// Things that may be given once, with the place of each.
#[derive(Debug)]
struct Once<K>(BTreeMap<K, At>);

impl<K: Ord> Once<K> {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes note of `thing`; complains if it was given before.
    fn note(&mut self, section: &Section<'_>, what: &str, thing: K, span: At, hint: &str) {
        if let Some(first) = self.0.get(&thing) {
            let complaint = Complaint::new(Code::Duplicate, span, format!("{what} is given twice"));
            section.complain(complaint.label("again here").also(*first, "first here").hint(hint));
        } else {
            self.0.insert(thing, span);
        }
    }
}
