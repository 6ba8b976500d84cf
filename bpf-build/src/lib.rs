//! Builds BPF binaries of this workspace, since cargo cannot depend on a binary for another target.
//!
//! `LB_BPF_TOOLCHAIN` names the toolchain (a rustup name or a sysroot path); otherwise the first of rustup's `nightly` and
//! `/usr` that has the source of `core` is used. `LB_BPF_LINKER` names the linker.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const LINKER: &str = "bpf-linker";
const TARGET: &str = "bpfel-unknown-none";

/// A BPF binary of this workspace.
#[derive(Clone, Copy, Debug)]
pub struct Binary<'a> {
    /// The package, and its binary of the same name, behind its feature `bpf`.
    pub package: &'a str,
    /// Files and folders that it is made of, seen from the workspace.
    pub sources: &'a [&'a str],
    /// Environment variable that names a ready object to be taken instead.
    pub ready: &'a str,
    /// Features of the package besides `bpf`.
    pub features: &'a [&'a str],
}

impl Binary<'_> {
    /// Builds the binary, from the build script of a package that lies in `workspace`, and puts it in `OUT_DIR` as
    /// `PACKAGE.o`. Ends the build script with a message if that fails.
    pub fn build(&self, workspace: &Path) {
        for name in [self.ready, "LB_BPF_TOOLCHAIN", "LB_BPF_LINKER"] {
            println!("cargo:rerun-if-env-changed={name}");
        }
        for watched in self.sources.iter().chain(&["Cargo.toml", "Cargo.lock"]) {
            println!("cargo:rerun-if-changed={}", workspace.join(watched).display());
        }
        let object = match env::var(self.ready) {
            Ok(file) => PathBuf::from(file),
            Err(_) => compile(self.package, self.features, workspace),
        };
        let out = PathBuf::from(var("OUT_DIR")).join(format!("{}.o", self.package));
        if let Err(error) = fs::copy(&object, &out) {
            fail(&format!("cannot copy the BPF object {}: {error}", object.display()));
        }
    }
}

/// Builds the package's binary and returns where it lies.
fn compile(package: &str, features: &[&str], workspace: &Path) -> PathBuf {
    let sysroot = sysroot();
    let linker = linker();
    let target_dir = target_dir();
    let flags = [
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // 32-bit jumps and ALU; without unaligned access header fields are read byte by byte (398 -> 326 instructions).
        "-Ctarget-cpu=v3".into(),
        "-Ctarget-feature=+allows-misaligned-mem-access".into(),
        format!("-Clinker={}", linker.display()),
    ];
    let status = Command::new(sysroot.join("bin/cargo"))
        .current_dir(workspace)
        .args(["build", "--locked", "-p", package, "--bin", package, "--profile", "bpf", "--features"])
        .arg([&["bpf"], features].concat().join(","))
        .args(["-Zbuild-std=core", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTC", sysroot.join("bin/rustc"))
        // Debian's stable compiler may use `build-std` this way; a nightly one doesn't mind.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status();
    match status {
        Ok(status) if status.success() => target_dir.join(TARGET).join("bpf").join(package),
        Ok(status) => fail(&format!("building the BPF object failed: {status}")),
        Err(error) => fail(&format!("cannot run {}: {error}", sysroot.join("bin/cargo").display())),
    }
}

/// One for all build scripts of a profile, so that `core` is built once: beside cargo's own `build` folder, in which
/// `OUT_DIR` is `build/PACKAGE-HASH/out`.
fn target_dir() -> PathBuf {
    let out = PathBuf::from(var("OUT_DIR"));
    match out.ancestors().nth(2) {
        Some(build) if build.file_name().is_some_and(|name| name == "build") => build.with_file_name("bpf"),
        _ => out.join("bpf"),
    }
}

/// The sysroot of a toolchain that has the source of `core`.
fn sysroot() -> PathBuf {
    let candidates: Vec<PathBuf> = match env::var("LB_BPF_TOOLCHAIN") {
        Ok(named) if Path::new(&named).is_absolute() => vec![named.into()],
        Ok(named) => rustup_sysroot(&named).into_iter().collect(),
        Err(_) => rustup_sysroot("nightly").into_iter().chain([PathBuf::from("/usr")]).collect(),
    };
    let has_core = |root: &PathBuf| root.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists();
    candidates.iter().find(|root| has_core(root)).cloned().unwrap_or_else(|| {
        fail(
            "no Rust toolchain with the source of core was found. Run ./dev setup, or one of:\n  \
             apt-get install rustc-web cargo-web rust-web-src\n  \
             rustup toolchain install nightly --component rust-src",
        )
    })
}

fn rustup_sysroot(toolchain: &str) -> Option<PathBuf> {
    let output = Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().into())
}

/// bpf-linker: as told, as `./dev setup` installs it, or from the path.
fn linker() -> PathBuf {
    if let Ok(named) = env::var("LB_BPF_LINKER") {
        return named.into();
    }
    let cache = env::var("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|_| env::var("HOME").map(|home| Path::new(&home).join(".cache")));
    let from_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let folders = cache.into_iter().map(|cache| cache.join("lb/tools/bin")).chain(from_path);
    folders.map(|folder| folder.join(LINKER)).find(|file| file.exists()).unwrap_or_else(|| {
        fail(
            "bpf-linker was not found. Run ./dev setup, or:\n  apt-get install llvm-22-dev\n  \
             LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22",
        )
    })
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo:error={line}");
    }
    std::process::exit(1)
}
