//! What can go wrong with the kernel, in words that say what to do about it.

use std::{fmt, fs, io, path::PathBuf};

use super::{
    explain::{OLDEST_KERNEL, Privileges},
    occupant::Occupant,
};

/// Why the tables or the program could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The pin path is not on a BPF file system.
    #[error("{} is not on a BPF file system; choose a folder under /sys/fs/bpf", path.display())]
    NotBpfFs {
        /// The pin path.
        path: PathBuf,
    },
    /// It would be, were one mounted at the usual place.
    #[error(
        "{} is not on a BPF file system; mount one: `mount -t bpf bpf /sys/fs/bpf` (inside `ip netns exec`, which hides \
         the one that is there, use `nsenter --net=/run/netns/NAME` in its stead)",
        path.display()
    )]
    NotMounted {
        /// The pin path.
        path: PathBuf,
    },
    /// A folder of the pin path belongs to another user.
    #[error(
        "{} belongs to user {uid}, who could swap what is pinned there; remove it, or make it root's: `chown root {}`",
        path.display(),
        path.display()
    )]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A BPF file system takes no names with dots.
    #[error("{}: a BPF file system takes no names with dots; choose another --pin-path", path.display())]
    Dotted {
        /// The pin path.
        path: PathBuf,
    },
    /// Another process holds the pin path.
    #[error("{} is in use by {holder}; stop it first", path.display())]
    InUse {
        /// The pin path.
        path: PathBuf,
        /// Who holds it.
        holder: Holder,
    },
    /// Tables of another layout version lie there.
    #[error(
        "{} holds tables of another version ({found}; this lb has layout v{version}), which it does not know; run the lb that \
         made them, or take them down with `lb unload`, which stops forwarding and forgets the flows, and start again",
        path.display()
    )]
    OtherVersion {
        /// The pin path.
        path: PathBuf,
        /// What was found, such as `v2`.
        found: String,
        /// The version of this program.
        version: u32,
    },
    /// A pinned table does not fit this program.
    #[error(
        "the pinned table {table} has {what} {has}, and this lb needs {needs}; take it down with `lb unload`, which stops \
         forwarding and forgets the flows, then start again"
    )]
    Incompatible {
        /// Name of the table.
        table: String,
        /// What differs.
        what: &'static str,
        /// As it is.
        has: String,
        /// As it should be.
        needs: String,
    },
    /// Tables of another size would take more memory than there is.
    #[error(
        "tables of the size that is asked for take {} MiB beside those in place, and {} MiB of memory are available; ask for \
         less, such as by flow_table_entries, or free memory",
        needs.div_ceil(1 << 20),
        available >> 20
    )]
    NoMemory {
        /// Bytes that the new tables take.
        needs: u64,
        /// Bytes that are to be had.
        available: u64,
    },
    /// Nothing is pinned there.
    #[error("nothing is loaded: {} holds no tables; `lb run` or `lb load` puts them there", path.display())]
    NothingPinned {
        /// The pin path.
        path: PathBuf,
    },
    /// No `lb decap` is in force on that interface.
    #[error("no link of it is in force below {}; `lb decap --interface {interface}` puts it there", path.display())]
    NoDecap {
        /// The interface.
        interface: String,
        /// Where its link would be.
        path: PathBuf,
    },
    /// Not allowed.
    #[error("not permitted to {what}: {}", Privileges(missing))]
    Permission {
        /// What was attempted.
        what: String,
        /// Capabilities that the process lacks.
        missing: Vec<&'static str>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The verifier refused the program.
    #[error(
        "kernel {kernel} refused the program {program}; {}, its end:\n{tail}",
        match log { Some(file) => format!("the whole log is in {}", file.display()), None => "its log".to_owned() }
    )]
    Verifier {
        /// Name of the program.
        program: String,
        /// Release of the kernel.
        kernel: String,
        /// Last lines of the verifier's log.
        tail: String,
        /// File with the whole log, unless it could not be written.
        log: Option<PathBuf>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel is too old.
    #[error(
        "cannot {what}: kernel {kernel} lacks a feature that lb needs; {}.{} or newer has them all",
        OLDEST_KERNEL.0,
        OLDEST_KERNEL.1
    )]
    Unsupported {
        /// What was attempted.
        what: String,
        /// Release of the kernel.
        kernel: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The tables in place could not be read.
    #[error("cannot read the tables that are in place")]
    Read {
        /// What could not be read.
        #[source]
        source: crate::dataplane::Error,
    },
    /// The object that was built into this binary is not as it should be.
    #[error("cannot {what}")]
    Object {
        /// What was attempted.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A system call failed.
    #[error("cannot {what}")]
    System {
        /// What was attempted.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Why the program could not be bound to an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No such interface.
    #[error("there is no interface {name}; there are: {existing}")]
    NoInterface {
        /// Its name.
        name: String,
        /// Those that exist.
        existing: String,
    },
    /// Another XDP program runs there.
    #[error(
        "another XDP program, number {program}, runs on {name} ({mode}); {}",
        occupant.on(name)
    )]
    Busy {
        /// The interface.
        name: String,
        /// Number of the program; see `bpftool prog show id`.
        program: u32,
        /// Where it runs.
        mode: &'static str,
        /// Whose it is.
        occupant: Occupant,
    },
    /// The kernel refused in each mode that was tried.
    #[error("cannot attach to {name} in {mode} mode: {reason}")]
    Refused {
        /// The interface.
        name: String,
        /// The mode that was tried last.
        mode: &'static str,
        /// What the kernel or driver said.
        reason: String,
    },
    /// The interface's frames are larger than the program or the driver takes.
    #[error(
        "cannot attach to {name} in {mode} mode: {reason}; frames of its MTU, {mtu}, come in several buffers, which {}: \
         lower it, such as by `ip link set dev {name} mtu 1500` (on both ends of a veth pair), or say mode = \"generic\"",
        if *multi_buffer {
            "its driver does not take with XDP"
        } else {
            "this program does not take (lb takes them from kernel 5.18 on, lb decap does not)"
        }
    )]
    FramesTooLarge {
        /// The interface.
        name: String,
        /// The mode that was tried.
        mode: &'static str,
        /// The interface's MTU.
        mtu: u32,
        /// Whether the program takes frames in several buffers.
        multi_buffer: bool,
        /// What the kernel or driver said.
        reason: String,
    },
    /// The kernel attached, but not by a link that can be pinned.
    #[error(
        "kernel {kernel} cannot bind a program to {name} by a BPF link, so it would not outlive lb; {}.{} or newer can",
        OLDEST_KERNEL.0,
        OLDEST_KERNEL.1
    )]
    NoLink {
        /// The interface.
        name: String,
        /// Release of the kernel.
        kernel: String,
    },
    /// The kernel does not show what it was told to run.
    #[error("attached to {name}, but the kernel does not show program {program} on it")]
    NotThere {
        /// The interface.
        name: String,
        /// Number of the program.
        program: u32,
    },
    /// An interface without an address to unwrap packets of.
    #[error("{name} has no address of its own that could be tunnelled to; name one with --address")]
    NoAddress {
        /// The interface.
        name: String,
    },
    /// The tables or the program are not in place, or a pin could not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Who holds a pin path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Number of the process, where the kernel tells.
    pub pid: Option<u32>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else { return f.write_str("another lb") };
        match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => write!(f, "{} (process {pid})", name.trim_end()),
            Err(_) => write!(f, "process {pid}"),
        }
    }
}
