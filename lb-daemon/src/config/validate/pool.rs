//! `[pool.NAME]`

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    Once,
    address::{Role, address},
    health::{health, passive},
    name,
    server_id::server_id,
    templates::Templates,
};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        include::Documents,
        lists::Lists,
        place::{At, Spanned},
        raw::Section,
        schema::{self, nearest},
    },
    model::{AdminState, Backend, Encap, Health, MAX_WEIGHT, Pool, ServerId},
};

/// A slot of a ring is 16 bits wide.
pub(super) const MAX_BACKENDS: usize = 65_535;
const DEFAULT_WEIGHT: u32 = 100;
const STATES: [(&str, AdminState); 3] =
    [("active", AdminState::Active), ("drain", AdminState::Drain), ("disabled", AdminState::Disabled)];

/// A pool, and the places that VIPs' complaints about it show.
#[derive(Debug)]
pub(super) struct ReadPool {
    pub(super) pool: Pool,
    /// Of its name.
    pub(super) span: At,
    /// Of its health checks, in their order.
    pub(super) health: Vec<At>,
    /// Of its `passive`, if it has that.
    pub(super) passive: Option<At>,
    /// Of its backends' names.
    pub(super) names: BTreeMap<String, At>,
    /// Of its backends' addresses.
    pub(super) addresses: BTreeMap<IpAddr, At>,
    /// Of its backends' server IDs, each with its backend's address.
    pub(super) server_ids: Vec<(ServerId, IpAddr, At)>,
    /// `encap`, for VIPs that do not say.
    pub(super) encap: Option<Encap>,
}

/// `encap`, of a pool or a VIP.
pub(super) fn encap(section: &Section<'_>) -> Option<Encap> {
    section.choice("encap", &[("ipip", Encap::Ipip), ("gue", Encap::Gue), ("l2", Encap::L2)])
}

/// The pool of that name; complains, of the name's place, if there is none.
pub(super) fn find_pool<'p>(
    section: &Section<'_>,
    at: At,
    name: &str,
    pools: &'p BTreeMap<String, ReadPool>,
) -> Option<&'p ReadPool> {
    let found = pools.get(name);
    if found.is_none() {
        let complaint = Complaint::new(Code::UnknownPool, at, format!("there is no pool {name}"));
        let hint = match nearest(name, pools.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("add a [pool.{name}], or name one that is there"),
        };
        section.complain(complaint.label("no such pool").hint(hint));
    }
    found
}

/// All pools, by name.
pub(super) fn pools(documents: &Documents<'_>, lists: &Lists<'_>) -> BTreeMap<String, ReadPool> {
    let mut pools = BTreeMap::new();
    let mut seen = Once::new();
    let mut templates = Templates::read(documents, lists);
    for (key, section) in documents.all().flat_map(|root| root.members("pool", &schema::POOL)) {
        if let Err(wrong) = name(key.get_ref()) {
            section.invalid("pool", key.span(), wrong);
        }
        let what = format!("pool {}", key.get_ref());
        seen.note(&section, &what, *key.get_ref(), key.span(), "give each pool its own name, over all files");
        pools.insert((*key.get_ref()).to_owned(), pool(&key, &section, lists, &mut templates));
    }
    templates.unused(&documents.main);
    pools
}

fn pool<'a>(key: &Spanned<&str>, section: &Section<'a>, lists: &Lists<'_>, templates: &mut Templates<'a>) -> ReadPool {
    let tables = section.children("backends", &schema::BACKEND);
    let mut seen = Seen { names: Once::new(), addresses: Once::new(), server_ids: Once::new(), local: None };
    let read: Vec<(Backend, Option<At>)> = tables.iter().filter_map(|table| backend(table, &mut seen)).collect();
    let placed = |(backend, place): &(Backend, Option<At>)| Some((backend.server_id?, backend.address, (*place)?));
    let server_ids = read.iter().filter_map(placed).collect();
    let backends: Vec<Backend> = read.into_iter().map(|(backend, _)| backend).collect();
    let (health, health_places) = health(section, lists, templates);
    let (passive, passive_place) = passive(section, &backends).unzip();
    let pool = Pool { name: (*key.get_ref()).to_owned(), backends, health: Arc::new(Health { passive, ..health }) };
    let complain = |code, message: String, hint: &str| {
        section.complain(Complaint::new(code, key.span(), message).hint(hint));
    };
    let given = section.entry("backends").map(|(_, value)| value.get_ref().as_array());
    if given.is_none_or(|array| array.is_some_and(|array| array.is_empty())) {
        let hint = "add `backends = [{ name = \"web-1\", address = \"10.0.0.11\" }]`";
        complain(Code::NoBackends, format!("pool {} has no backends", pool.name), hint);
    } else if tables.len() > MAX_BACKENDS {
        let message = format!("pool {} has {} backends", pool.name, tables.len());
        complain(Code::TooMany, message, "a pool may have 65535; share them out among several pools");
    }
    let takes = |backend: &Backend| backend.weight > 0 && backend.state == AdminState::Active;
    if !pool.backends.is_empty() && !pool.backends.iter().any(takes) {
        let hint = "give one of its backends a weight above 0 and `state = \"active\"`";
        complain(Code::IdlePool, format!("no backend of pool {} takes new flows", pool.name), hint);
    }
    let Seen { names: Once(names), addresses: Once(addresses), .. } = seen;
    let (span, passive, encap) = (key.span(), passive_place, encap(section));
    ReadPool { pool, span, health: health_places, passive, names, addresses, server_ids, encap }
}

/// What a pool's backends were seen to have, each of them once.
struct Seen {
    names: Once<String>,
    addresses: Once<IpAddr>,
    server_ids: Once<u128>,
    local: Option<At>,
}

/// A backend, and the place of its server ID.
fn backend(section: &Section<'_>, seen: &mut Seen) -> Option<(Backend, Option<At>)> {
    section.require("name", "add `name = \"web-1\"`");
    section.require("address", "add `address = \"10.0.0.11\"`");
    let name = section.parsed("name", name);
    let local = local(section, seen);
    let address = address(section, if local { Role::LocalBackend } else { Role::Backend });
    let weight = section.integer("weight", &(0..=u64::from(MAX_WEIGHT)));
    let weight = weight.and_then(|weight| u32::try_from(weight.into_inner()).ok()).unwrap_or(DEFAULT_WEIGHT);
    let state = section.choice("state", &STATES).unwrap_or_default();
    let server_id = server_id(section);
    if let Some(name) = &name {
        let what = format!("backend name {}", name.get_ref());
        let hint = "give each backend of a pool its own name";
        seen.names.note(section, &what, name.get_ref().clone(), name.span(), hint);
    }
    if let Some(address) = &address {
        let what = format!("backend address {}", address.get_ref());
        let hint = "name each address once in a pool; a larger `weight` gives it a larger share";
        seen.addresses.note(section, &what, *address.get_ref(), address.span(), hint);
    }
    if let Some(id) = &server_id {
        let what = format!("server ID {}", id.get_ref());
        let hint = "give each backend of a pool its own server ID; leading zeros do not tell them apart";
        seen.server_ids.note(section, &what, id.get_ref().value, id.span(), hint);
    }
    let plain = Backend::plain(&name?.into_inner(), address?.into_inner(), weight, state);
    let place = server_id.as_ref().map(Spanned::span);
    Some((Backend { server_id: server_id.map(Spanned::into_inner), local, ..plain }, place))
}

/// Whether the backend is this host, which one of a pool can be.
fn local(section: &Section<'_>, seen: &mut Seen) -> bool {
    let Some(local) = section.boolean("local").filter(|local| *local.get_ref()) else { return false };
    if let Some(first) = &seen.local {
        let complaint = Complaint::new(Code::Conflict, local.span(), "two backends of a pool are this host");
        let hint = "leave `local = true` to one of them: packets to either would end up in the same place";
        section.complain(complaint.label("again here").also(*first, "first here").hint(hint));
    } else {
        seen.local = Some(local.span());
    }
    true
}
