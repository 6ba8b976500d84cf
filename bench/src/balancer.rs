//! The program under test, loaded and filled by the real `lb`.

use std::{
    env,
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context, ensure};

use crate::{
    replay::Subject,
    workload::{VIP4, VIP4_TO_6, VIP6},
};

/// Backends of each VIP.
pub const BACKENDS: u8 = 100;
/// Room for flows, four times as many as are measured at most by default.
pub const FLOW_TABLE_ENTRIES: u32 = 1 << 22;

/// The `lb` to measure.
#[derive(Clone, Debug)]
pub struct Balancer {
    binary: PathBuf,
}

impl Balancer {
    /// The one that `LB_BIN` names, or the one beside this program.
    ///
    /// # Errors
    /// If there is none.
    pub fn find() -> Result<Self, anyhow::Error> {
        let binary = match env::var_os("LB_BIN") {
            Some(named) => PathBuf::from(named),
            None => env::current_exe().context("this program's own path is unknown")?.with_file_name("lb"),
        };
        ensure!(
            binary.is_file(),
            "no lb at {}; build it with `cargo build --release -p lb-daemon`, or name one in LB_BIN",
            binary.display()
        );
        Ok(Self { binary })
    }

    /// Loads a dataplane of its own, which vanishes with the returned value: `lb unload` removes the pins at once, and what
    /// is held open works on.
    ///
    /// # Errors
    /// If `lb` fails.
    pub fn load(&self) -> Result<Subject, anyhow::Error> {
        let folder = tempfile::tempdir().context("no place for a config file")?;
        let config = folder.path().join("lb.toml");
        fs::write(&config, config_text()).with_context(|| format!("cannot write {}", config.display()))?;
        let pins = PathBuf::from(format!("/sys/fs/bpf/lb-bench-{}", process::id()));
        let loaded = self
            .lb(&pins, &["load".as_ref(), "--no-attach".as_ref(), "--config".as_ref(), config.as_path()])
            .and_then(|()| Subject::pinned("lb", &pins.join("prog")));
        let unloaded = self.lb(&pins, &["unload".as_ref()]);
        let subject = loaded?;
        unloaded?;
        Ok(subject)
    }

    fn lb(&self, pins: &Path, arguments: &[&Path]) -> Result<(), anyhow::Error> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--pin-path").arg(pins);
        let output = command.output().with_context(|| format!("cannot run {}", self.binary.display()))?;
        ensure!(
            output.status.success(),
            "`{} {}` failed ({}):\n{}",
            self.binary.display(),
            arguments[0].display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

/// The config: three VIP addresses, UDP and TCP port 80 of each, 100 backends.
fn config_text() -> String {
    let mut text =
        format!("[dataplane]\nnext_hop = \"02:00:00:00:00:01\"\nflow_table_entries = {FLOW_TABLE_ENTRIES}\n");
    let pools = [("v4", Ipv4Addr::new(10, 100, 0, 0).to_string()), ("v6", "fd00:100::".to_owned())];
    for (pool, network) in pools {
        let network = network.trim_end_matches('0');
        let backends = (1..=BACKENDS).map(|n| format!("  {{ name = \"{pool}-{n}\", address = \"{network}{n}\" }},\n"));
        let _ = write!(text, "\n[pool.{pool}]\nbackends = [\n{}]\n", backends.collect::<String>());
    }
    let vips = [
        ("4-to-4", VIP4.to_string(), "v4"),
        ("6-to-6", VIP6.to_string(), "v6"),
        ("4-to-6", VIP4_TO_6.to_string(), "v6"),
    ];
    for (name, address, pool) in vips {
        for protocol in ["tcp", "udp"] {
            let _ = write!(
                text,
                "\n[[vip]]\nname = \"{name}-{protocol}\"\naddress = \"{address}\"\nport = 80\nprotocol = \"{protocol}\"\n\
                 pool = \"{pool}\"\n"
            );
        }
    }
    text
}
