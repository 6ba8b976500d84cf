//! The types of checks, and which keys each of them looks at.

use super::{dns, exec, grpc, http, tls, udp};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        lists::Lists,
        raw::Section,
        schema::either,
    },
    model::{Ask, Dns, Exec, Grpc, Http, Tls, Udp},
};

/// A type of checks that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config::validate) enum Kind {
    None,
    Tcp,
    Tls,
    Http,
    Https,
    Grpc,
    Udp,
    Dns,
    Exec,
}

/// All of them, by name.
pub(in crate::config::validate) const TYPES: [(&str, Kind); 9] = [
    ("none", Kind::None),
    ("tcp", Kind::Tcp),
    ("tls", Kind::Tls),
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("grpc", Kind::Grpc),
    ("udp", Kind::Udp),
    ("dns", Kind::Dns),
    ("exec", Kind::Exec),
];

/// Keys that every type but `none` looks at.
const COMMON: &[&str] = &["probe", "port", "initial", "interval", "fast_interval", "timeout", "rise", "fall"];

/// Keys that some types look at.
const GROUPS: [&[&str]; 6] = [http::KEYS, tls::KEYS, grpc::KEYS, udp::KEYS, dns::KEYS, exec::KEYS];

impl Kind {
    /// `type`, with complaints about keys that it does not look at.
    pub(super) fn of(section: &Section<'_>) -> Option<Self> {
        let kind = section.choice("type", &TYPES)?;
        kind.without_effect(section);
        Some(kind)
    }

    /// Whether checks of this type look at `key`.
    fn knows(self, key: &str) -> bool {
        let own: &[&[&str]] = match self {
            Self::None => return false,
            // It goes wherever it wants.
            Self::Exec if key == "probe" => return false,
            Self::Exec => &[exec::KEYS],
            Self::Tcp => &[],
            Self::Tls => &[tls::KEYS],
            Self::Http => &[http::KEYS],
            Self::Https => &[http::KEYS, tls::KEYS],
            Self::Grpc => &[&["host"], tls::KEYS, grpc::KEYS],
            Self::Udp => &[udp::KEYS],
            Self::Dns => &[dns::KEYS],
        };
        COMMON.contains(&key) || own.iter().any(|keys| keys.contains(&key))
    }

    /// Complains if a key is absent that the type cannot do without.
    pub(super) fn require(self, section: &Section<'_>) {
        let (key, hint) = match self {
            Self::None | Self::Tcp | Self::Tls | Self::Http | Self::Https | Self::Grpc => return,
            Self::Udp => ("send", "say what is sent, such as `send = \"ping\"` or `send = \"hex:0a0b\"`"),
            Self::Dns => ("query", "say what is asked for, such as `query = \"www.example.org\"`"),
            Self::Exec => ("argv", "say what is run, such as `argv = [\"/usr/local/bin/check\"]`"),
        };
        section.require(key, hint);
    }

    /// Complains about keys that the type does not look at. What lies below the type was meant for another one.
    fn without_effect(self, section: &Section<'_>) {
        let beside = |key| section.depth(key).is_some_and(|depth| Some(depth) <= section.depth("type"));
        let keys = COMMON.iter().chain(GROUPS.into_iter().flatten());
        for key in keys.filter(|key| !self.knows(key) && beside(key)) {
            let Some((place, _)) = section.entry(key) else { continue };
            let (code, why) = if self == Self::None {
                (Code::NoEffect, "has no effect with `type = \"none\"`".to_owned())
            } else {
                let name = |wanted| TYPES.into_iter().find(|(_, kind)| *kind == wanted).map_or("", |(name, _)| name);
                let others = either(TYPES.into_iter().filter(|(_, kind)| kind.knows(key)).map(|(name, _)| name));
                (Code::Conflict, format!("is for `type = {others}`, not \"{}\"", name(self)))
            };
            let mut complaint = Complaint::new(code, place.span(), format!("`{key}` {why}"));
            if let Some((kind, _)) = section.entry("type").filter(|_| section.depth(key) < section.depth("type")) {
                complaint = complaint.also(kind.span(), "`type` is from here");
            }
            section.complain(complaint.hint(format!("remove `{key}`, or change `type`")));
        }
    }
}

/// What checks of all types would ask, each key read once: a template has no type of its own.
pub(super) struct Asks {
    http: Http,
    tls: Tls,
    grpc: Grpc,
    udp: Option<Udp>,
    dns: Option<Dns>,
    exec: Option<Exec>,
}

impl Asks {
    pub(super) fn read(section: &Section<'_>, kind: Option<Kind>, lists: &Lists<'_>) -> Self {
        let grpc = grpc::grpc(section);
        grpc::in_plaintext(section, kind, &grpc);
        Self {
            http: http::http(section),
            tls: tls::tls(section, lists),
            grpc,
            udp: udp::udp(section),
            dns: dns::dns(section),
            exec: exec::exec(section),
        }
    }

    /// What a check of this type asks; nothing, if it is none, or lacks what it cannot do without.
    pub(super) fn of(self, kind: Kind) -> Option<Ask> {
        match kind {
            Kind::None => None,
            Kind::Tcp => Some(Ask::Tcp),
            Kind::Tls => Some(Ask::Tls(self.tls)),
            Kind::Http => Some(Ask::Http(self.http)),
            Kind::Grpc => {
                let tls = self.grpc.tls.map(|_| self.tls);
                Some(Ask::Grpc(Grpc { host: self.http.host, tls, ..self.grpc }))
            }
            Kind::Https => Some(Ask::Http(Http { tls: Some(self.tls), ..self.http })),
            Kind::Udp => self.udp.map(Ask::Udp),
            Kind::Dns => self.dns.map(Ask::Dns),
            Kind::Exec => self.exec.map(Ask::Exec),
        }
    }
}
