//! Reads the sources: code without comments and strings, as words, and what they import.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A source file: its path from the repository's top, its text without comments and strings, and its lines.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) code: String,
    pub(crate) lines: usize,
}

/// All Rust sources of the repository.
pub(crate) fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["lb-common", "lb-xdp", "lb-daemon", "netns-tests", "bench", "bpf-build", "certificates"]
            .map(|name| top.join(name))
            .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let path = path.strip_prefix(&top).expect("it is in the repository").display().to_string();
                found.push(Source { path, code: bare(&text), lines: text.lines().count() });
            }
        }
    }
    assert!(found.len() > 200, "only {} sources were found", found.len());
    found
}

/// The text without comments, strings and characters; each gives way to a blank.
pub(crate) fn bare(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            rest[start..].find(&end).map_or(rest.len(), |found| start + found + end.len())
        } else if first == '"' {
            string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            // The quotation mark, and escapes such as the apostrophe; other characters cannot be taken for anything else.
            rest[2..].find('\'').map_or(rest.len(), |found| found + 3)
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// Number of `#` of a raw string that begins here.
pub(crate) fn raw_string(text: &str) -> Option<usize> {
    let text = text.strip_prefix('r')?;
    let hashes = text.len() - text.trim_start_matches('#').len();
    text[hashes..].starts_with('"').then_some(hashes)
}

/// Length of the string that begins here.
pub(crate) fn string(text: &str) -> usize {
    let mut escaped = true;
    for (at, char) in text.char_indices() {
        match char {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Words of code, with `::`, braces and commas as words of their own.
pub(crate) fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |char: char| char.is_alphanumeric() || char == '_';
        let length = match rest.find(|char| !is_word(char)).unwrap_or(rest.len()) {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            length => length,
        };
        let (word, after) = rest.split_at(length);
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// What follows `root::` anywhere in the code: in `use` trees each branch, and in paths.
pub(crate) fn imports<'c>(words: &[&'c str], root: &str) -> BTreeSet<&'c str> {
    let mut found = BTreeSet::new();
    for at in 0..words.len() {
        let is_path = words[at] == root && words.get(at + 1) == Some(&"::") && (at == 0 || words[at - 1] != "::");
        match words.get(at + 2) {
            Some(&"{") if is_path => found.extend(branches(&words[at + 3..])),
            Some(word) if is_path => _ = found.insert(*word),
            _ => {}
        }
    }
    found
}

/// First words of a tree's branches, up to its closing brace.
pub(crate) fn branches<'c>(words: &[&'c str]) -> Vec<&'c str> {
    let (mut depth, mut begins, mut found) = (0, true, Vec::new());
    for word in words {
        match *word {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," if depth == 0 => begins = true,
            word if begins => {
                found.push(word);
                begins = false;
            }
            _ => {}
        }
    }
    found
}

/// The module of a file of a crate: its first folder or its own name. Tests see what they like.
pub(crate) fn module<'p>(path: &'p str, sources: &str) -> Option<&'p str> {
    let inner = path.strip_prefix(sources)?;
    let is_test = inner.split(['/', '.']).any(|part| part == "tests" || part == "fixture");
    let module = inner.split(['/', '.']).next()?;
    (!is_test && !matches!(module, "lib" | "main")).then_some(module)
}

/// The code before its unit tests.
pub(crate) fn shipped(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code)
}
