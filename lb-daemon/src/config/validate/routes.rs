//! `source_routes`: sources whose new flows go elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    access::twice,
    pool::{ReadPool, find_pool},
};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        lists::{Line, List, Lists},
        place::At,
        prefix,
        raw::Section,
        schema::{self, nearest},
    },
    model::{RouteTo, SourceRoute},
};

/// Lines of a list that lead nowhere, after which the others are left: naming what may be meant takes time.
const MAX_WRONG: usize = 100;

/// What routes may lead to.
struct Ways<'p> {
    pools: &'p BTreeMap<String, ReadPool>,
    /// The VIP's own, if there is such a pool.
    own: Option<&'p ReadPool>,
}

/// All source routes of a VIP whose own pool is `own`, and the pools that they lead to.
pub(super) fn source_routes<'p>(
    section: &Section<'_>,
    lists: &Lists<'_>,
    pools: &'p BTreeMap<String, ReadPool>,
    own: Option<&'p ReadPool>,
) -> (Vec<SourceRoute>, Vec<&'p ReadPool>) {
    let ways = Ways { pools, own };
    let mut routes = inline(section, &ways);
    if let Some(list) = lists.list(section, "source_routes_file") {
        let lines = list.lines.iter().map(|line| ways.line(section, &list, line));
        let mut wrong = 0;
        let found = lines.take_while(|route| {
            wrong += usize::from(route.is_none());
            wrong <= MAX_WRONG
        });
        routes.extend(found.flatten());
    }
    for (net, _, [first, again]) in twice(routes.iter().map(|(route, at)| (route.source, (), at))) {
        let message = format!("source {net} is routed twice");
        let complaint = Complaint::new(Code::Duplicate, *again, message).label("again here");
        section.complain(complaint.also(*first, "first here").hint("route each prefix of a VIP once"));
    }
    let to: BTreeSet<&str> = routes.iter().filter_map(|(route, _)| route.pool()).collect();
    let pools = to.into_iter().filter_map(|name| pools.get(name)).collect();
    (routes.into_iter().map(|(route, _)| route).collect(), pools)
}

/// The routes in the file itself.
fn inline(section: &Section<'_>, ways: &Ways<'_>) -> Vec<(SourceRoute, At)> {
    let tables = section.children("source_routes", &schema::SOURCE_ROUTE);
    let route = |table: &Section<'_>| {
        table.require("source", "add `source = \"203.0.113.0/24\"`");
        let source = table.parsed("source", prefix::parse);
        let [pool, backend] = ["pool", "backend"].map(|key| table.string(key));
        let to = match [table.entry("pool"), table.entry("backend")] {
            [Some((first, _)), Some((second, _))] => {
                let message = "a source route leads to a pool and to a backend";
                let complaint = Complaint::new(Code::Conflict, second.span(), message).also(first.span(), "the pool");
                section.complain(complaint.label("the backend").hint("leave out `pool` or `backend`"));
                None
            }
            [None, None] => {
                let complaint = Complaint::new(Code::MissingKey, table.span(), "a source route leads nowhere");
                let hint = "add `pool = \"NAME\"`, or `backend = \"NAME\"` of one of the VIP's own pool";
                section.complain(complaint.label("no `pool`, no `backend`").hint(hint));
                None
            }
            _ => match (pool, backend) {
                (Some(name), _) => ways.pool(section, name.span(), name.get_ref()),
                (_, Some(name)) => ways.backend(section, name.span(), name.get_ref()),
                _ => None,
            },
        };
        let source = source?;
        Some((SourceRoute { source: *source.get_ref(), to: to? }, source.span()))
    };
    tables.iter().filter_map(route).collect()
}

impl Ways<'_> {
    /// `PREFIX pool NAME` or `PREFIX backend NAME`.
    fn line(&self, section: &Section<'_>, list: &List, line: &Line) -> Option<(SourceRoute, At)> {
        let (rest, at) = list.rest(line);
        let mut words = rest.split_whitespace();
        let [Some(kind @ ("pool" | "backend")), Some(name), None] = [words.next(), words.next(), words.next()] else {
            let at = if rest.is_empty() { line.at } else { at };
            let complaint = Complaint::new(Code::InvalidValue, at, "the line is not a source route");
            let hint = "write \"PREFIX pool NAME\" or \"PREFIX backend NAME\", and comments after `#`";
            section.complain(complaint.label("leads nowhere").hint(hint));
            return None;
        };
        let place = At { start: at.end - name.len(), ..at };
        let to = if kind == "pool" { self.pool(section, place, name) } else { self.backend(section, place, name) };
        Some((SourceRoute { source: line.net, to: to? }, line.at))
    }

    fn pool(&self, section: &Section<'_>, at: At, name: &str) -> Option<RouteTo> {
        find_pool(section, at, name, self.pools).map(|pool| RouteTo::Pool(pool.pool.name.clone()))
    }

    fn backend(&self, section: &Section<'_>, at: At, name: &str) -> Option<RouteTo> {
        let own = self.own?;
        if own.names.contains_key(name) {
            return Some(RouteTo::Backend(name.to_owned()));
        }
        let message = format!("pool {} has no backend {name}", own.pool.name);
        let hint = match nearest(name, own.names.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "name a backend of the VIP's own pool, or lead to another pool with `pool`".into(),
        };
        let complaint = Complaint::new(Code::UnknownBackend, at, message).label("no such backend");
        section.complain(complaint.hint(hint));
        None
    }
}
