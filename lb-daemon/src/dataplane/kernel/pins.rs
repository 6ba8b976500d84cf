//! Where everything is pinned.
//!
//! ```text
//! DIR/prog          the XDP program in force
//! DIR/link-IFNAME   its links, where they outlive the process
//! DIR/maps          -> vN/maps
//! DIR/vN/maps/NAME  the tables, N being the layout version
//! DIR/decap/...     the program of `lb decap`; see `decap`
//! ```
//!
//! A BPF file system knows folders, symbolic links and atomic renames, but takes no names with dots, so those of interface
//! names (`eth0.100`) are written as `%2e`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, symlink},
    path::{Path, PathBuf},
};

use lb_common::layout::LAYOUT_VERSION;

use super::{error::OpenError, explain::system};

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Start of the names of links.
const LINK: &str = "link-";
/// End of the names of tables that wait to take another's place.
const NEXT: &str = "-next";
/// Where a BPF file system usually is.
pub(super) const USUAL_MOUNT: &str = "/sys/fs/bpf";

/// The names below one pin path.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    dir: PathBuf,
    /// Version of the layout.
    version: u32,
    /// Tables that are looked for where they wait for their names.
    waiting: BTreeSet<&'static str>,
}

impl Pins {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), version: LAYOUT_VERSION, waiting: BTreeSet::new() }
    }

    /// The same names for the tables of another version.
    pub(super) fn at(&self, version: u32) -> Self {
        Self { dir: self.dir.clone(), version, waiting: BTreeSet::new() }
    }

    /// The same names, but for these tables, which do not have theirs yet.
    pub(super) fn while_waiting(&self, waiting: BTreeSet<&'static str>) -> Self {
        Self { waiting, ..self.clone() }
    }

    /// The version that `maps` leads to.
    pub(super) fn aliased(&self) -> Option<u32> {
        let target = fs::read_link(self.tables_alias()).ok()?;
        let version = target.parent()?.to_str()?.strip_prefix('v')?.parse().ok()?;
        (target == self.at(version).alias_target()).then_some(version)
    }

    /// Versions of tables that are older than these.
    pub(super) fn older(&self) -> io::Result<Vec<u32>> {
        let versions = self.versions()?.into_iter().filter_map(|name| name.strip_prefix('v')?.parse().ok());
        Ok(versions.filter(|version| *version < self.version).collect())
    }

    /// Name of the version, such as `v2`.
    pub(super) fn version_name(&self) -> String {
        format!("v{}", self.version)
    }

    /// The pin path itself.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The program in force.
    pub(super) fn program(&self) -> PathBuf {
        self.dir.join("prog")
    }

    /// Where the next program is pinned before it takes the place of the one in force.
    pub(super) fn next_program(&self) -> PathBuf {
        self.dir.join("prog-next")
    }

    /// Where a new table is pinned before it takes the place of one of no use.
    pub(super) fn next_table(&self, name: &str) -> PathBuf {
        self.tables().join(format!("{name}{NEXT}"))
    }

    /// Names of tables of which another waits to take their place.
    pub(super) fn waiting(&self) -> io::Result<BTreeSet<String>> {
        Ok(names(&self.tables())?.iter().filter_map(|name| Some(name.strip_suffix(NEXT)?.to_owned())).collect())
    }

    /// Folder of this layout version.
    pub(super) fn version(&self) -> PathBuf {
        self.dir.join(self.version_name())
    }

    /// Folder of the tables.
    pub(super) fn tables(&self) -> PathBuf {
        self.version().join("maps")
    }

    /// A table.
    pub(super) fn table(&self, name: &str) -> PathBuf {
        if self.waiting.contains(name) { self.next_table(name) } else { self.tables().join(name) }
    }

    /// The name by which the contract knows the folder of the tables.
    pub(super) fn tables_alias(&self) -> PathBuf {
        self.dir.join("maps")
    }

    /// Where a new alias lies before it takes the place of the old one.
    pub(super) fn next_alias(&self) -> PathBuf {
        self.dir.join("maps-next")
    }

    /// The link of an interface.
    pub(super) fn link(&self, interface: &str) -> PathBuf {
        self.dir.join(link_name(interface))
    }

    /// Links that are pinned, by interface.
    pub(super) fn links(&self) -> io::Result<BTreeMap<String, PathBuf>> {
        let names = names(&self.dir)?;
        let links = names.iter().filter_map(|name| Some((unescape(name.strip_prefix(LINK)?), self.dir.join(name))));
        Ok(links.collect())
    }

    /// Names of folders of layout versions, of any version.
    pub(super) fn versions(&self) -> io::Result<Vec<String>> {
        let digits =
            |name: &str| name.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        Ok(names(&self.dir)?.into_iter().filter(|name| digits(name)).collect())
    }

    /// Refuses tables of another layout version.
    pub(super) fn check_version(&self) -> Result<(), OpenError> {
        let own = self.version_name();
        let listed = self.versions().map_err(|source| system(format!("list {}", self.dir.display()), source))?;
        let mut other = listed.into_iter().filter(|version| *version != own).collect::<Vec<_>>();
        let alias = self.tables_alias();
        match fs::read_link(&alias) {
            Ok(target) if target == self.alias_target() => {}
            Ok(target) => other.push(format!("maps -> {}", target.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // EINVAL: not a symbolic link.
            Err(_) => other.push("maps".to_owned()),
        }
        if other.is_empty() {
            return Ok(());
        }
        Err(OpenError::OtherVersion { path: self.dir.clone(), found: other.join(", "), version: LAYOUT_VERSION })
    }

    /// Makes the folder of the tables and the name by which it is reached.
    pub(super) fn make_tables(&self) -> Result<(), OpenError> {
        make_folder(&self.tables())?;
        if fs::read_link(self.tables_alias()).is_ok_and(|target| target == self.alias_target()) {
            return Ok(());
        }
        let next = self.next_alias();
        remove(&next)?;
        let made = symlink(self.alias_target(), &next).and_then(|()| fs::rename(&next, self.tables_alias()));
        made.map_err(|source| system(format!("link {}", self.tables_alias().display()), source))
    }

    /// Removes the folders that are empty.
    pub(super) fn remove_empty(&self) {
        // Those that are not empty stay; nothing else can fail that anyone could mend.
        let named = self.aliased() == Some(self.version);
        if fs::remove_dir(self.tables()).is_ok() && named {
            let _ = fs::remove_file(self.tables_alias());
        }
        let _ = fs::remove_dir(self.version());
        let _ = fs::remove_dir(&self.dir);
    }

    fn alias_target(&self) -> PathBuf {
        Path::new(&self.version_name()).join("maps")
    }
}

/// Makes a folder with all above it, for root alone, on a BPF file system.
pub(super) fn make_folder(path: &Path) -> Result<(), OpenError> {
    let (existing, missing) = existing_part(path);
    if !is_bpffs(existing) {
        let path = path.to_owned();
        // Only there: over any other folder a mount would hide what is in it.
        return Err(if path.starts_with(USUAL_MOUNT) {
            OpenError::NotMounted { path }
        } else {
            OpenError::NotBpfFs { path }
        });
    }
    check_owners(existing)?;
    if missing.to_string_lossy().contains('.') {
        return Err(OpenError::Dotted { path: path.to_owned() });
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| system(format!("make the folder {}", path.display()), source))
}

/// Refuses a folder that belongs to neither root nor this user, or lies in one: its owner could swap what is pinned there.
/// The root of the file system is the business of whoever mounted it.
fn check_owners(path: &Path) -> Result<(), OpenError> {
    let own = rustix::process::geteuid().as_raw();
    let failed = |source| system(format!("look at {}", path.display()), source);
    let path = fs::canonicalize(path).map_err(failed)?;
    let mut folder = path.as_path();
    let mut found = folder.metadata().map_err(failed)?;
    while let Some(parent) = folder.parent() {
        let above = parent.metadata().map_err(failed)?;
        if above.dev() != found.dev() {
            break;
        }
        if ![0, own].contains(&found.uid()) {
            return Err(OpenError::ForeignFolder { path: folder.to_owned(), uid: found.uid() });
        }
        (folder, found) = (parent, above);
    }
    Ok(())
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<bool, OpenError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(system(format!("remove {}", path.display()), source)),
    }
}

/// Names in a folder, in order; none if it is missing.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The part of a path that exists, and the rest.
fn existing_part(path: &Path) -> (&Path, &Path) {
    let existing = path.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"));
    (existing, path.strip_prefix(existing).unwrap_or(path))
}

fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(BPF_FS_MAGIC))
}

/// The table that a pin's name is of, or will be.
pub(super) fn table_of(name: &str) -> &str {
    name.strip_suffix(NEXT).unwrap_or(name)
}

/// Name of the pin of an interface's link.
pub(super) fn link_name(interface: &str) -> String {
    format!("{LINK}{}", escape(interface))
}

/// An interface's name as part of a pin's.
pub(super) fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_bpf_file_system_does_not_take() {
        for name in ["eth0", "eth0.100", "br-lan", "a%b.c%2ed", "%25"] {
            assert!(!escape(name).contains('.'), "{name}");
            assert_eq!(unescape(&escape(name)), name);
        }
    }

    #[test]
    fn refuses_a_path_on_another_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let error = make_folder(&folder.path().join("lb")).unwrap_err().to_string();
        assert!(error.contains("choose a folder under /sys/fs/bpf") && !error.contains("mount -t"), "{error}");
        let error = OpenError::NotMounted { path: PathBuf::from("/sys/fs/bpf/lb") }.to_string();
        assert!(error.contains("`mount -t bpf bpf /sys/fs/bpf`") && error.contains("nsenter --net"), "{error}");
    }
}
