//! From which addresses of this host probes are sent. Pure.
//!
//! What comes to an address that is a VIP's too may be forwarded as clients' packets are, answers to probes among it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::model::{Config, Vip};

/// What VIPs take of what comes to an address, at ports that no VIP names: those of sockets that ask are such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    /// It is no VIP's.
    #[default]
    NoVip,
    /// Nothing: their own ports alone.
    Nothing,
    /// All of it: they serve any port, or drop what comes to others than theirs.
    All,
}

impl Share {
    fn of(vip: &Vip) -> Self {
        if vip.service.port == 0 || vip.drops_unknown_port { Self::All } else { Self::Nothing }
    }
}

/// Addresses of VIPs.
#[derive(Debug, Default)]
pub(super) struct Taken {
    single: BTreeMap<IpAddr, Share>,
    prefixes: Vec<(IpNet, Share)>,
}

impl Taken {
    pub(super) fn by(config: &Config) -> Self {
        let mut taken = Self::default();
        for vip in &config.vips {
            let share = Share::of(vip);
            if vip.service.wildcard_bits == 0 {
                let known = taken.single.entry(vip.service.address).or_default();
                *known = share.max(*known);
            } else {
                taken.prefixes.push((vip.service.prefix(), share));
            }
        }
        taken
    }

    /// Whether some are taken whole.
    pub(super) fn is_any_whole(&self) -> bool {
        self.single.values().chain(self.prefixes.iter().map(|(_, share)| share)).any(|share| *share == Share::All)
    }

    fn share(&self, address: &IpAddr) -> Share {
        let within = self.prefixes.iter().filter(|(net, _)| net.contains(address)).map(|(_, share)| *share);
        within.chain(self.single.get(address).copied()).max().unwrap_or_default()
    }

    /// Those of these addresses that are taken whole.
    pub(super) fn whole(&self, own: &[(u32, IpAddr)]) -> BTreeSet<IpAddr> {
        own.iter().map(|(_, address)| *address).filter(|address| self.share(address) == Share::All).collect()
    }

    /// An address of either family to send from by this interface: one of its own rather than another, and rather one that
    /// is no VIP's.
    pub(super) fn source(&self, own: &[(u32, IpAddr)], ifindex: u32) -> [Option<IpAddr>; 2] {
        let usable = own.iter().map(|(at, address)| (*at != ifindex, self.share(address), *address));
        let usable: Vec<_> = usable.filter(|(_, share, _)| *share != Share::All).collect();
        [true, false].map(|v4| {
            let found = usable.iter().filter(|(.., address)| address.is_ipv4() == v4);
            found.min_by_key(|(elsewhere, share, _)| (*elsewhere, *share)).map(|(.., address)| *address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const VIPS: &str = r#"
        version = 1
        dataplane = { interfaces = ["eth0"] }
        pool.web.backends = [{ name = "web-1", address = "10.0.0.1" }]
        vip = [
            { name = "own-port", address = "192.0.2.1", port = 443, protocol = "tcp", pool = "web" },
            { name = "any-port", address = "192.0.2.2", port = 0, protocol = "tcp", pool = "web" },
            { name = "dropping", address = "192.0.2.3", port = 80, protocol = "tcp", pool = "web", unknown_port = "drop" },
            { name = "dropping-too", address = "192.0.2.3", port = 53, protocol = "udp", pool = "web", unknown_port = "drop" },
            { name = "prefix", address = "2001:db8:1::/64", port = 0, protocol = "udp", pool = "web" },
        ]
    "#;

    fn own(all: &[(u32, &str)]) -> Vec<(u32, IpAddr)> {
        all.iter().map(|(at, address)| (*at, address.parse().unwrap())).collect()
    }

    #[test]
    fn probes_are_sent_from_no_address_whose_answers_are_forwarded_or_dropped() {
        let taken = Taken::by(&config::parse(VIPS, "lb.toml").unwrap());
        assert!(taken.is_any_whole() && !Taken::default().is_any_whole());
        // As the kernel lists them: those of the loopback interface first.
        let all = own(&[
            (1, "192.0.2.1"),
            (1, "192.0.2.2"),
            (1, "2001:db8:1::1"),
            (2, "192.0.2.3"),
            (2, "10.0.0.2"),
            (3, "2001:db8:2::1"),
        ]);
        let whole: Vec<String> = taken.whole(&all).iter().map(ToString::to_string).collect();
        assert_eq!(whole, ["192.0.2.2", "192.0.2.3", "2001:db8:1::1"]);
        let source = |all: &[(u32, IpAddr)], at| {
            taken.source(all, at).map(|found| found.map_or("none".into(), |found| found.to_string()))
        };
        assert_eq!(source(&all, 2), ["10.0.0.2", "2001:db8:2::1"]);
        assert_eq!(source(&all, 7), ["10.0.0.2", "2001:db8:2::1"], "the one that is no VIP's");
        // What comes to it at other ports than the VIP's is this host's.
        assert_eq!(source(&all, 1), ["192.0.2.1", "2001:db8:2::1"]);
        assert_eq!(source(&all[1..4], 1), ["none", "none"]);
    }
}
