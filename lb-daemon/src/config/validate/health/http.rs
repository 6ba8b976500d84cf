//! Keys of HTTP checks.

use std::collections::BTreeMap;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use toml::de::DeValue;

use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::Spanned,
        quantity::{self, Wrong, wrong},
        raw::Section,
        validate::Once,
    },
    model::{Body, Http, Method, Pattern},
};

/// The keys that this reads.
pub(super) const KEYS: &[&str] =
    &["method", "path", "host", "headers", "expect_status", "expect_body", "expect_body_regex"];

/// Longest text or pattern that a body is searched for, in bytes.
const LONGEST_BODY: usize = 1024;
/// Most headers, and longest value of one.
const MOST_HEADERS: usize = 32;
const LONGEST_HEADER: usize = 4096;
/// What decides where the request ends, or is sent in any case.
const RESERVED: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

pub(super) fn http(section: &Section<'_>) -> Http {
    let default = Http::default();
    let methods = Method::ALL.map(|method| (method.name(), method));
    let method = section.choice("method", &methods).unwrap_or_default();
    Http {
        method,
        path: section.parsed("path", path).map_or(default.path, Spanned::into_inner),
        host: section.parsed("host", host).map(Spanned::into_inner),
        headers: headers(section),
        expect_status: expect_status(section).unwrap_or(default.expect_status),
        expect_body: expect_body(section, method),
        tls: None,
    }
}

/// What a request line can carry (RFC 9112 section 3.2.1).
fn path(text: &str) -> Result<String, Wrong> {
    if !text.starts_with('/') {
        Err(wrong("does not begin with a slash", format!("write \"/{text}\"")))
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        Err(wrong("a space, `#` or non-ASCII character cannot be sent", "write it in percent form, such as %20"))
    } else {
        Ok(text.to_owned())
    }
}

fn host(text: &str) -> Result<String, Wrong> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'[' | b']');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(fits) {
        return Err(wrong("not a host name", "write what a `Host` header carries, such as \"www.example.org\""));
    }
    Ok(text.to_owned())
}

/// Names and values that a request can carry.
fn headers(section: &Section<'_>) -> BTreeMap<String, String> {
    const KEY: &str = "headers";
    let given = section.strings(KEY);
    if let (true, Some((_, value))) = (given.len() > MOST_HEADERS, section.entry(KEY)) {
        let label = format!("{} headers", given.len());
        section.invalid(KEY, value.span(), wrong(label, format!("give at most {MOST_HEADERS}")));
    }
    let mut seen = Once::new();
    let mut headers = BTreeMap::new();
    for (name, value) in given {
        match header_name(name.get_ref()) {
            Ok(known) => {
                let what = format!("header {known}");
                let hint = "give each header once; capitals make no difference";
                seen.note(section, &what, known.to_string(), name.span(), hint);
            }
            Err(wrong) => section.invalid(KEY, name.span(), wrong),
        }
        let text = *value.get_ref();
        if text.len() > LONGEST_HEADER || HeaderValue::from_str(text).is_err() {
            let hint = format!("write up to {LONGEST_HEADER} bytes without line ends or control characters");
            section.invalid(KEY, value.span(), wrong("not a header's value", hint));
        }
        headers.insert((*name.get_ref()).to_owned(), text.to_owned());
    }
    headers
}

/// The name as HTTP compares it.
fn header_name(text: &str) -> Result<HeaderName, Wrong> {
    let name = HeaderName::try_from(text);
    let name = name.map_err(|_| wrong("not a header's name", "write one such as \"X-Check\", without the colon"))?;
    if name == HOST {
        Err(wrong("has a key of its own", "write `host = \"www.example.org\"` beside `headers`"))
    } else if RESERVED.contains(&name) {
        Err(wrong("lb sends this header itself", format!("remove \"{text}\"")))
    } else {
        Ok(name)
    }
}

/// Status codes as numbers or strings, if any.
fn expect_status(section: &Section<'_>) -> Option<Vec<(u16, u16)>> {
    const KEY: &str = "expect_status";
    let mut ranges = Vec::new();
    for value in section.array(KEY) {
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => {
                section.wrong_type(KEY, value, "a status code or a string such as \"200-299\"");
                continue;
            }
        };
        match quantity::statuses(&text) {
            Ok(range) => ranges.push(range),
            Err(wrong) => section.invalid(KEY, value.span(), wrong),
        }
    }
    if let Some((_, value)) = section.entry(KEY)
        && value.get_ref().as_array().is_some_and(|array| array.is_empty())
    {
        section.invalid(KEY, value.span(), wrong("no status would be a success", "write [\"200-299\"]"));
    }
    (!ranges.is_empty()).then_some(ranges)
}

/// `expect_body` or `expect_body_regex`.
fn expect_body(section: &Section<'_>, method: Method) -> Option<Body> {
    let text = section.parsed("expect_body", body_text);
    let pattern = section.parsed("expect_body_regex", pattern);
    let places = [
        ("expect_body", &text.as_ref().map(Spanned::span)),
        ("expect_body_regex", &pattern.as_ref().map(Spanned::span)),
    ];
    if let [(_, Some(text)), (_, Some(pattern))] = places {
        let complaint = Complaint::new(Code::Conflict, *pattern, "`expect_body_regex` beside `expect_body`");
        let hint = "keep one of them; a pattern can hold the text too";
        section.complain(complaint.also(*text, "`expect_body` is here").hint(hint));
    }
    for (key, place) in places {
        let Some(place) = place.filter(|_| method == Method::Head) else { continue };
        let complaint = Complaint::new(Code::Conflict, place, format!("`{key}` with `method = \"HEAD\"`"));
        let complaint = complaint.label("answers to HEAD have no body");
        section.complain(complaint.hint(format!("remove `{key}`, or use `method = \"GET\"`")));
    }
    let text = text.map(|text| Body::Text(text.into_inner()));
    text.or(pattern.map(|pattern| Body::Match(pattern.into_inner())))
}

fn body_text(text: &str) -> Result<String, Wrong> {
    if text.is_empty() {
        Err(wrong("every body has this", "write a text that the body of a good answer holds"))
    } else if text.len() > LONGEST_BODY {
        Err(wrong(format!("longer than {LONGEST_BODY} bytes"), "a part that tells a good answer is enough"))
    } else {
        Ok(text.to_owned())
    }
}

fn pattern(text: &str) -> Result<Pattern, Wrong> {
    if text.len() > LONGEST_BODY {
        return Err(wrong(format!("longer than {LONGEST_BODY} bytes"), "search for less"));
    }
    let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
    let found = match parser.parse(text) {
        Ok(found) => found,
        Err(error) => {
            let hint = "mend it there; a `\\` before a sign takes it literally, and '…' keeps `\\` as it is";
            return Err(wrong(syntax(text, &error), hint));
        }
    };
    if found.properties().minimum_len() == Some(0) && found.properties().look_set().is_empty() {
        return Err(wrong("every body has a match of it", "write one that needs a character, or has `^` and `$`"));
    }
    Pattern::new(text).map_err(|_| wrong("needs too much memory", "repeat less: write `x+` in place of `x{1,500}`"))
}

/// What is wrong with a pattern, and where.
fn syntax(text: &str, error: &regex_syntax::Error) -> String {
    let (what, at) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start.offset),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span().start.offset),
        other => return other.to_string(),
    };
    let character = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
    format!("not a regular expression: {what}, at character {character}")
}
