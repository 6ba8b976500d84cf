//! What an HTTP check asks, and what it takes for an answer.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

use regex::bytes::{Regex, RegexBuilder};

use super::Tls;

/// What an HTTP check asks, and what it takes for an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Http {
    /// `method`
    pub method: Method,
    /// Request target.
    pub path: String,
    /// `Host` header; `None` is the VIP's address.
    pub host: Option<String>,
    /// Further headers by name, as they were written; no two differ in case alone.
    pub headers: BTreeMap<String, String>,
    /// Ranges of status codes that count as success, both ends included.
    pub expect_status: Vec<(u16, u16)>,
    /// What the body has to hold; if `None`, it is not read.
    pub expect_body: Option<Body>,
    /// How it is asked over TLS: `type = "https"`
    pub tls: Option<Tls>,
}

impl Default for Http {
    /// What a check asks that says nothing else.
    fn default() -> Self {
        Self {
            method: Method::default(),
            path: "/".into(),
            host: None,
            headers: BTreeMap::new(),
            expect_status: vec![(200, 299)],
            expect_body: None,
            tls: None,
        }
    }
}

/// A method of HTTP that checks may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The whole answer.
    #[default]
    Get,
    /// An answer without a body.
    Head,
    /// What may be asked.
    Options,
    /// A request with an empty body.
    Post,
    /// The same.
    Put,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Get, Self::Head, Self::Options, Self::Post, Self::Put];

    /// As the request has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// What a body has to hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Body {
    /// This text, anywhere.
    Text(String),
    /// A match, anywhere.
    Match(Pattern),
}

/// A regular expression over bytes. Equal to another that is written alike.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Largest form that matching needs, in bytes: one of hundreds of states. The time that a search takes is bounded by
    /// it, since it grows with states and bytes multiplied.
    const LARGEST: usize = 16 * 1024;
    /// Most memory for states that a search has been in.
    const LARGEST_CACHE: usize = 64 * 1024;

    /// Of its text. Classes such as `\d` are those of ASCII.
    ///
    /// # Errors
    /// When it is none, or needs more memory than a check may take.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).size_limit(Self::LARGEST).dfa_size_limit(Self::LARGEST_CACHE);
        builder.build().map(Self)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether these bytes hold a match.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}
