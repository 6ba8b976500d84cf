//! Which `lb` is tested.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The `lb` to test: the one that `LB_BIN` names, else the newest that lies beside the running test.
///
/// # Errors
/// When there is none; the error says how to build it.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("LB_BIN") {
        let named = PathBuf::from(named);
        ensure!(named.is_file(), "LB_BIN names {}, which is no file", named.display());
        return Ok(named);
    }
    let test = std::env::current_exe().context("cannot find the running program")?;
    // target/debug/deps/forward-1234 or target/release/lb-demo
    let folders = test.ancestors().skip(1).take(4);
    let candidates = folders.flat_map(|folder| ["lb", "release/lb", "debug/lb"].map(|name| folder.join(name)));
    let built = |file: PathBuf| {
        let about = fs::metadata(&file).ok().filter(fs::Metadata::is_file)?;
        Some((about.modified().ok()?, file))
    };
    let newest = candidates.filter_map(built).max();
    newest.map(|(_, file)| file).context("no lb was built: run ./dev build, or name one by LB_BIN")
}

/// The `lb` whose tables have the next layout, made by `cargo build -p lb-daemon --features next-layout`: what `LB_NEXT_BIN`
/// names.
///
/// # Errors
/// When there is none; the error says how to build it.
pub fn next_binary() -> Result<PathBuf> {
    let built = "`./dev test` builds it, or: cargo build -p lb-daemon --features next-layout --target-dir target/next";
    let named = std::env::var_os("LB_NEXT_BIN").with_context(|| format!("LB_NEXT_BIN names no lb; {built}"))?;
    let named = PathBuf::from(named);
    ensure!(named.is_file(), "LB_NEXT_BIN names {}, which is no file; {built}", named.display());
    Ok(named)
}
