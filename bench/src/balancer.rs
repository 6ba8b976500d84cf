//! The program under test, loaded and filled by the real `lb`.

use std::{
    env,
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::{
    lab::{self, Pins},
    replay::Subject,
    workload::{VIP4, VIP4_TO_6, VIP6},
};

/// What the program under test is called.
pub const LB: &str = "lb";
/// Backends of each VIP.
pub const BACKENDS: u8 = 100;
/// The network that clients are in: 10.0.0.0/8, whose first client is 10.1.0.1.
const CLIENTS: u32 = 10 << 24;
/// The first of many VIPs.
pub const FIRST_OF_MANY: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 1);
/// The first of their backends: 10.110.0.1.
const BACKENDS_OF_MANY: u32 = (10 << 24) + (110 << 16) + 1;
/// Room for flows where there are not more than a fourth as many, see [`Workload::wish`](crate::workload::Workload::wish).
pub const FLOW_TABLE_ENTRIES: u32 = 1 << 22;

/// What a config has beside the plain VIPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// A line for each pool.
    pub pool: &'static str,
    /// The name of a VIP, and a line for it. It may name `deny.txt`, with [`DENIED`] prefixes, and `routes.txt`, with
    /// [`ROUTES`].
    pub vip: (&'static str, &'static str),
    /// Sections.
    pub more: &'static str,
    /// Whether backends have server IDs.
    pub server_ids: bool,
    /// Whether backends are on a network of this host, instead of behind a gateway.
    pub on_link: bool,
    /// What is larger or smaller than usual.
    pub scale: Scale,
}

/// Sizes other than the usual ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// So many VIPs, from [`FIRST_OF_MANY`] on, UDP port 80 of each, with so many backends each, instead of the plain ones.
    pub sites: Option<(u32, u32)>,
    /// Entries of the flow table.
    pub flow_table: Option<u32>,
}

/// Prefixes in `deny.txt`.
pub const DENIED: u32 = 100_000;
/// Prefixes in `routes.txt`.
pub const ROUTES: u32 = 1_000_000;

/// The `lb` that `LB_BIN` names, or the one beside this program.
///
/// # Errors
/// If there is none.
pub fn binary() -> Result<PathBuf, anyhow::Error> {
    let binary = match env::var_os("LB_BIN") {
        Some(named) => PathBuf::from(named),
        None => env::current_exe().context("this program's own path is unknown")?.with_file_name("lb"),
    };
    ensure!(
        binary.is_file(),
        "no lb at {}; build it with `cargo build --release -p lb-daemon`, or name one in LB_BIN",
        binary.display()
    );
    Ok(binary)
}

/// The `lb` to measure.
#[derive(Clone, Debug)]
pub struct Balancer {
    binary: PathBuf,
}

impl Balancer {
    /// That of [`binary`].
    ///
    /// # Errors
    /// If there is none.
    pub fn find() -> Result<Self, anyhow::Error> {
        Ok(Self { binary: binary()? })
    }

    /// Loads a dataplane of its own, which vanishes with the returned value: `lb unload` removes the pins at once, and what
    /// is held open works on.
    ///
    /// # Errors
    /// If `lb` fails.
    pub fn load(&self, wish: &Wish) -> Result<Subject, anyhow::Error> {
        let folder = lab::folder()?;
        let config = folder.path().join("lb.toml");
        let write = |name: &str, text: String| {
            fs::write(folder.path().join(name), text).with_context(|| format!("cannot write {name}"))
        };
        write("lb.toml", config_text(wish))?;
        if wish.vip.1.contains("deny.txt") {
            write("deny.txt", denied())?;
        }
        if wish.vip.1.contains("routes.txt") {
            write("routes.txt", routes())?;
        }
        let pins = Pins::new("load");
        let loaded = self
            .lb(
                pins.path(),
                &["load".as_ref(), "--no-attach".as_ref(), "--config".as_ref(), config.as_path()],
                wish.on_link,
            )
            .and_then(|()| Subject::pinned(LB, &pins.path().join("prog")));
        let unloaded = self.lb(pins.path(), &["unload".as_ref()], false);
        let subject = loaded?;
        unloaded?;
        Ok(subject)
    }

    /// Runs it; `alone` is in a network namespace without any route, in which it takes every backend for a neighbour.
    fn lb(&self, pins: &Path, arguments: &[&Path], alone: bool) -> Result<(), anyhow::Error> {
        let (mut command, runs) = if alone {
            let mut command = Command::new("unshare");
            command.arg("--net").arg("--").arg(&self.binary);
            (command, "unshare (package util-linux)".to_owned())
        } else {
            (Command::new(&self.binary), self.binary.display().to_string())
        };
        command.args(arguments).arg("--pin-path").arg(pins);
        let output = command.output().with_context(|| format!("cannot run {runs}"))?;
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

/// The config: three VIP addresses, UDP and TCP port 80 of each, 100 backends; and what is wished for.
fn config_text(wish: &Wish) -> String {
    let next_hop = if wish.on_link { "auto" } else { "02:00:00:00:00:01" };
    let entries = wish.scale.flow_table.unwrap_or(FLOW_TABLE_ENTRIES);
    let mut text = format!("[dataplane]\nnext_hop = \"{next_hop}\"\nflow_table_entries = {entries}\n");
    if let Some((vips, backends)) = wish.scale.sites {
        many(&mut text, vips, backends);
        return text;
    }
    let pools = [("v4", Ipv4Addr::new(10, 100, 0, 0).to_string()), ("v6", "fd00:100::".to_owned())];
    for (pool, network) in pools {
        let network = network.trim_end_matches('0');
        let id = |n: u8| if wish.server_ids { format!(", server_id = \"{n:08x}\"") } else { String::new() };
        let backend = |n| format!("  {{ name = \"{pool}-{n}\", address = \"{network}{n}\"{} }},\n", id(n));
        let backends: String = (1..=BACKENDS).map(backend).collect();
        let _ = write!(text, "\n[pool.{pool}]\n{}\nbackends = [\n{backends}]\n", wish.pool);
    }
    let vips = [
        ("4-to-4", VIP4.to_string(), "v4"),
        ("6-to-6", VIP6.to_string(), "v6"),
        ("4-to-6", VIP4_TO_6.to_string(), "v6"),
    ];
    for (name, address, pool) in vips {
        for protocol in ["tcp", "udp"] {
            let name = format!("{name}-{protocol}");
            let line = if wish.vip.0 == name { wish.vip.1 } else { "" };
            let _ = write!(
                text,
                "\n[[vip]]\nname = \"{name}\"\naddress = \"{address}\"\nport = 80\nprotocol = \"{protocol}\"\n\
                 pool = \"{pool}\"\n{line}\n"
            );
        }
    }
    text + "\n" + wish.more + "\n"
}

/// So many VIPs with pools of so many backends. A pool of its own for each would only make the file longer: there is a target
/// for each pair.
fn many(text: &mut String, vips: u32, backends: u32) {
    text.push_str("\n[pool.many]\nbackends = [\n");
    for number in 0..backends {
        let address = Ipv4Addr::from_bits(BACKENDS_OF_MANY + number);
        let _ = writeln!(text, "  {{ name = \"b{number}\", address = \"{address}\" }},");
    }
    text.push_str("]\n");
    for number in 0..vips {
        let address = Ipv4Addr::from_bits(FIRST_OF_MANY.to_bits() + number);
        let _ = write!(
            text,
            "\n[[vip]]\nname = \"v{number}\"\naddress = \"{address}\"\nport = 80\nprotocol = \"udp\"\npool = \"many\"\n"
        );
    }
}

/// Addresses all over the network of the clients, but not theirs: each packet goes deep into the table, and on.
fn denied() -> String {
    lines((0..DENIED).map(|n| Ipv4Addr::from_bits(CLIENTS + n * 167).to_string()))
}

/// Addresses all over the network of the clients, the first client's among them.
fn routes() -> String {
    lines((0..ROUTES).map(|n| format!("{} backend v4-7", Ipv4Addr::from_bits(CLIENTS + 1 + n * 16))))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}
