//! Server IDs: how backends have them, and which VIPs' packets can carry them.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::{Once, number, pool::ReadPool};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::{At, Spanned},
        quantity,
        raw::Section,
        schema,
    },
    model::{Protocol, Quic, ServerId},
};

/// RFC 9000's connection IDs have at most 20 bytes; draft-ietf-quic-load-balancers leaves 15 of them to the server ID.
const LENGTHS: RangeInclusive<u64> = 1..=15;
/// Configuration 7 marks a connection ID that names no server (section 3 of the draft).
const CONFIGS: RangeInclusive<u64> = 0..=6;
const TAKES: [&str; 3] = ["quic", "tcp_server_id", "udp_stable"];

/// `server_id` of a backend.
pub(super) fn server_id(section: &Section<'_>) -> Option<Spanned<ServerId>> {
    const KEY: &str = "server_id";
    let (_, value) = section.entry(KEY)?;
    let id = match value.get_ref() {
        DeValue::String(_) => section.parsed(KEY, |text| {
            let (value, bytes) = quantity::hex_bytes(text)?;
            Ok(ServerId { value, len: Some(bytes) })
        })?,
        DeValue::Integer(_) => {
            let number = section.integer(KEY, &(0..=u64::MAX))?;
            Spanned::new(number.span(), ServerId { value: u128::from(*number.get_ref()), len: None })
        }
        _ => {
            section.wrong_type(KEY, value, "a whole number, or a string of hexadecimal digits");
            return None;
        }
    };
    Some(id)
}

/// How a VIP's packets name backends.
#[derive(Debug, Default)]
pub(super) struct Routing {
    pub(super) quic: Quic,
    pub(super) tcp_server_id: bool,
    pub(super) udp_stable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layouts {
    Off,
    QuicLb,
    Katran,
}

/// The server IDs of the pools that a VIP uses.
struct Ids<'a> {
    section: &'a Section<'a>,
    pools: &'a [&'a ReadPool],
}

/// `quic`, `quic_lb`, `tcp_server_id` and `udp_stable` of a VIP that uses these pools.
pub(super) fn routing(section: &Section<'_>, protocol: Option<Protocol>, pools: &[&ReadPool]) -> Routing {
    let words = [("off", Layouts::Off), ("quic-lb", Layouts::QuicLb), ("katran", Layouts::Katran)];
    let layouts = section.choice("quic", &words).unwrap_or(Layouts::Off);
    let [tcp_server_id, udp_stable] =
        ["tcp_server_id", "udp_stable"].map(|key| section.boolean(key).is_some_and(Spanned::into_inner));
    let asked = [layouts != Layouts::Off, tcp_server_id, udp_stable];
    for (key, _) in TAKES.into_iter().zip(asked).filter(|(_, asked)| *asked) {
        let needed = if key == "tcp_server_id" { Protocol::Tcp } else { Protocol::Udp };
        if let (Some((_, value)), Some(given)) = (section.entry(key), protocol.filter(|given| *given != needed)) {
            let complaint =
                Complaint::new(Code::Conflict, value.span(), format!("`{key}` needs `protocol = \"{needed}\"`"));
            let other = section.entry("protocol").map_or(section.span(), |(_, protocol)| protocol.span());
            let complaint =
                complaint.label(format!("reads {needed} packets")).also(other, format!("{given} is served"));
            section.complain(complaint.hint(format!("write `protocol = \"{needed}\"`, or remove `{key}`")));
        }
    }
    if let [Some((_, first)), Some((_, second))] = [section.entry("quic"), section.entry("udp_stable")]
        && layouts != Layouts::Off
        && udp_stable
    {
        let complaint = Complaint::new(Code::Conflict, second.span(), "`quic` and `udp_stable` exclude each other");
        let complaint = complaint.label("reads the packet's first bytes").also(first.span(), "so does this");
        section.complain(complaint.hint("remove one of them"));
    }
    let ids = Ids { section, pools };
    if asked.contains(&true) && !pools.is_empty() {
        ids.there(asked);
    }
    ids.below(layouts == Layouts::Katran, "quic", u32::MAX.into());
    ids.below(tcp_server_id, "tcp_server_id", u32::MAX.into());
    ids.below(udp_stable, "udp_stable", (1 << 24) - 1);
    let configured = configured(section, layouts);
    let quic = match (layouts, configured) {
        (Layouts::Off, _) => Quic::Off,
        (Layouts::Katran, _) => Quic::Katran,
        (Layouts::QuicLb, Some(lengths)) => Quic::QuicLb(ids.of_lengths(lengths)),
        (Layouts::QuicLb, None) => Quic::QuicLb([ids.length(); 7]),
    };
    Routing { quic, tcp_server_id, udp_stable }
}

/// The lengths of `quic_lb`, if it is there; 0 for a configuration that it does not have.
fn configured(section: &Section<'_>, layouts: Layouts) -> Option<[u8; 7]> {
    let (key, value) = section.entry("quic_lb")?;
    if layouts != Layouts::QuicLb {
        let complaint = Complaint::new(Code::Conflict, key.span(), "`quic_lb` is for `quic = \"quic-lb\"`");
        section.complain(complaint.hint("write `quic = \"quic-lb\"`, or remove `quic_lb`"));
    }
    if value.get_ref().as_array().is_some_and(|array| array.is_empty()) {
        let complaint = Complaint::new(Code::InvalidValue, value.span(), "`quic_lb` has no configuration");
        let hint = "write [{ config = 0, server_id_length = 4 }], or remove it";
        section.complain(complaint.label("no connection ID would be read").hint(hint));
    }
    let mut seen = Once::new();
    let mut lengths = [0; 7];
    for table in section.children("quic_lb", &schema::QUIC_LB) {
        table.require("config", "add `config = 0`");
        table.require("server_id_length", "add `server_id_length = 4`");
        let config = table.integer("config", &CONFIGS);
        let length = number(&table, "server_id_length", &LENGTHS);
        let Some(config) = config else { continue };
        let what = format!("configuration {} of `quic_lb`", config.get_ref());
        seen.note(section, &what, *config.get_ref(), config.span(), "give each configuration from 0 to 6 once");
        let place = usize::try_from(config.into_inner()).ok().and_then(|config| lengths.get_mut(config));
        if let (Some(place), Some(length)) = (place, length) {
            *place = length;
        }
    }
    Some(lengths)
}

impl Ids<'_> {
    fn all(&self) -> impl Iterator<Item = &(ServerId, std::net::IpAddr, At)> {
        self.pools.iter().flat_map(|pool| &pool.server_ids)
    }

    /// Complains if no backend has a server ID, or if two backends of different pools have the same.
    fn there(&self, asked: [bool; 3]) {
        if self.all().next().is_none() {
            let key = TAKES.into_iter().zip(asked).find(|(_, asked)| *asked).map_or("quic", |(key, _)| key);
            let place = self.section.entry(key).map_or(self.section.span(), |(_, value)| value.span());
            let message = "the VIP routes by server ID, but no backend has one";
            let pool = self.pools.first().map_or("", |pool| pool.pool.name.as_str());
            let hint = format!("add `server_id` to the backends of pool {pool}, or remove `{key}`");
            let complaint = Complaint::new(Code::NoServerIds, place, message).label("packets name server IDs");
            self.section.complain(complaint.hint(hint));
        }
        if self.pools.len() < 2 {
            return;
        }
        let mut all: Vec<_> = self.all().collect();
        all.sort_by_key(|(id, ..)| id.value);
        for pair in all.windows(2) {
            let [(first, a, at), (again, b, at_again)] = pair else { continue };
            if first.value == again.value && a != b {
                let message = format!("server ID {again} is given to two backends of one VIP");
                let complaint = Complaint::new(Code::Duplicate, *at_again, message).label("again here");
                let hint = "give the backends of all pools that a VIP uses server IDs of their own";
                self.section.complain(complaint.also(*at, "first here").hint(hint));
            }
        }
    }

    /// Complains about IDs that are not from 1 to `last`, if `key` is `asked` for.
    fn below(&self, asked: bool, key: &'static str, last: u128) {
        for (id, _, place) in self.all().filter(|(id, ..)| asked && !(1..=last).contains(&id.value)) {
            let message = format!("server ID {id} does not go with `{key}`");
            let hint = format!("give `server_id` a value from 1 to {last}");
            self.complain_of(place, Code::OutOfRange, message, format!("not from 1 to {last}"), key, hint);
        }
    }

    /// These lengths, after a complaint about each ID that does not have one of them.
    fn of_lengths(&self, lengths: [u8; 7]) -> [u8; 7] {
        let configured = || lengths.into_iter().filter(|length| *length > 0);
        let (Some(shortest), mut named) = (configured().min(), configured().collect::<Vec<u8>>()) else {
            return lengths;
        };
        named.sort_unstable();
        named.dedup();
        let named = named.iter().map(u8::to_string).collect::<Vec<_>>().join(" or ");
        for (id, _, place) in self.all() {
            let (wrong, hint) = match id.len {
                Some(len) => (
                    !lengths.contains(&len),
                    format!("write {named} bytes, or add a configuration of {len} bytes to `quic_lb`"),
                ),
                None => (
                    id.bytes() > shortest,
                    format!("give a number below 256^{shortest}, or a longer `server_id_length`"),
                ),
            };
            if wrong {
                let message = format!("server ID {id} has no form of {named} bytes");
                let label = format!("{} bytes", id.len.unwrap_or(id.bytes()));
                self.complain_of(place, Code::InvalidValue, message, label, "quic_lb", hint);
            }
        }
        lengths
    }

    /// The one length that all IDs have or can have.
    fn length(&self) -> u8 {
        let mut written = self.all().filter_map(|(id, _, place)| Some((id.len?, place)));
        let needed = self.all().map(|(id, ..)| id.bytes()).max().unwrap_or(1);
        let Some((length, first)) = written.next() else { return needed };
        let hint = "add `quic_lb = [{ config = 0, server_id_length = 4 }]` to the VIP, with each length that there is";
        if let Some((other, place)) = written.find(|(other, _)| *other != length) {
            let message = "the VIP's server IDs have several lengths, and no `quic_lb` tells which is which";
            let complaint = Complaint::new(Code::Conflict, *place, message).label(format!("{other} bytes"));
            self.section.complain(complaint.also(*first, format!("{length} bytes")).hint(hint));
        }
        let numbers = self.all().filter(|(id, ..)| id.len.is_none() && id.bytes() > length);
        for (id, _, place) in numbers {
            let message = format!("server ID {id} is longer than the VIP's others");
            let complaint = Complaint::new(Code::Conflict, *place, message).label(format!("{} bytes", id.bytes()));
            self.section.complain(complaint.also(*first, format!("{length} bytes")).hint(hint));
        }
        length
    }

    /// A complaint about the ID at `place`, and about what the VIP has under `key`.
    fn complain_of(&self, place: &At, code: Code, message: String, label: String, key: &'static str, hint: String) {
        let vip = self.section.entry(key).map_or(self.section.span(), |(_, value)| value.span());
        let complaint = Complaint::new(code, *place, message).label(label);
        self.section.complain(complaint.also(vip, "the VIP is here").hint(hint));
    }
}
