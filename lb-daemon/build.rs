//! Builds the BPF object, since cargo cannot depend on a binary for another target.
//!
//! `LB_BPF_OBJECT=FILE` takes a ready object instead; `LB_BPF_TOOLCHAIN` names the toolchain (a rustup name or a sysroot
//! path). Otherwise the first of rustup's `nightly` and `/usr` that has the source of `core` is used.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const LINKER: &str = "bpf-linker";
const TARGET: &str = "bpfel-unknown-none";

fn main() {
    for name in ["LB_BPF_OBJECT", "LB_BPF_TOOLCHAIN", "LB_BPF_LINKER"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let workspace = PathBuf::from(var("CARGO_MANIFEST_DIR")).join("..");
    for watched in
        ["lb-xdp/src", "lb-xdp/Cargo.toml", "lb-common/src", "lb-common/Cargo.toml", "Cargo.toml", "Cargo.lock"]
    {
        println!("cargo:rerun-if-changed={}", workspace.join(watched).display());
    }
    let out = PathBuf::from(var("OUT_DIR")).join("lb-xdp.o");
    let object = match env::var("LB_BPF_OBJECT") {
        Ok(file) => PathBuf::from(file),
        Err(_) => build(&workspace),
    };
    if let Err(error) = fs::copy(&object, &out) {
        fail(&format!("cannot copy the BPF object {}: {error}", object.display()));
    }
}

/// Builds lb-xdp's binary and returns where it lies.
fn build(workspace: &Path) -> PathBuf {
    let sysroot = sysroot();
    let linker = linker();
    let target_dir = PathBuf::from(var("OUT_DIR")).join("bpf");
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
        .args(["build", "--locked", "-p", "lb-xdp", "--bin", "lb-xdp", "--features", "bpf", "--profile", "bpf"])
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
        Ok(status) if status.success() => target_dir.join(TARGET).join("bpf/lb-xdp"),
        Ok(status) => fail(&format!("building the BPF object failed: {status}")),
        Err(error) => fail(&format!("cannot run {}: {error}", sysroot.join("bin/cargo").display())),
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
