//! The backends of a VIP at two moments: which is which, and what becomes of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    report::{BackendChange, Change, Moved},
    settings,
};
use crate::{model::Backend, plan::wanted::Disposition};

/// A backend with its pool's name.
pub(super) type Named<'a> = (&'a str, &'a Backend);
/// What the tables let each backend take.
pub(super) type States = BTreeMap<IpAddr, Disposition>;

/// A backend at one of the two moments.
#[derive(Clone, Copy)]
struct Member<'a> {
    address: IpAddr,
    /// Its pool's name and itself, unless only the tables know it.
    known: Option<Named<'a>>,
}

/// What becomes of a backend.
pub(super) struct Compared {
    /// Its addresses at the two moments.
    addresses: [Option<IpAddr>; 2],
    /// All but its shares.
    pub(super) change: BackendChange,
}

impl Compared {
    /// The same with its shares of new flows, given those by address at the two moments.
    pub(super) fn shared(self, shares: &[BTreeMap<IpAddr, f64>; 2]) -> BackendChange {
        let share = |at: usize| self.addresses[at].and_then(|address| shares[at].get(&address)).copied();
        let (share_before, share_after) = (share(0).unwrap_or_default(), share(1).unwrap_or_default());
        BackendChange { share_before, share_after, ..self.change }
    }
}

/// Compares the backends of two moments: what configurations say of them, what the tables do, and their live flows.
pub(super) fn compared(
    configured: [Vec<Named>; 2],
    states: &[States; 2],
    flows: &BTreeMap<IpAddr, Moved>,
) -> Vec<Compared> {
    let [old, new] = configured;
    let pairs = matched(members(&old, &states[0]), &members(&new, &states[1]));
    let mut all: Vec<Compared> = pairs.into_iter().map(|pair| compare(pair, states, flows)).collect();
    let order = |one: &Compared| (one.change.pool.clone(), one.change.name.clone(), one.addresses);
    all.sort_by_key(order);
    all
}

/// The backends that a configuration gives a VIP, and those that only the tables know.
fn members<'a>(configured: &[Named<'a>], found: &States) -> Vec<Member<'a>> {
    let address = |named: &Named| named.1.address.to_canonical();
    let known: BTreeSet<IpAddr> = configured.iter().map(address).collect();
    let others = found.keys().filter(|address| !known.contains(address));
    let others = others.map(|address| Member { address: *address, known: None });
    configured.iter().map(|one| Member { address: address(one), known: Some(*one) }).chain(others).collect()
}

/// Pairs each backend of before with the one of after that has its name, else with the one that has its address.
fn matched<'a>(old: Vec<Member<'a>>, new: &[Member<'a>]) -> Vec<[Option<Member<'a>>; 2]> {
    let name = |member: &Member<'a>| member.known.map(|(pool, backend)| (pool, backend.name.as_str()));
    let numbered = || (0..).zip(new);
    let by_name: BTreeMap<(&str, &str), usize> = numbered().filter_map(|(at, one)| Some((name(one)?, at))).collect();
    let by_address: BTreeMap<IpAddr, usize> = numbered().map(|(at, one)| (one.address, at)).collect();
    let mut free: BTreeSet<usize> = (0..new.len()).collect();
    let mut pairs = Vec::new();
    let mut rest = Vec::new();
    for member in old {
        let same = name(&member).and_then(|name| by_name.get(&name).copied());
        match same.filter(|at| free.remove(at)) {
            Some(at) => pairs.push([Some(member), Some(new[at])]),
            None => rest.push(member),
        }
    }
    for member in rest {
        let same = by_address.get(&member.address).copied().filter(|at| free.remove(at));
        pairs.push([Some(member), same.map(|at| new[at])]);
    }
    pairs.extend(free.into_iter().map(|at| [None, Some(new[at])]));
    pairs
}

fn compare([old, new]: [Option<Member>; 2], states: &[States; 2], flows: &BTreeMap<IpAddr, Moved>) -> Compared {
    let known = [old, new].map(|member| member.and_then(|one| one.known));
    let settings = match (known[0], known[1]) {
        (Some(old), Some(new)) => settings::of_backend(old, new),
        _ => Vec::new(),
    };
    let addresses = [old, new].map(|member| member.map(|one| one.address));
    let state = |at: usize| addresses[at].and_then(|address| states[at].get(&address)).map(|one| one.name().to_owned());
    let (state_before, state_after) = (state(0), state(1));
    let change = match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        _ if settings.is_empty() && state_before == state_after => Change::Unchanged,
        _ => Change::Changed,
    };
    let address = addresses[1].or(addresses[0]);
    let (pool, name) = match known[1].or(known[0]) {
        Some((pool, backend)) => (pool.to_owned(), backend.name.clone()),
        None => (String::new(), address.map(|address| address.to_string()).unwrap_or_default()),
    };
    let flows = addresses[0].and_then(|address| flows.get(&address)).copied().unwrap_or_default();
    let (share_before, share_after) = (0.0, 0.0);
    let change = BackendChange {
        pool,
        name,
        address,
        change,
        settings,
        state_before,
        state_after,
        share_before,
        share_after,
        flows,
    };
    Compared { addresses, change }
}
