//! The tables that a [`Given`] describes.

use std::sync::atomic::Ordering::Relaxed;

use lb_common::layout::{
    flow::{Bucket, FlowEntry, TIME_SHIFT},
    prefix::Group,
    vip::{ICMP, ICMPV6, Vip, VipKey, mapped},
};
use lb_xdp::host::HostTables;

use super::{BUCKETS, ENTRIES, Given, Known, Service};

impl Given {
    /// The tables at unit `now` of the clock.
    pub fn tables(&self, now: u32) -> HostTables {
        self.tables_at(u64::from(now) << TIME_SHIFT)
    }

    /// The same at this time of the clock.
    pub fn tables_at(&self, now_ns: u64) -> HostTables {
        let mut tables = HostTables::new(self.tuning, BUCKETS, ENTRIES, ENTRIES);
        tables.now_ns.set(now_ns);
        let now = u32::try_from(now_ns >> TIME_SHIFT).expect("a clock that was started this century");
        self.fill_services(&mut tables);
        for (place, target) in tables.targets.iter_mut().skip(1).zip(&self.targets) {
            *place = *target;
        }
        remember(&tables.flows, &self.flows, now);
        remember(&tables.fragments, &self.fragments, now);
        tables.acl.extend(self.acl.iter().copied());
        tables.source_routes.extend(self.source_routes.iter().copied());
        tables.servers.extend(self.servers.iter().copied());
        for (vip, ahead) in &self.vip_limits {
            tables.vip_limits[*vip as usize].store(now_ns + ahead, Relaxed);
        }
        for word in tables.too_big_limits.iter().filter(|_| self.too_big_limits > 0) {
            word.store(now_ns + self.too_big_limits, Relaxed);
        }
        tables.heartbeat.store(now_ns.saturating_sub(self.silence), Relaxed);
        tables.bonds.extend(self.bonds.iter().copied());
        tables.tunnel_addresses.extend(self.tunnel_addresses.iter().copied());
        tables.tunnel_sources.extend(self.tunnel_sources.iter().copied());
        tables
    }

    /// VIPs, their addresses, groups, and the rings of both.
    fn fill_services(&self, tables: &mut HostTables) {
        let mut block = 0;
        for Service { key, vip, ring, history, .. } in &self.vips {
            let slots = u32::try_from(ring.len()).expect("few slots");
            let (ring_base, history_base) = (block, block + tables.write_ring(block, ring));
            block = history_base + tables.write_ring(history_base, history);
            let table = if key.is_prefix() { &mut tables.prefix_vips } else { &mut tables.vips };
            table.insert(*key, Vip { ring_base, ring_slots: slots, history_base, ..*vip });
        }
        for Service { key, vip, drops_unknown_ports, .. } in &self.vips {
            let protocol = if key.address.starts_with(&mapped([0; 4])[..12]) { ICMP } else { ICMPV6 };
            let address = VipKey::address(key.address, protocol).prefix(key.wildcard_bits);
            let table = if key.is_prefix() { &mut tables.prefix_vips } else { &mut tables.vips };
            let entry = table.entry(address).or_default();
            entry.wildcard_bits = key.wildcard_bits.into();
            // What all VIPs ask for holds for the address itself.
            entry.flags |= vip.flags & (Vip::ACL_GLOBAL | Vip::LIMIT_SOURCES);
            if *drops_unknown_ports {
                entry.flags |= Vip::DROP_UNKNOWN_PORT;
            }
        }
        for (id, group) in (1..).zip(&self.groups) {
            let slots = u32::try_from(group.ring.len()).expect("few slots");
            let identity = u64::try_from(id).expect("few groups");
            tables.groups[id] = Group { vip: group.vip, ring_base: block, ring_slots: slots, reserved: 0, identity };
            block += tables.write_ring(block, &group.ring);
        }
    }
}

fn remember(table: &[Bucket], entries: &[Known], now: u32) {
    for known in entries {
        let entry = FlowEntry::new(known.tag, known.target, now.wrapping_sub(known.age), known.state);
        table[known.bucket].entries[known.way].store(entry.0, Relaxed);
    }
}
