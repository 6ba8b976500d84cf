//! Lists that lie in files of their own: a prefix a line, perhaps with what it leads to, and comments after `#`.
//!
//! A file is read once, however many VIPs name it, and a million lines take less than a second.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    authorities,
    diagnostic::{Code, Complaint},
    place::{At, Spanned, Text},
    prefix,
    quantity::wrong,
    raw::Section,
    source::{Found, Source},
    syntax,
};
use crate::model::Authorities;

/// The texts of a configuration, and the lists and certificates that it names.
pub(super) struct Lists<'a> {
    source: &'a dyn Source,
    /// Where relative paths begin.
    folder: PathBuf,
    texts: RefCell<Vec<Text>>,
    known: RefCell<BTreeMap<PathBuf, List>>,
    authorities: RefCell<BTreeMap<PathBuf, Option<Authorities>>>,
}

/// The lines of a file that begin with a prefix.
#[derive(Clone, Debug)]
pub(super) struct List {
    text: Arc<str>,
    /// The file's number among the texts.
    number: usize,
    pub(super) lines: Rc<[Line]>,
}

/// A line of a list.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) net: IpNet,
    /// Of the prefix.
    pub(super) at: At,
    rest: Range<usize>,
}

impl List {
    /// What follows a line's prefix, without the space around it, and where.
    pub(super) fn rest(&self, line: &Line) -> (&str, At) {
        (self.text.get(line.rest.clone()).unwrap_or_default(), At::new(self.number, &line.rest))
    }
}

impl<'a> Lists<'a> {
    /// None as yet, beside the main file's and what it includes.
    pub(super) fn new(documents: Vec<Text>, folder: &Path, source: &'a dyn Source) -> Self {
        let (known, authorities) = (RefCell::default(), RefCell::default());
        Self { source, folder: folder.to_owned(), texts: RefCell::new(documents), known, authorities }
    }

    /// All texts, the main file's first.
    pub(super) fn into_texts(self) -> Vec<Text> {
        self.texts.into_inner()
    }

    /// The list in the file that `key` names, if there is one that can be read.
    pub(super) fn list(&self, section: &Section<'_>, key: &'static str) -> Option<List> {
        let path = self.path(section, key)?;
        if let Some(list) = self.known.borrow().get(path.get_ref()) {
            return Some(list.clone());
        }
        let (number, found) = self.read(section, key, &path)?;
        let list = lines_of(section, found, number);
        self.known.borrow_mut().insert(path.into_inner(), list.clone());
        Some(list)
    }

    /// The certificates of authorities in the file that `key` names, if it has some and nothing else.
    pub(super) fn authorities(&self, section: &Section<'_>, key: &'static str) -> Option<Authorities> {
        let path = self.path(section, key)?;
        if let Some(known) = self.authorities.borrow().get(path.get_ref()) {
            return known.clone();
        }
        let (number, found) = self.read(section, key, &path)?;
        let whole = found.valid.is_none().then_some(&*found.text);
        let authorities = whole.and_then(|text| authorities::of(section, key, text, number));
        self.authorities.borrow_mut().insert(path.into_inner(), authorities.clone());
        authorities
    }

    /// The path under `key`.
    fn path(&self, section: &Section<'_>, key: &'static str) -> Option<Spanned<PathBuf>> {
        let parse = |text: &str| match text {
            "" => Err(wrong("not a path", "give the path of a text file")),
            path if path.contains('\0') => Err(wrong("no path has a zero byte", "give the path of a text file")),
            path => Ok(self.folder.join(path)),
        };
        section.parsed(key, parse)
    }

    /// The text of a file and its number among all; complains if it cannot be read, or is no text.
    fn read(&self, section: &Section<'_>, key: &str, path: &Spanned<PathBuf>) -> Option<(usize, Found)> {
        let name = path.get_ref().display();
        let number = self.texts.borrow().len();
        let found = match self.source.text(path.get_ref()) {
            Ok(found) => found.unmarked(),
            Err(fault) => {
                let message = format!("`{key}`: {name} cannot be read");
                let complaint = Complaint::new(Code::UnreadableFile, path.span(), message).label(fault.to_string());
                section.complain(complaint.hint(fault.hint()));
                return None;
            }
        };
        self.texts.borrow_mut().push(Text { name: name.to_string(), text: found.text.clone() });
        if let Some(valid) = found.valid {
            section.complain(syntax::not_utf8(At::byte(number, valid)));
        }
        Some((number, found))
    }
}

/// The lines of a file; if it is text up to a byte only, the whole lines before.
fn lines_of(section: &Section<'_>, Found { text, valid }: Found, number: usize) -> List {
    let whole_lines = match valid {
        None => &*text,
        Some(valid) => text.get(..valid).and_then(|valid| valid.rsplit_once('\n')).map_or("", |(lines, _)| lines),
    };
    let mut start = 0;
    let mut lines = Vec::new();
    for whole in whole_lines.split('\n') {
        lines.extend(line(section, whole, start, number));
        start += whole.len() + 1;
    }
    List { lines: lines.into(), text, number }
}

impl fmt::Debug for Lists<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A line, which begins at byte `start` of its text; none if it says nothing, or nothing that can be read.
fn line(section: &Section<'_>, whole: &str, start: usize, number: usize) -> Option<Line> {
    let said = whole.split('#').next().unwrap_or_default().trim_end();
    let begin = said.len() - said.trim_start().len();
    let said = said.trim_start();
    let word = said.split(char::is_whitespace).next().filter(|word| !word.is_empty())?;
    let rest = said.get(word.len()..).unwrap_or_default().trim_start();
    let (first, end) = (start + begin, start + begin + said.len());
    let at = At::new(number, &(first..first + word.len()));
    match prefix::parse(word) {
        Ok(net) => Some(Line { net, at, rest: end - rest.len()..end }),
        Err(wrong) => {
            let complaint = Complaint::new(Code::InvalidValue, at, "the line does not begin with a prefix");
            section.complain(complaint.label(wrong.label).hint(wrong.hint));
            None
        }
    }
}
