//! Builds the BPF object of the dataplane. `LB_BPF_OBJECT=FILE` takes a ready object instead; `bpf-build` tells the rest.

use std::path::Path;

use bpf_build::Binary;

fn main() {
    Binary {
        package: "lb-xdp",
        sources: &["lb-xdp/src", "lb-xdp/Cargo.toml", "lb-common/src", "lb-common/Cargo.toml"],
        ready: "LB_BPF_OBJECT",
    }
    .build(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
}
