//! The sockets of probes: where they lead, and by which way.
//!
//! A probe of a backend by the VIP's own address is carried there by a program that goes by the socket's mark. What the
//! backend answers comes straight back, so the socket is bound to an address by which the backend finds this host: the one
//! that the kernel itself would send to it from, unless it is a VIP's whose packets the balancer's program takes for itself.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket},
    time::Duration,
};

use nix::sys::socket::{
    setsockopt,
    sockopt::{IpBindAddressNoPort, Ipv4RecvErr, Ipv6RecvErr},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::Failed;
use crate::health::Way;

/// Where a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// What is connected to.
    to: SocketAddr,
    way: Option<Carried>,
}

/// A way through the balancer's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Carried {
    mark: u32,
    /// What answers are to come to.
    source: IpAddr,
}

impl Reach {
    /// As the kernel finds it.
    pub(super) fn direct(to: SocketAddr) -> Self {
        Self { to, way: None }
    }

    /// The VIP `to`, at `backend`, from an address that is not `taken`.
    ///
    /// # Errors
    /// Why no probe can come there so, in words.
    pub(super) fn by(way: &Way, to: SocketAddr, backend: IpAddr, taken: &BTreeSet<IpAddr>) -> Result<Self, String> {
        let (mark, source) = match *way {
            // Then the VIP is an address of this host too.
            Way::Here => return Ok(Self::direct(to)),
            Way::Carried { mark, source } => (mark, source),
            Way::Closed => return Err("probes to vips are not carried, for which `lb status` has the reason".into()),
        };
        if is_local(to.ip()) {
            return Err(format!("the vip {} is an address of this host, where probes to it would stay", to.ip()));
        }
        let chosen = (backend.is_ipv4() == to.is_ipv4()).then(|| chosen_towards(backend)).flatten();
        let source = chosen.filter(|own| !taken.contains(own)).or(source).ok_or_else(|| {
            let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
            let lacking = format!("this host has no {family} address that could be answered");
            // An address without a VIP would do.
            let but = taken.iter().find(|own| own.is_ipv4() == to.is_ipv4());
            but.map_or(lacking.clone(), |own| format!("{lacking}: {own} is a vip's, and what comes to it is forwarded"))
        })?;
        Ok(Self { to, way: Some(Carried { mark, source }) })
    }

    /// A connection that is reset when it is dropped. So neither side keeps a state (`TIME_WAIT`) for it: thousands of
    /// probes a second would pile up hundreds of thousands of these.
    pub(super) async fn connect(&self) -> Result<TcpStream, Failed> {
        let socket = self.socket(Type::STREAM, Protocol::TCP)?;
        socket.set_linger(Some(Duration::ZERO))?;
        Ok(TcpSocket::from_std_stream(socket.into()).connect(self.to).await?)
    }

    /// A socket for datagrams to and from there alone. What routers and the network next to us say of it is an error too:
    /// the kernel keeps all but closed ports to itself otherwise.
    pub(super) fn datagrams(&self) -> Result<UdpSocket, Failed> {
        let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
        let told = match self.to {
            SocketAddr::V4(_) => setsockopt(&socket, Ipv4RecvErr, &true),
            SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvErr, &true),
        };
        told.map_err(io::Error::from)?;
        socket.connect(&self.to.into())?;
        Ok(UdpSocket::from_std(socket.into())?)
    }

    /// A socket, not connected yet, that goes there by the way of this probe.
    fn socket(&self, kind: Type, protocol: Protocol) -> Result<Socket, Failed> {
        if self.to.port() == 0 {
            return Err(Failed::Answer("no port to probe: the vip serves any port and the check names none".into()));
        }
        let socket = Socket::new(Domain::for_address(self.to), kind.nonblocking().cloexec(), Some(protocol))?;
        if let Some(way) = &self.way {
            way.prepare(&socket).map_err(Failed::Here)?;
        }
        Ok(socket)
    }
}

impl Carried {
    fn prepare(&self, socket: &Socket) -> io::Result<()> {
        socket.set_mark(self.mark)?;
        // A port is taken when the peer is known, and may be another probe's too if that has another peer.
        setsockopt(socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SockAddr::from(SocketAddr::new(self.source, 0)))
    }
}

/// The address that the kernel would send from to this one; `None` if it knows no way.
fn chosen_towards(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = StdUdpSocket::bind((any, 0)).ok()?;
    // Nothing is sent. Any port will do.
    socket.connect((address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|own| !own.is_unspecified())
}

/// Whether packets to this address stay here: those to this host are sent from that very address.
fn is_local(address: IpAddr) -> bool {
    chosen_towards(address) == Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_is_local_and_what_to_send_from() {
        for local in ["127.0.0.1", "::1"] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for elsewhere in ["192.0.2.1", "2001:db8::1"] {
            assert!(!is_local(elsewhere.parse().unwrap()), "{elsewhere}");
        }
        assert_eq!(chosen_towards("127.3.2.1".parse().unwrap()), Some("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_way_to_a_backend_says_why() {
        let by =
            |way: Way, to: &str| Reach::by(&way, to.parse().unwrap(), "127.0.0.2".parse().unwrap(), &BTreeSet::new());
        let carried = Way::Carried { mark: 0x1b00_0001, source: None };
        let own = "127.0.0.1".parse().unwrap();
        let to = "192.0.2.1:80".parse().unwrap();
        let way = Some(Carried { mark: 0x1b00_0001, source: own });
        assert_eq!(by(carried, "192.0.2.1:80"), Ok(Reach { to, way }));
        assert_eq!(by(Way::Here, "192.0.2.1:80"), Ok(Reach::direct(to)));
        for (way, to, reason) in [
            (carried, "127.0.0.1:80", "127.0.0.1 is an address of this host"),
            (carried, "[2001:db8::1]:80", "no IPv6 address"),
            (Way::Closed, "192.0.2.1:80", "`lb status`"),
        ] {
            let told = by(way, to).unwrap_err();
            assert!(told.contains(reason), "{told}");
        }
    }

    #[test]
    fn an_address_whose_answers_are_forwarded_is_not_sent_from() {
        let [own, other, to] = ["127.0.0.1", "127.0.0.8", "192.0.2.1"].map(|one| one.parse::<IpAddr>().unwrap());
        let by = |source, taken: &[IpAddr]| {
            let way = Way::Carried { mark: 0x1b00_0001, source };
            let taken = taken.iter().copied().collect();
            let found = Reach::by(&way, SocketAddr::new(to, 80), "127.0.0.2".parse().unwrap(), &taken);
            found.map(|reach| reach.way.unwrap().source)
        };
        assert_eq!(by(Some(other), &[]), Ok(own), "what the kernel chooses comes first");
        assert_eq!(by(Some(other), &[to]), Ok(own));
        assert_eq!(by(Some(other), &[own]), Ok(other));
        let told = by(None, &[own]).unwrap_err();
        assert!(told.ends_with("could be answered: 127.0.0.1 is a vip's, and what comes to it is forwarded"), "{told}");
    }
}
