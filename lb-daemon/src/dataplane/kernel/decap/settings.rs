//! What an `lb decap` is told, as the program's parameters and tables hold it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, Ipv6Addr},
};

use aya::{
    Ebpf,
    maps::{
        HashMap, LpmTrie, Map, MapData,
        lpm_trie::{self, Key},
    },
};
use ipnet::{IpNet, Ipv6Net};
use lb_common::{
    layout::{prefix::SourceKey, vip::mapped},
    maps::{self, DecapTuning},
};

use super::{
    super::{
        error::OpenError,
        explain::system,
        load,
        specs::{count, map_error},
    },
    names::Names,
};

/// UDP port of GUE unless told otherwise.
pub const GUE_PORT: u16 = 6080;
/// In `DECAP_SOURCES`: these may send.
const MAY: u32 = 1;
/// These may not, although a shorter prefix may.
const MAY_NOT: u32 = 0;
/// Bits of an address before an IPv4 one that is mapped.
const MAPPED_BITS: u32 = 96;

/// What an `lb decap` unwraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Tunnel addresses of the host.
    pub addresses: BTreeSet<IpAddr>,
    /// Where tunnel packets may come from; empty is anywhere.
    pub sources: BTreeSet<IpNet>,
    /// UDP port of GUE.
    pub gue_port: u16,
}

impl Settings {
    /// To these addresses, from anywhere, with GUE at its usual port.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { addresses: addresses.into_iter().collect(), sources: BTreeSet::new(), gue_port: GUE_PORT }
    }

    /// Parameters of the program.
    pub(super) fn tuning(&self) -> DecapTuning {
        let only_sources = u16::from(!self.sources.is_empty());
        DecapTuning { gue_port: self.gue_port.to_be_bytes(), only_sources }
    }

    /// Entries of the tables.
    pub(super) fn sizes(&self) -> [(&'static str, u32); 2] {
        let addresses = count(self.addresses.len());
        [(maps::DECAP_ADDRESSES, addresses.max(1)), (maps::DECAP_SOURCES, count(self.entries().len()).max(1))]
    }

    /// Writes the tables.
    pub(super) fn fill(&self, object: &mut Ebpf) -> Result<(), OpenError> {
        let what = "write the tunnel addresses";
        let map = object.map_mut(maps::DECAP_ADDRESSES).ok_or_else(|| load::lacks(maps::DECAP_ADDRESSES))?;
        let mut table: HashMap<_, [u8; 16], u32> = map.try_into().map_err(|error| map_error(what, error))?;
        for address in &self.addresses {
            table.insert(octets(*address), 1, 0).map_err(|error| map_error(what, error))?;
        }
        let what = "write the allowed sources";
        let map = object.map_mut(maps::DECAP_SOURCES).ok_or_else(|| load::lacks(maps::DECAP_SOURCES))?;
        let mut table: LpmTrie<_, [u8; 20], u32> = map.try_into().map_err(|error| map_error(what, error))?;
        for (key, value) in self.entries() {
            table.insert(&trie_key(&key), value, 0).map_err(|error| map_error(what, error))?;
        }
        Ok(())
    }

    /// What `DECAP_SOURCES` holds.
    fn entries(&self) -> BTreeMap<SourceKey, u32> {
        let mut entries = BTreeMap::new();
        for source in &self.sources {
            let key = match source {
                IpNet::V4(net) => {
                    SourceKey::new(0, mapped(net.network().octets()), MAPPED_BITS + u32::from(net.prefix_len()))
                }
                IpNet::V6(net) => SourceKey::new(0, net.network().octets(), net.prefix_len().into()),
            };
            entries.insert(key, MAY);
        }
        // `::/0` says nothing of IPv4, whose addresses lie within it here.
        let all_v4 = mapped([0; 4]);
        let holds_v4 = |net: &Ipv6Net| net.contains(&Ipv6Addr::from(all_v4));
        if self.sources.iter().any(|source| matches!(source, IpNet::V6(net) if holds_v4(net))) {
            entries.entry(SourceKey::new(0, all_v4, MAPPED_BITS)).or_insert(MAY_NOT);
        }
        entries
    }

    /// What is pinned.
    pub(super) fn read(names: &Names) -> Result<Self, OpenError> {
        let what = "read the tunnel addresses";
        let map = MapData::from_pin(&names.addresses.name).map_err(|error| map_error(what, error))?;
        let table: HashMap<_, [u8; 16], u32> = Map::HashMap(map).try_into().map_err(|error| map_error(what, error))?;
        let addresses: Result<_, _> = table.keys().map(|key| key.map(address)).collect();
        let addresses = addresses.map_err(|error| map_error(what, error))?;
        let what = "read the allowed sources";
        let map = MapData::from_pin(&names.sources.name).map_err(|error| map_error(what, error))?;
        let table: LpmTrie<_, [u8; 20], u32> = Map::LpmTrie(map).try_into().map_err(|error| map_error(what, error))?;
        let mut sources = BTreeSet::new();
        for entry in &table {
            let (key, value) = entry.map_err(|error| map_error(what, error))?;
            sources.extend(prefix(&key).filter(|_| value == MAY));
        }
        Ok(Self { addresses, sources, gue_port: read_port(names)? })
    }
}

fn read_port(names: &Names) -> Result<u16, OpenError> {
    let link = &names.gue_port.name;
    let port = fs::read_link(link).and_then(|text| {
        let port = text.to_str().and_then(|text| text.parse().ok());
        port.ok_or_else(|| io::Error::other(format!("{} is no port", text.display())))
    });
    port.map_err(|source| system(format!("read {}", link.display()), source))
}

/// An address as the tables hold it.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

/// A key as aya wants it.
fn trie_key(key: &SourceKey) -> Key<[u8; 20]> {
    let mut data = [0; 20];
    let (vip, octets) = data.split_at_mut(4);
    vip.copy_from_slice(&key.vip.to_ne_bytes());
    octets.copy_from_slice(&key.address);
    lpm_trie::Key::new(key.prefix_len, data)
}

/// The prefix that such a key stands for.
fn prefix(key: &Key<[u8; 20]>) -> Option<IpNet> {
    let octets: [u8; 16] = key.data().get(4..)?.try_into().ok()?;
    let bits = key.prefix_len().checked_sub(SourceKey::FIXED_BITS)?;
    let (address, bits) = match (bits.checked_sub(MAPPED_BITS), address(octets)) {
        (Some(bits), IpAddr::V4(v4)) => (IpAddr::from(v4), bits),
        _ => (IpAddr::from(octets), bits),
    };
    IpNet::new(address, u8::try_from(bits).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(sources: &[&str]) -> BTreeMap<SourceKey, u32> {
        let sources = sources.iter().map(|text| text.parse().unwrap()).collect();
        Settings { sources, ..Settings::new([]) }.entries()
    }

    fn v4(octets: [u8; 4], bits: u32) -> SourceKey {
        SourceKey::new(0, mapped(octets), 96 + bits)
    }

    #[test]
    fn all_of_ipv6_is_nothing_of_ipv4() {
        let v6 = SourceKey::new(0, [0; 16], 0);
        assert_eq!(entries(&["::/0"]), BTreeMap::from([(v6, MAY), (v4([0; 4], 0), MAY_NOT)]));
        let few = BTreeMap::from([(v6, MAY), (v4([0; 4], 0), MAY_NOT), (v4([10, 0, 0, 0], 8), MAY)]);
        assert_eq!(entries(&["::/0", "10.0.0.0/8"]), few);
        assert_eq!(entries(&["::/0", "0.0.0.0/0"]), BTreeMap::from([(v6, MAY), (v4([0; 4], 0), MAY)]));
        assert_eq!(entries(&["2001:db8::/32"]).into_values().collect::<Vec<_>>(), [MAY]);
    }

    #[test]
    fn keys_of_the_trie_are_read_back() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "2001:db8::/32", "fd00::1/128"] {
            let net: IpNet = text.parse().unwrap();
            let (key, _) = entries(&[text]).into_iter().find(|(_, value)| *value == MAY).unwrap();
            assert_eq!(prefix(&trie_key(&key)), Some(net));
        }
    }
}
