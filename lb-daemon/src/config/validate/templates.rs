//! `[health.NAME]`: what health sections of pools may take their keys from.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Once,
    health::{TYPES, look_through},
    name,
};
use crate::config::{
    diagnostic::{Code, Complaint},
    include::Documents,
    lists::Lists,
    place::{At, Spanned},
    raw::Section,
    schema::{self, nearest},
};

/// The one that lies under all others.
const DEFAULT: &str = "default";

/// All templates, and which of them pools use.
pub(super) struct Templates<'a> {
    all: BTreeMap<&'a str, (At, Section<'a>)>,
    used: BTreeSet<&'a str>,
    /// Whether a pool named one that is not there.
    mistaken: bool,
}

impl<'a> Templates<'a> {
    /// Those of all files, each looked through for itself.
    pub(super) fn read(documents: &Documents<'a>, lists: &Lists<'_>) -> Self {
        let mut all = BTreeMap::new();
        let mut seen = Once::new();
        for (key, section) in documents.all().flat_map(|root| root.members("health", &schema::TEMPLATE)) {
            if let Err(wrong) = name(key.get_ref()) {
                section.invalid("health", key.span(), wrong);
            }
            let what = format!("health template {}", key.get_ref());
            seen.note(&section, &what, *key.get_ref(), key.span(), "give each template its own name, over all files");
            look_through(&section, lists);
            all.insert(*key.get_ref(), (key.span(), section));
        }
        Self { all, used: BTreeSet::new(), mistaken: false }
    }

    /// A pool's section over the template that it names and over the default; none if there is no such template.
    pub(super) fn under(&mut self, own: Section<'a>, named: Option<Spanned<&'a str>>) -> Option<Section<'a>> {
        let mut merged = own;
        if let Some(named) = named {
            let Some((key, (_, template))) = self.all.get_key_value(named.get_ref()) else {
                self.unknown(&own, &named);
                return None;
            };
            self.used.insert(key);
            merged = merged.over(template);
        }
        if let Some((_, default)) = self.all.get(DEFAULT) {
            self.used.insert(DEFAULT);
            merged = merged.over(default);
        }
        Some(merged)
    }

    fn unknown(&mut self, section: &Section<'_>, named: &Spanned<&str>) {
        self.mistaken = true;
        let word = *named.get_ref();
        let hint = match nearest(word, self.all.keys().copied()) {
            _ if TYPES.iter().any(|(known, _)| *known == word) => format!("write `health = {{ type = \"{word}\" }}`"),
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("add a [health.{word}], or name one that is there"),
        };
        let complaint =
            Complaint::new(Code::UnknownTemplate, named.span(), format!("there is no health template {word}"));
        section.complain(complaint.label("no such template").hint(hint));
    }

    /// Warns of templates that no pool uses. One whose name is mistyped is likely to mean one of them.
    pub(super) fn unused(&self, root: &Section<'_>) {
        let unused = self.all.iter().filter(|(name, _)| !self.mistaken && !self.used.contains(*name));
        for (name, (at, _)) in unused {
            let message = format!("no pool uses health template {name}");
            let hint = format!("write `health = \"{name}\"` in a [pool.NAME], or remove the template");
            root.complain(Complaint::new(Code::UnusedTemplate, *at, message).hint(hint));
        }
    }
}
