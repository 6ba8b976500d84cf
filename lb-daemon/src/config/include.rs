//! `include`: further files with pools, VIPs and health templates.
//!
//! Only the main file includes, so nothing can go round in circles. A file is read once, at the first name or pattern
//! that it goes by; so `["first.toml", "*.toml"]` puts one before the others.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use glob::Pattern;

use super::{
    diagnostic::{Code, Complaint},
    place::{At, Spanned, Text},
    quantity::wrong,
    raw::Section,
    source::{Fault, Source},
    syntax,
};

const KEY: &str = "include";
/// Files that one configuration may include: each is opened and kept.
const MAX_FILES: usize = 10_000;

/// The main file's table, and those of included files in their order.
#[derive(Debug)]
pub(super) struct Documents<'a> {
    pub(super) main: Section<'a>,
    pub(super) included: Vec<Section<'a>>,
}

impl<'a> Documents<'a> {
    pub(super) fn all(&self) -> impl Iterator<Item = &Section<'a>> {
        std::iter::once(&self.main).chain(&self.included)
    }

    /// Whether any of them has `key`.
    pub(super) fn have(&self, key: &'static str) -> bool {
        self.all().any(|section| section.entry(key).is_some())
    }
}

/// What `include` leads to.
struct Included<'a> {
    root: &'a Section<'a>,
    source: &'a dyn Source,
    main: PathBuf,
    seen: BTreeSet<PathBuf>,
    texts: Vec<Text>,
    /// Whether nothing is missing.
    whole: bool,
}

/// The texts of the files that `root`, of the file `main`, includes; and whether these are all of them.
pub(super) fn included(root: &Section<'_>, main: &Path, source: &dyn Source) -> (Vec<Text>, bool) {
    let folder = main.parent().unwrap_or(Path::new(""));
    let (seen, texts, main) = (BTreeSet::new(), Vec::new(), plain(main));
    let mut included = Included { root, source, main, seen, texts, whole: true };
    for value in root.array(KEY) {
        let Some(named) = root.string_of(KEY, value) else { continue };
        if named.get_ref().contains(['*', '?', '[']) {
            included.matching(&named, folder);
        } else {
            included.named(&named, folder);
        }
    }
    (included.texts, included.whole)
}

impl Included<'_> {
    /// A file by its name.
    fn named(&mut self, named: &Spanned<&str>, folder: &Path) {
        let text = *named.get_ref();
        if text.is_empty() || text.contains('\0') {
            return self.root.invalid(KEY, named.span(), wrong("not a path", "give the path of a file, or a pattern"));
        }
        let path = plain(&folder.join(text));
        if path == self.main {
            let hint = "remove it; of what a pattern matches the main file is left out by itself";
            return self.root.invalid(KEY, named.span(), wrong("the file itself", hint));
        }
        self.read(named.span(), path);
    }

    /// All files that a pattern matches.
    fn matching(&mut self, named: &Spanned<&str>, folder: &Path) {
        let pattern = match pattern(folder, named.get_ref()) {
            Ok(pattern) => pattern,
            Err(why) => {
                return self.root.invalid(KEY, named.span(), wrong(why, "write a pattern such as \"conf.d/*.toml\""));
            }
        };
        let mut paths = match self.source.matches(&pattern) {
            Ok(paths) => paths,
            Err(fault) => return self.missing(named.span(), Path::new(pattern.as_str()), &fault),
        };
        paths.retain(|path| *path != self.main);
        paths.sort();
        if paths.is_empty() {
            let complaint = Complaint::new(Code::NoMatch, named.span(), format!("`{KEY}`: no file matches"));
            let hint = "patterns begin at the main file's folder; remove those that are not needed";
            self.root.complain(complaint.label("nothing is included").hint(hint));
        }
        for path in paths {
            self.read(named.span(), path);
        }
    }

    /// A file that `at` names, unless it was read before.
    fn read(&mut self, at: At, path: PathBuf) {
        if self.seen.len() == MAX_FILES && !self.seen.contains(&path) {
            self.whole = false;
            let complaint = Complaint::new(Code::TooMany, at, format!("`{KEY}`: more than {MAX_FILES} files"));
            return self.root.complain(complaint.hint("name fewer files, or put several into one"));
        }
        if self.seen.contains(&path) {
            return;
        }
        match self.source.text(&path) {
            Ok(found) => {
                let found = found.unmarked();
                let number = self.texts.len() + 1;
                if let Some(valid) = found.valid {
                    self.whole = false;
                    self.root.complain(syntax::not_utf8(At::byte(number, valid)));
                }
                self.texts.push(Text { name: path.display().to_string(), text: found.text });
            }
            Err(fault) => self.missing(at, &path, &fault),
        }
        self.seen.insert(path);
    }

    fn missing(&mut self, at: At, path: &Path, fault: &Fault) {
        self.whole = false;
        let message = format!("`{KEY}`: {} cannot be read", path.display());
        let complaint = Complaint::new(Code::UnreadableFile, at, message).label(fault.to_string());
        self.root.complain(complaint.hint(fault.hint()));
    }
}

/// A pattern in a folder, or why it is none.
fn pattern(folder: &Path, text: &str) -> Result<Pattern, String> {
    if text.contains("**") {
        return Err("`**` is not known: each `*` matches within one name".into());
    }
    let folder = folder.to_str().ok_or("the folder's name is not UTF-8, so nothing in it can be matched")?;
    let whole = plain(&Path::new(&Pattern::escape(folder)).join(text));
    Pattern::new(&whole.to_string_lossy()).map_err(|error| error.msg.to_owned())
}

/// Without the steps that lead nowhere, so that one file has one name.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|step| *step != Component::CurDir).collect()
}
