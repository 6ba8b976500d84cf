//! The configuration of a site.

use std::{net::Ipv4Addr, path::Path};

use crate::daemon::head;

/// The VIP that is looked at: its flows are not remembered, so each packet goes where the ring says.
pub(super) const WATCHED: usize = 7;
pub(super) const PORT: u16 = 80;
/// The network of the backends, and the step at which pools begin in it.
const BACKENDS: [u8; 4] = [10, 0, 0, 0];
const STRIDE: usize = 256;

/// A site: so many VIPs, each with a pool of its own.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// VIPs.
    pub vips: usize,
    /// Backends of each.
    pub backends: usize,
}

impl Site {
    /// The configuration with one backend's weight: of the watched VIP's backend `backend`.
    pub fn text(self, folder: &Path, changed: Option<(usize, u32)>) -> String {
        (0..self.vips).fold(empty(folder), |text, vip| text + &self.vip(vip, changed))
    }

    /// Which backend of the watched VIP has this address.
    pub(super) fn backend_at(self, address: Ipv4Addr) -> Option<usize> {
        let first = WATCHED * self.backends.next_multiple_of(STRIDE) + 1;
        let number = usize::try_from(address.to_bits().checked_sub(Ipv4Addr::from(BACKENDS).to_bits())?).ok()?;
        number.checked_sub(first).filter(|number| *number < self.backends)
    }

    /// A VIP with its pool.
    fn vip(self, vip: usize, changed: Option<(usize, u32)>) -> String {
        let backend = |number: usize| {
            let changed = changed.filter(|(one, _)| vip == WATCHED && number == *one);
            let weight = changed.map_or(100, |(_, weight)| weight);
            let address = address(BACKENDS, vip * self.backends.next_multiple_of(STRIDE) + number + 1);
            format!("  {{ name = \"b{number}\", address = \"{address}\", weight = {weight} }},\n")
        };
        let backends: Vec<String> = (0..self.backends).map(backend).collect();
        let (backends, address) = (backends.concat(), vip_address(vip));
        let tracking = if vip == WATCHED { "off" } else { "always" };
        format!(
            "[pool.p{vip}]\nbackends = [\n{backends}]\n[[vip]]\nname = \"v{vip}\"\naddress = \"{address}\"\nport = {PORT}\n\
             protocol = \"udp\"\npool = \"p{vip}\"\nflow_tracking = \"{tracking}\"\n"
        )
    }
}

/// A configuration that serves nothing.
pub(super) fn empty(folder: &Path) -> String {
    head(folder, "next_hop = \"02:00:00:00:00:01\"")
}

fn address(network: [u8; 4], number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::from(network).to_bits() + u32::try_from(number).unwrap_or(u32::MAX))
}

/// A VIP's address.
pub(super) fn vip_address(vip: usize) -> Ipv4Addr {
    address([192, 0, 0, 1], vip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_known_by_its_address() {
        for backends in [2, 100, 256, 10_000] {
            let site = Site { vips: 8, backends };
            let text = site.text(Path::new("/x"), Some((backends - 1, 7)));
            let line = text.lines().find(|line| line.ends_with("weight = 7 },")).unwrap();
            let address = line.split('"').nth(3).unwrap().parse().unwrap();
            assert_eq!(site.backend_at(address), Some(backends - 1), "{line}");
            assert_eq!(site.backend_at(Ipv4Addr::from_bits(address.to_bits() + 1)), None);
        }
    }
}
