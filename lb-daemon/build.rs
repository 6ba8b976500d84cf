//! Builds the BPF object of the dataplane. `LB_BPF_OBJECT=FILE` takes a ready object instead; `bpf-build` tells the rest.

use std::{env, path::Path};

use bpf_build::Binary;

fn main() {
    // As cargo tells build scripts which features are on.
    let next = env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some();
    Binary {
        package: "lb-xdp",
        sources: &["lb-xdp/src", "lb-xdp/Cargo.toml", "lb-common/src", "lb-common/Cargo.toml"],
        ready: "LB_BPF_OBJECT",
        features: if next { &["next-layout"] } else { &[] },
    }
    .build(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
}
