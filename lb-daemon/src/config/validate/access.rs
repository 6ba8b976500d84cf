//! `allow` and `deny`, in the file itself and in lists beside it.

use ipnet::IpNet;

use crate::{
    config::{
        diagnostic::{Code, Complaint},
        lists::Lists,
        place::At,
        prefix,
        raw::Section,
    },
    model::Access,
};

/// A prefix and its place.
pub(super) type Placed = (IpNet, At);

/// Both lists of a section.
pub(super) fn access(section: &Section<'_>, lists: &Lists<'_>) -> Access {
    let [allow, deny] = [("allow", "allow_file"), ("deny", "deny_file")].map(|(key, file)| {
        let mut found = prefixes(section, key);
        found.extend(listed(section, lists, file));
        found
    });
    if allow.is_empty() && lists.list(section, "allow_file").is_some() {
        lets_all_in(section);
    }
    let both = [("allow", &allow), ("deny", &deny)];
    let all = both.iter().flat_map(|(key, list)| list.iter().map(|(net, at)| (*net, *key, at)));
    for (net, [first, again], [first_at, again_at]) in twice(all) {
        let (code, message, hint) = if first == again {
            let message = format!("prefix {net} is given twice in `{again}`");
            (Code::Duplicate, message, "give each prefix once")
        } else {
            let message = format!("prefix {net} is in `{first}` and in `{again}`");
            (Code::Conflict, message, "leave it in one of them; of different prefixes the longest decides")
        };
        let complaint = Complaint::new(code, *again_at, message).label("again here");
        section.complain(complaint.also(*first_at, "first here").hint(hint));
    }
    let nets = |list: Vec<Placed>| list.into_iter().map(|(net, _)| net).collect();
    Access { allow: nets(allow), deny: nets(deny) }
}

/// Complains about a list of those let in that is empty: a file cut short must not let everybody in.
fn lets_all_in(section: &Section<'_>) {
    let Some((_, value)) = section.entry("allow_file") else { return };
    let complaint = Complaint::new(Code::InvalidValue, value.span(), "`allow_file` has no prefix");
    let hint = "list who may send, `0.0.0.0/0` and `::/0` for everybody; or remove `allow_file`";
    section.complain(complaint.label("would let everybody in").hint(hint));
}

/// The prefixes of an array under `key`.
pub(super) fn prefixes(section: &Section<'_>, key: &'static str) -> Vec<Placed> {
    let parse = |value| {
        let text = section.string_of(key, value)?;
        match prefix::parse(text.get_ref()) {
            Ok(net) => Some((net, text.span())),
            Err(wrong) => {
                section.invalid(key, text.span(), wrong);
                None
            }
        }
    };
    section.array(key).into_iter().filter_map(parse).collect()
}

/// The prefixes of the list that `key` names.
fn listed(section: &Section<'_>, lists: &Lists<'_>, key: &'static str) -> Vec<Placed> {
    let Some(list) = lists.list(section, key) else { return Vec::new() };
    for line in list.lines.iter() {
        let (rest, at) = list.rest(line);
        if !rest.is_empty() {
            let complaint = Complaint::new(Code::InvalidValue, at, format!("`{key}` has more than a prefix in a line"));
            section.complain(complaint.label("what is this?").hint("write one prefix a line, and comments after `#`"));
        }
    }
    list.lines.iter().map(|line| (line.net, line.at)).collect()
}

/// Prefixes that come more than once: what is said of the earlier and the later, and where they are. Takes n log n steps.
pub(super) fn twice<'a, T: Copy>(
    all: impl Iterator<Item = (IpNet, T, &'a At)>,
) -> impl Iterator<Item = (IpNet, [T; 2], [&'a At; 2])> {
    let mut all: Vec<_> = all.collect();
    // Stable: the same prefixes stay in the order in which they were given.
    all.sort_by_key(|(net, ..)| *net);
    let mut before: Option<(IpNet, T, &At)> = None;
    all.into_iter().filter_map(move |one| {
        let (net, said, at) = before.replace(one)?;
        (net == one.0).then_some((net, [said, one.1], [at, one.2]))
    })
}
