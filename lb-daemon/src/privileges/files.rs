//! Files and folders that the daemon may reach: Landlock.
//!
//! A rule is about a folder as it is now: one that is made anew under the same name is another folder.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use tracing::debug;

use super::{Fence, denied};

/// The rights that are known here and vetted; an older kernel knows fewer of them.
const RIGHTS: ABI = ABI::V5;
/// Of a folder that has to be made so that there can be a rule about it.
const FOLDER_MODE: u32 = 0o755;
/// What the kernel tells about itself and its devices.
const SYSTEM: [&str; 2] = ["/proc", "/sys"];

/// Files and folders that the daemon reaches while it runs.
#[derive(Clone, Debug)]
pub struct Files {
    /// Files of the configuration: their folders may be read.
    pub named: Vec<PathBuf>,
    /// Folders that it keeps files and sockets in.
    pub kept: Vec<PathBuf>,
    /// Folder of the pins. It may be removed too.
    pub pins: PathBuf,
    /// Folder that new files may be written to.
    pub temporary: PathBuf,
}

impl Files {
    /// Closes all the rest to this thread and those that it starts.
    pub(super) fn fence(&self) -> Fence {
        for folder in &self.kept {
            // Who keeps something there complains if that is in vain.
            let _ = fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
        }
        let read = self.readable();
        match self.enforce(&read) {
            Ok(status) => {
                let fence = match status.ruleset {
                    RulesetStatus::FullyEnforced => Fence::Whole,
                    RulesetStatus::PartiallyEnforced => Fence::Partial,
                    RulesetStatus::NotEnforced => return Fence::Missing("this kernel has no Landlock".to_owned()),
                };
                denied::remember(read.into_iter().chain(self.kept.iter().cloned()));
                fence
            }
            Err(error) => Fence::Missing(error.to_string()),
        }
    }

    /// Folders of the configuration's files, as they are named and as they are.
    fn readable(&self) -> BTreeSet<PathBuf> {
        let real = self.named.iter().filter_map(|file| fs::canonicalize(file).ok());
        let folders = self.named.iter().cloned().chain(real).filter_map(|file| file.parent().map(Path::to_path_buf));
        folders.map(|folder| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder }).collect()
    }

    fn enforce(&self, read: &BTreeSet<PathBuf>) -> Result<RestrictionStatus, RulesetError> {
        let look = AccessFs::ReadFile | AccessFs::ReadDir;
        let keep = AccessFs::from_all(RIGHTS)
            & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeFifo | AccessFs::IoctlDev);
        let mut rules = Ruleset::default().handle_access(AccessFs::from_all(RIGHTS))?.create()?;
        for folder in SYSTEM.iter().map(Path::new).chain(read.iter().map(PathBuf::as_path)) {
            rules = allow(rules, folder, look)?;
        }
        for folder in self.kept.iter().chain([&self.pins]) {
            rules = allow(rules, folder, keep)?;
        }
        if let Some(above) = self.pins.parent() {
            rules = allow(rules, above, AccessFs::MakeDir | AccessFs::RemoveDir | AccessFs::ReadDir)?;
        }
        allow(rules, &self.temporary, AccessFs::MakeReg | AccessFs::WriteFile)?.restrict_self()
    }
}

/// One more rule; none for what is not there.
fn allow(rules: RulesetCreated, folder: &Path, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(folder) {
        Ok(open) => rules.add_rule(PathBeneath::new(open, rights)),
        Err(error) => {
            debug!(folder = %folder.display(), %error, "nothing there to be allowed");
            Ok(rules)
        }
    }
}
