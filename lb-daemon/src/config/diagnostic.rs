//! Complaints about a configuration: where, what, and what to do about it.
//!
//! A complaint being collected knows byte ranges only; [`Diagnostics`] adds the texts they lie in, so that they can be
//! printed with the line in question or handed out as lines and columns.

use std::{collections::BTreeMap, fmt, sync::Arc};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Serialize, Serializer};

pub use super::place::Place;
use super::place::{At, Lines, Text};

/// Complaints printed in full: each costs a walk over the text, and nobody reads more at once.
const MAX_SHOWN: usize = 100;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $severity:ident;)*) => {
        /// What kind of complaint it is. The names are stable: scripts may rely on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])* $name,)*
        }

        impl Code {
            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Whether it refuses the configuration.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// The text is not UTF-8.
    NotUtf8 = "not-utf8", Error;
    /// The text is not TOML.
    Syntax = "syntax", Error;
    /// No such key.
    UnknownKey = "unknown-key", Error;
    /// A key that must be there is not.
    MissingKey = "missing-key", Error;
    /// A value of another type than the key's.
    WrongType = "wrong-type", Error;
    /// A value that means nothing here.
    InvalidValue = "invalid-value", Error;
    /// A number or duration too small or too large.
    OutOfRange = "out-of-range", Error;
    /// The same thing twice.
    Duplicate = "duplicate", Error;
    /// A VIP or one of its source routes names a pool that is not there.
    UnknownPool = "unknown-pool", Error;
    /// A pool names a health template that is not there.
    UnknownTemplate = "unknown-template", Error;
    /// A source route names a backend that its VIP's pool does not have.
    UnknownBackend = "unknown-backend", Error;
    /// A file that is named cannot be read.
    UnreadableFile = "unreadable-file", Error;
    /// A VIP routes by server ID, and no backend has one.
    NoServerIds = "no-server-ids", Error;
    /// A pool has no backends.
    NoBackends = "no-backends", Error;
    /// More than the tables can hold.
    TooMany = "too-many", Error;
    /// An address that cannot be what it is configured as.
    UnusableAddress = "unusable-address", Error;
    /// Two settings that cannot both hold.
    Conflict = "conflict", Error;
    /// A setting that another one makes meaningless.
    NoEffect = "no-effect", Warning;
    /// A pattern matches no file.
    NoMatch = "no-match", Warning;
    /// No VIP: nothing is served.
    NoVip = "no-vip", Warning;
    /// No interface: nothing can be attached to.
    NoInterface = "no-interface", Warning;
    /// A pool that no VIP uses.
    UnusedPool = "unused-pool", Warning;
    /// A health template that no pool uses.
    UnusedTemplate = "unused-template", Warning;
    /// No backend of a pool takes new flows.
    IdlePool = "idle-pool", Warning;
    /// Too few slots for shares to be as the weights say.
    SmallRing = "small-ring", Warning;
    /// An address that works only in special cases.
    DoubtfulAddress = "doubtful-address", Warning;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How bad a complaint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted, but may not do what is meant.
    Warning,
}

/// A complaint while it is being collected.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    code: Code,
    pub(super) at: At,
    message: String,
    label: String,
    also: Option<(At, String)>,
    hint: Option<String>,
}

impl Complaint {
    /// A complaint about these bytes.
    pub(super) fn new(code: Code, at: At, message: impl Into<String>) -> Self {
        Self { code, at, message: message.into(), label: String::new(), also: None, hint: None }
    }

    /// What to say right at the place.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// A second place that matters, and what to say there.
    pub(super) fn also(mut self, at: At, label: impl Into<String>) -> Self {
        self.also = Some((at, label.into()));
        self
    }

    /// What would mend it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A complaint about a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Its kind.
    pub code: Code,
    /// Whether it refuses the configuration.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// A second place, such as the first of two that must differ.
    pub also: Option<Place>,
    /// What would mend it.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    /// One line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, message, code, .. } = self;
        write!(f, "{}:{}:{}: {message} [{code}]", place.file, place.line, place.column)?;
        self.hint.iter().try_for_each(|hint| write!(f, ": {hint}"))
    }
}

/// All complaints about a configuration, in the order of their places, with the texts they lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// The configuration, and the files that it names; without what they say where there is no complaint.
    texts: Vec<Text>,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Complaints, and the texts that they count on.
    pub(super) fn new(texts: Vec<Text>, mut complaints: Vec<Complaint>) -> Self {
        complaints.sort_by(|a, b| (&a.at, a.code).cmp(&(&b.at, b.code)));
        // What several VIPs share is looked at for each of them.
        complaints.dedup_by(|a, b| (&a.at, a.code, &a.message) == (&b.at, b.code, &b.message));
        let places =
            complaints.iter().flat_map(|complaint| [Some(&complaint.at), complaint.also.as_ref().map(|(at, _)| at)]);
        let mut lines = BTreeMap::new();
        for number in places.flatten().map(|at| at.text) {
            if let Some(text) = texts.get(number) {
                lines.entry(number).or_insert_with(|| Lines::of(text));
            }
        }
        let place = |at: &At, label: String| lines.get(&at.text).map(|lines| lines.place(at, printable(label)));
        let list = complaints.into_iter().filter_map(|complaint| {
            Some(Diagnostic {
                code: complaint.code,
                severity: complaint.code.severity(),
                message: printable(complaint.message),
                place: place(&complaint.at, complaint.label)?,
                also: complaint.also.and_then(|(at, label)| place(&at, label)),
                hint: complaint.hint.map(printable),
            })
        });
        let list = list.collect();
        let used: Vec<usize> = lines.into_keys().collect();
        let keep = |(number, text): (usize, Text)| match used.binary_search(&number) {
            Ok(_) => text,
            Err(_) => Text { text: Arc::from(""), ..text },
        };
        Self { texts: texts.into_iter().enumerate().map(keep).collect(), list }
    }

    /// The complaints one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// The complaints without the text they lie in.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.list
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether any of them refuses the configuration.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many there are: `ok`, `1 warning`, `2 errors, 1 warning`.
    pub fn summary(&self) -> String {
        let counted = [(Severity::Error, "error"), (Severity::Warning, "warning")].map(|(severity, word)| {
            match self.count(severity) {
                0 => None,
                1 => Some(format!("1 {word}")),
                many => Some(format!("{many} {word}s")),
            }
        });
        let counted: Vec<String> = counted.into_iter().flatten().collect();
        if counted.is_empty() { "ok".into() } else { counted.join(", ") }
    }

    /// For people: each complaint with its lines, labels and hint, and an empty line after it.
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        let shown = self.list.iter().take(MAX_SHOWN);
        let mut parts: Vec<String> = shown.map(|one| format!("{}\n\n", renderer.render(&self.report(one)))).collect();
        if let Some(more) = self.list.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
            parts.push(format!("... and {more} more\n\n"));
        }
        parts.concat()
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|one| one.severity == severity).count()
    }

    fn report<'a>(&'a self, one: &'a Diagnostic) -> Vec<Group<'a>> {
        let level = match one.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let (beside, elsewhere): (Vec<&Place>, Vec<&Place>) =
            one.also.iter().partition(|also| also.at.text == one.place.at.text);
        let here = self.excerpt(&one.place, AnnotationKind::Primary, beside.first().copied());
        let other = elsewhere.first().map(|also| self.excerpt(also, AnnotationKind::Context, None));
        let hint = one.hint.iter().map(|hint| Level::HELP.message(hint));
        let title = level.primary_title(&one.message).id(one.code.name());
        vec![title.element(here).elements(other).elements(hint)]
    }

    /// The lines of a place and of another one in the same text. No more: the text may be large.
    fn excerpt<'a>(
        &'a self,
        place: &'a Place,
        kind: AnnotationKind,
        also: Option<&'a Place>,
    ) -> Snippet<'a, Annotation<'a>> {
        let text = self.texts.get(place.at.text).map_or("", |text| &*text.text);
        let places = || std::iter::once((place, kind)).chain(also.map(|also| (also, AnnotationKind::Context)));
        let first = places().map(|(place, _)| place).min_by_key(|place| place.at.start).unwrap_or(place);
        let end = places().map(|(place, _)| place.at.end).max().unwrap_or_default();
        let start = text.get(..first.at.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let end = text.get(end..).and_then(|after| after.find('\n')).map_or(text.len(), |length| end + length);
        let snippet =
            Snippet::source(text.get(start..end).unwrap_or_default()).line_start(first.line).path(&place.file);
        places().fold(snippet, |snippet, (place, kind)| {
            let label = (!place.label.is_empty()).then_some(place.label.as_str());
            snippet.annotation(kind.span(place.at.start - start..place.at.end - start).label(label))
        })
    }
}

impl fmt::Display for Diagnostics {
    /// As [`Diagnostics::render`] without colours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

/// Escapes what a quoted key or value could tell a terminal or a log to do.
fn printable(text: String) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    if text.contains(char::is_control) { text.chars().map(escaped).collect() } else { text }
}
