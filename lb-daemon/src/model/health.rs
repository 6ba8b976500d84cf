//! How it is told which backends of a pool may take traffic: `[pool.NAME.health]` and what belongs to it.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use super::Protocol;

mod dns;
mod exec;
mod grpc;
mod http;
mod payload;
mod tls;

pub use self::{
    dns::{Dns, Rcode, RecordType, Transport},
    exec::Exec,
    grpc::Grpc,
    http::{Body, Http, Method, Pattern},
    payload::{Payload, Udp},
    tls::{Authorities, Tls, Trust},
};

/// All that a pool says of the health of its backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `[pool.NAME.health]`, or each of `[[pool.NAME.health]]`; names are unique. Empty: nothing is asked, and all are up.
    pub checks: Vec<Check>,
    /// `health_match`
    pub matching: Matching,
    /// `[pool.NAME.damping]`
    pub damping: Option<Damping>,
    /// `[pool.NAME.passive]`: what traffic tells; `None` if nobody listens.
    pub passive: Option<Passive>,
    /// `[pool.NAME.agent]`: what each backend's agent is asked; `None` if none is. It passes while what the agent says is
    /// understood.
    pub agent: Option<Check>,
    /// `slow_start`: how long a backend that comes into service takes to get its whole weight, while others serve.
    pub slow_start: Option<Duration>,
}

impl Health {
    /// Whether anything tells who is up; if not, all are.
    pub fn is_watched(&self) -> bool {
        !self.checks.is_empty() || self.passive.is_some() || self.agent.is_some()
    }

    /// All that is asked of each backend: its checks, and its agent.
    pub fn asked(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().chain(&self.agent)
    }
}

/// When clients' handshakes that do not complete take new flows from a backend: `[pool.NAME.passive]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// How far it is looked back, at most.
    pub window: Duration,
    /// New flows that it takes to tell.
    pub min_new_flows: u32,
    /// Percentage of new flows whose handshake completes, below which a backend is ejected.
    pub success_below: u8,
    /// How long the first ejection lasts.
    pub eject_for: Duration,
    /// Percentage of a VIP's backends of the pool that may be out of service by ejections.
    pub max_ejected: u8,
}

/// How many of a pool's checks a backend has to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// Every one.
    #[default]
    All,
    /// One of them.
    Any,
}

impl fmt::Display for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Any => "any",
        })
    }
}

/// A backend that goes up and down all the time is held down for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damping {
    /// So many times it went down
    pub flaps: u32,
    /// within so long a time.
    pub within: Duration,
    /// So long it is held down from the last of these times on.
    pub hold_for: Duration,
}

impl Damping {
    /// Most of `flaps`.
    pub const MOST_FLAPS: u32 = 100;
}

/// A check of each backend of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name; that of its type unless the file says otherwise. What is known of a backend is kept under it.
    pub name: Arc<str>,
    /// What is asked.
    pub ask: Ask,
    /// By which way.
    pub route: Route,
    /// Port to ask; `None` is the VIP's own.
    pub port: Option<u16>,
    /// What a backend is before its first results.
    pub initial: Initial,
    /// Time between the starts of two probes.
    pub interval: Duration,
    /// The same until the first result, and while results count against what the backend is; `None`: no other.
    pub fast_interval: Option<Duration>,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Successes in a row that take a backend up.
    pub rise: u32,
    /// Failures in a row that take a backend down.
    pub fall: u32,
}

impl Check {
    /// Name of the question to an agent, which no check beside it may have.
    pub const AGENT: &str = "agent";
    /// Time between the starts of two probes, unless the file says otherwise.
    pub const INTERVAL: Duration = Duration::from_secs(2);

    /// A check of which only the type is given.
    pub fn of(ask: Ask) -> Self {
        Self {
            name: ask.kind().into(),
            ask,
            route: Route::default(),
            port: None,
            initial: Initial::default(),
            interval: Self::INTERVAL,
            fast_interval: None,
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }

    /// A question to an agent on this port.
    pub fn of_agent(port: u16, send: Option<Payload>) -> Self {
        Self { port: Some(port), rise: 1, fall: 1, ..Self::of(Ask::Agent(send)) }
    }
}

/// What a backend is before its first results: in the eyes of a check that is new, or of a daemon that was just started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Initial {
    /// Down, until `rise` successes in a row.
    Down,
    /// Up, until `fall` failures in a row.
    Up,
    /// What it was when the daemon ended; if nobody knows, the first result alone decides.
    #[default]
    Last,
}

impl fmt::Display for Initial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::Last => "last",
        })
    }
}

/// The way of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// To the backend's own address, as the host's routes say.
    #[default]
    Direct,
    /// To the VIP's address, wrapped for that backend as clients' packets are.
    Vip,
    /// The same where that can be, else directly.
    VipIfPossible,
}

impl Route {
    /// Whether probes go to the VIP's address, if that can be.
    pub fn is_by_vip(self) -> bool {
        self != Self::Direct
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Vip => "vip",
            Self::VipIfPossible => "vip if possible",
        })
    }
}

/// What a probe asks of a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// A TCP connection that opens.
    Tcp,
    /// A TLS handshake that completes.
    Tls(Tls),
    /// An HTTP/1.1 request that is answered as expected, over TLS perhaps.
    Http(Http),
    /// How a gRPC server says that its service is.
    Grpc(Grpc),
    /// A datagram, and what comes back.
    Udp(Udp),
    /// A question to a name server.
    Dns(Dns),
    /// What a program makes of it.
    Exec(Exec),
    /// What an agent beside it says, to which this is sent first.
    Agent(Option<Payload>),
}

impl Ask {
    /// `type`
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls(_) => "tls",
            Self::Http(Http { tls: None, .. }) => "http",
            Self::Http(_) => "https",
            Self::Grpc(_) => "grpc",
            Self::Udp(_) => "udp",
            Self::Dns(_) => "dns",
            Self::Exec(_) => "exec",
            Self::Agent(_) => Check::AGENT,
        }
    }

    /// How it is asked; `None` if that is not known here.
    pub fn protocol(&self) -> Option<Protocol> {
        Some(match self {
            Self::Exec(_) => return None,
            Self::Tcp
            | Self::Tls(_)
            | Self::Http(_)
            | Self::Grpc(_)
            | Self::Agent(_)
            | Self::Dns(Dns { transport: Transport::Tcp, .. }) => Protocol::Tcp,
            Self::Udp(_) | Self::Dns(Dns { transport: Transport::Udp, .. }) => Protocol::Udp,
        })
    }

    /// Whether it is well if nothing comes back in time: so a server may be checked that answers only what it understands.
    pub fn takes_silence(&self) -> bool {
        matches!(self, Self::Udp(Udp { expect: None, .. }))
    }

    /// What is asked for a VIP of this address, which is what names that are not given are taken from.
    #[must_use]
    pub fn of_vip(&self, address: IpAddr) -> Self {
        let mut ask = self.clone();
        let (host, tls) = match &mut ask {
            Self::Tcp | Self::Udp(_) | Self::Dns(_) | Self::Exec(_) | Self::Agent(_) => return ask,
            Self::Tls(tls) => (None, Some(tls)),
            Self::Http(http) => (Some(&mut http.host), http.tls.as_mut()),
            Self::Grpc(grpc) => (Some(&mut grpc.host), grpc.tls.as_mut()),
        };
        if let Some(tls) = tls {
            let named = host.as_deref().and_then(|host| name_in(host.as_deref()?));
            tls.sni.get_or_insert_with(|| named.map_or_else(|| address.to_string(), str::to_owned));
        }
        if let Some(host) = host {
            host.get_or_insert_with(|| host_of(address));
        }
        ask
    }
}

/// The name in a `Host` header, if it has one in place of an address.
fn name_in(host: &str) -> Option<&str> {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    (!host.starts_with('[') && name.parse::<IpAddr>().is_err()).then_some(name)
}

/// An address as a `Host` header has it.
fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vips_address_stands_in_for_names_that_are_not_given() {
        let (v4, v6): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into());
        let tls = |sni: Option<&str>| Tls { sni: sni.map(Into::into), ..Tls::default() };
        assert_eq!(Ask::Tls(tls(None)).of_vip(v6), Ask::Tls(tls(Some("2001:db8::1"))));
        assert_eq!(Ask::Tls(tls(Some("a"))).of_vip(v6), Ask::Tls(tls(Some("a"))));
        assert_eq!(Ask::Tcp.of_vip(v4), Ask::Tcp);
        for (host, sni, wanted) in [
            (None, None, ("[2001:db8::1]", "2001:db8::1")),
            (Some("www.example.org"), None, ("www.example.org", "www.example.org")),
            (Some("www.example.org:8443"), None, ("www.example.org:8443", "www.example.org")),
            (Some("10.0.0.1:8443"), None, ("10.0.0.1:8443", "2001:db8::1")),
            (Some("[::1]"), None, ("[::1]", "2001:db8::1")),
            (Some("www.example.org"), Some("cert.example.org"), ("www.example.org", "cert.example.org")),
        ] {
            let ask =
                |host: Option<&str>, sni| Http { host: host.map(Into::into), tls: Some(tls(sni)), ..Http::default() };
            let wanted = Ask::Http(ask(Some(wanted.0), Some(wanted.1)));
            assert_eq!(Ask::Http(ask(host, sni)).of_vip(v6), wanted, "{host:?} {sni:?}");
        }
        let grpc =
            |host: Option<&str>, sni| Grpc { host: host.map(Into::into), tls: Some(tls(sni)), ..Grpc::default() };
        let wanted = Ask::Grpc(grpc(Some("192.0.2.1"), Some("192.0.2.1")));
        assert_eq!(Ask::Grpc(grpc(None, None)).of_vip(v4), wanted);
        let plain = Ask::Http(Http::default()).of_vip(v4);
        assert_eq!(plain, Ask::Http(Http { host: Some("192.0.2.1".into()), ..Http::default() }));
    }
}
