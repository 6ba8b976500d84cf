//! What the tables hold after an op, worked out.

use std::sync::Arc;

use super::{Op, State, UNCOUNTED, digest};

impl State {
    /// What the tables hold once `op` is carried out, as reading them back would tell; but digests of rings that nothing
    /// leads to any more are kept.
    pub fn note(&mut self, op: &Op) {
        match op {
            Op::SetTarget { id, target } if target.is_free() => drop(self.targets.remove(id)),
            Op::SetTarget { id, target } => drop(self.targets.insert(*id, *target)),
            Op::WriteRing { base, slots } => drop(self.rings.insert(*base, digest(slots))),
            Op::SetGroup { id, group } if group.vip == 0 => drop(self.groups.remove(id)),
            Op::SetGroup { id, group } => drop(self.groups.insert(*id, *group)),
            Op::SetServer { key, target } => drop(self.servers.insert(*key, *target)),
            Op::RemoveServer { key } => drop(self.servers.remove(key)),
            Op::SetList { list, to } if to.is_empty() => drop(self.lists.remove(list)),
            Op::SetList { list, to } => drop(self.lists.insert(*list, Arc::clone(to))),
            Op::SetTunnel { address } => drop(self.tunnels.insert(*address)),
            Op::RemoveTunnel { address } => drop(self.tunnels.remove(address)),
            Op::SetBond { member, bond } => drop(self.bonds.insert(*member, *bond)),
            Op::RemoveBond { member } => drop(self.bonds.remove(member)),
            Op::SetVip { key, vip } => drop(self.vips.insert(*key, *vip)),
            Op::RemoveVip { key } => drop(self.vips.remove(key)),
            Op::WriteHistory { after, .. } => drop(self.histories.insert(after.history_base, UNCOUNTED)),
            Op::Disown { .. } | Op::ClearCounters { .. } | Op::Grace | Op::SweepFlows { .. } => {}
        }
    }
}
