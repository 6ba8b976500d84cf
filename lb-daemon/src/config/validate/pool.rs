//! `[pool.NAME]`

use std::{collections::BTreeMap, net::IpAddr};

use toml::Spanned;

use super::{
    Once,
    address::{Role, address},
    health::health,
    name,
};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        raw::{Section, Span},
        schema,
    },
    model::{AdminState, Backend, MAX_WEIGHT, Pool},
};

/// A slot of a ring is 16 bits wide.
const MAX_BACKENDS: usize = 65_535;
const DEFAULT_WEIGHT: u32 = 100;
const STATES: [(&str, AdminState); 3] =
    [("active", AdminState::Active), ("drain", AdminState::Drain), ("disabled", AdminState::Disabled)];

/// A pool, and the places that VIPs' complaints about it show.
#[derive(Debug)]
pub(super) struct ReadPool {
    pub(super) pool: Pool,
    /// Of its name.
    pub(super) span: Span,
    /// Of its health section.
    pub(super) health: Span,
    /// Of its backends' addresses.
    pub(super) addresses: BTreeMap<IpAddr, Span>,
}

/// All pools, by name.
pub(super) fn pools(root: &Section<'_>) -> BTreeMap<String, ReadPool> {
    let mut pools = BTreeMap::new();
    for (key, section) in root.members("pool", &schema::POOL) {
        if let Err(wrong) = name(key.get_ref()) {
            section.invalid("pool", key.span(), wrong);
        }
        pools.insert((*key.get_ref()).to_owned(), pool(&key, &section));
    }
    pools
}

fn pool(key: &Spanned<&str>, section: &Section<'_>) -> ReadPool {
    let tables = section.children("backends", &schema::BACKEND);
    let mut names = Once::new();
    let mut addresses = Once::new();
    let backends = tables.iter().filter_map(|table| backend(table, &mut names, &mut addresses)).collect();
    let health_section = section.child("health", &schema::HEALTH);
    let pool = Pool { name: (*key.get_ref()).to_owned(), backends, health: health(&health_section) };
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
    ReadPool { pool, span: key.span(), health: health_section.span(), addresses: addresses.0 }
}

fn backend(section: &Section<'_>, names: &mut Once<String>, addresses: &mut Once<IpAddr>) -> Option<Backend> {
    section.require("name", "add `name = \"web-1\"`");
    section.require("address", "add `address = \"10.0.0.11\"`");
    let name = section.parsed("name", name);
    let address = address(section, Role::Backend);
    let weight = section.integer("weight", &(0..=u64::from(MAX_WEIGHT)));
    let weight = weight.and_then(|weight| u32::try_from(weight.into_inner()).ok()).unwrap_or(DEFAULT_WEIGHT);
    let state = section.choice("state", &STATES, &[]).unwrap_or_default();
    if let Some(name) = &name {
        let what = format!("backend name {}", name.get_ref());
        names.note(section, &what, name.get_ref().clone(), name.span(), "give each backend of a pool its own name");
    }
    if let Some(address) = &address {
        let what = format!("backend address {}", address.get_ref());
        let hint = "name each address once in a pool; a larger `weight` gives it a larger share";
        addresses.note(section, &what, *address.get_ref(), address.span(), hint);
    }
    Some(Backend::plain(&name?.into_inner(), address?.into_inner(), weight, state))
}
