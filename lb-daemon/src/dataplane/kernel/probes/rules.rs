//! The rules that lead probes to their table.

use std::io;

use lb_common::maps::ProbeTuning;
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

use super::{ProbeError, failed};
use crate::dataplane::kernel::netlink::{change, dump, or_there};

/// Right behind the one for addresses of this host; the others are not asked for packets with our mark.
const PRIORITY: u32 = 1;
const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// A rule that goes by marks.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    mark: u32,
    mask: u32,
    table: u32,
}

impl Rule {
    fn of(message: &RuleMessage) -> Option<Self> {
        let number = |pick: fn(&RuleAttribute) -> Option<u32>| message.attributes.iter().find_map(pick);
        Some(Self {
            mark: number(|attribute| if let RuleAttribute::FwMark(mark) = attribute { Some(*mark) } else { None })?,
            mask: number(|attribute| if let RuleAttribute::FwMask(mask) = attribute { Some(*mask) } else { None })
                .unwrap_or(u32::MAX),
            table: number(|attribute| if let RuleAttribute::Table(table) = attribute { Some(*table) } else { None })
                .unwrap_or_else(|| message.header.table.into()),
        })
    }

    /// Whether some mark with this tag fits.
    fn concerns(&self, tag: u32) -> bool {
        let both = self.mask & ProbeTuning::TAG;
        // One that looks at the number alone, or at bits that all marks have, is somebody's for other packets.
        both == ProbeTuning::TAG && self.mark & ProbeTuning::TAG == tag
    }
}

/// The rules of a family that go by marks; `None` where the kernel does not have the family.
fn list(family: AddressFamily) -> io::Result<Option<Vec<Rule>>> {
    let mut request = RuleMessage::default();
    request.header.family = family;
    // The rule for addresses of this host is always there.
    let mut found: Option<Vec<Rule>> = None;
    let outcome = dump(RouteNetlinkMessage::GetRule(request), |message| {
        // A kernel that does not know the family answers with those of all that it knows.
        if let RouteNetlinkMessage::NewRule(rule) = message
            && rule.header.family == family
        {
            found.get_or_insert_default().extend(Rule::of(&rule));
        }
    });
    match outcome {
        Err(error) if is_lacking(&error) => Ok(None),
        outcome => outcome.map(|()| found),
    }
}

/// Whether the kernel does not have the family.
fn is_lacking(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP))
}

/// Refuses a tag that leads elsewhere.
pub(super) fn check(tag: u32, table: u32) -> Result<(), ProbeError> {
    for family in FAMILIES {
        let rules = list(family).map_err(failed("list the routing rules"))?.unwrap_or_default();
        if let Some(other) = rules.iter().find(|rule| rule.concerns(tag) && rule.table != table) {
            return Err(ProbeError::Taken { tag, table: other.table });
        }
    }
    Ok(())
}

/// Whether probes are led to their table.
pub(super) fn are_there(tag: u32, table: u32) -> io::Result<bool> {
    let wanted = Rule { mark: tag, mask: ProbeTuning::TAG, table };
    for family in FAMILIES {
        if list(family)?.is_some_and(|rules| !rules.contains(&wanted)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Has them, in all families that there are.
pub(super) fn add(tag: u32, table: u32) -> Result<(), ProbeError> {
    for family in FAMILIES {
        let mut message = RuleMessage::default();
        message.header.family = family;
        message.header.action = RuleAction::ToTable;
        message.attributes.extend([
            RuleAttribute::Priority(PRIORITY),
            RuleAttribute::FwMark(tag),
            RuleAttribute::FwMask(ProbeTuning::TAG),
            RuleAttribute::Table(table),
        ]);
        match or_there(change(RouteNetlinkMessage::NewRule(message), NLM_F_CREATE | NLM_F_EXCL)) {
            Err(error) if is_lacking(&error) => {}
            outcome => outcome.map_err(failed("add a routing rule"))?,
        }
    }
    Ok(())
}

/// Removes the rules that lead to our table, but for those with the tag `keep`; whether there were any.
pub(super) fn remove(table: u32, keep: Option<u32>) -> Result<bool, ProbeError> {
    let mut any = false;
    for family in FAMILIES {
        for rule in list(family).map_err(failed("list the routing rules"))?.unwrap_or_default() {
            if rule.table != table || keep == Some(rule.mark) {
                continue;
            }
            let mut message = RuleMessage::default();
            message.header.family = family;
            message.header.action = RuleAction::ToTable;
            message.attributes.extend([
                RuleAttribute::Table(rule.table),
                RuleAttribute::FwMark(rule.mark),
                RuleAttribute::FwMask(rule.mask),
            ]);
            change(RouteNetlinkMessage::DelRule(message), 0).map_err(failed("remove a routing rule"))?;
            any = true;
        }
    }
    Ok(any)
}
