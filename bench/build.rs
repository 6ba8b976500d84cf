//! Builds the benchmarks' own XDP programs. `BENCH_BPF_OBJECT=FILE` takes a ready object instead; `bpf-build` tells the rest.

use std::path::Path;

use bpf_build::Binary;

fn main() {
    Binary {
        package: "bench-xdp",
        sources: &["bench/xdp/src", "bench/xdp/Cargo.toml"],
        ready: "BENCH_BPF_OBJECT",
        features: &[],
    }
    .build(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
}
