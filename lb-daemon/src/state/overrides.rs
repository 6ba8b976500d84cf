//! `overrides.json`: what operators want beyond the file.

use serde::{Deserialize, Serialize};

use super::{Folder, StateError, milliseconds, time};
use crate::model::overrides::{BackendName, BackendOverride, Drain, Given, Overrides, StateOverride};

const NAME: &str = "overrides.json";
/// Its kind, as latches name it.
const KIND: &str = "overrides";

/// The overrides that were kept; none if none ever were.
///
/// # Errors
/// When they cannot be read, or are not what was written.
pub fn read(folder: &Folder) -> Result<Overrides, StateError> {
    Ok(folder.read::<Kept>(NAME)?.map(Overrides::from).unwrap_or_default())
}

/// Keeps the overrides, in place of those that were kept.
///
/// # Errors
/// When they cannot be written; those of before are then still there.
pub fn write(folder: &Folder, overrides: &Overrides) -> Result<(), StateError> {
    folder.write(NAME, &Kept::from(overrides), KIND)
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    backends: Vec<KeptBackend>,
    vips: Vec<KeptVip>,
}

#[derive(Serialize, Deserialize)]
struct KeptBackend {
    pool: String,
    name: String,
    #[serde(flatten)]
    given: KeptGiven,
    state: Option<KeptState>,
    weight: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct KeptVip {
    name: String,
    #[serde(flatten)]
    given: KeptGiven,
}

/// Times are in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct KeptGiven {
    at: u64,
    uid: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptState {
    Active,
    Draining { since: u64, deadline: Option<u64>, flows: u64 },
    Drained,
    Disabled,
}

impl From<&Overrides> for Kept {
    fn from(overrides: &Overrides) -> Self {
        let backend = |(name, one): (&BackendName, &BackendOverride)| KeptBackend {
            pool: name.pool.clone(),
            name: name.name.clone(),
            given: one.given.into(),
            state: one.state.map(KeptState::from),
            weight: one.weight,
        };
        let vip = |(name, given): (&String, &Given)| KeptVip { name: name.clone(), given: (*given).into() };
        Self {
            backends: overrides.backends.iter().map(backend).collect(),
            vips: overrides.vips.iter().map(vip).collect(),
        }
    }
}

impl From<Kept> for Overrides {
    fn from(kept: Kept) -> Self {
        let backend = |one: KeptBackend| {
            let (state, given) = (one.state.map(StateOverride::from), one.given.into());
            (BackendName { pool: one.pool, name: one.name }, BackendOverride { given, state, weight: one.weight })
        };
        Self {
            backends: kept.backends.into_iter().map(backend).collect(),
            vips: kept.vips.into_iter().map(|one| (one.name, one.given.into())).collect(),
        }
    }
}

impl From<Given> for KeptGiven {
    fn from(given: Given) -> Self {
        Self { at: milliseconds(given.at), uid: given.uid }
    }
}

impl From<KeptGiven> for Given {
    fn from(kept: KeptGiven) -> Self {
        Self { at: time(kept.at), uid: kept.uid }
    }
}

impl From<StateOverride> for KeptState {
    fn from(state: StateOverride) -> Self {
        match state {
            StateOverride::Active => Self::Active,
            StateOverride::Draining(Drain { since, deadline, flows }) => {
                Self::Draining { since: milliseconds(since), deadline: deadline.map(milliseconds), flows }
            }
            StateOverride::Drained => Self::Drained,
            StateOverride::Disabled => Self::Disabled,
        }
    }
}

impl From<KeptState> for StateOverride {
    fn from(kept: KeptState) -> Self {
        match kept {
            KeptState::Active => Self::Active,
            KeptState::Draining { since, deadline, flows } => {
                Self::Draining(Drain { since: time(since), deadline: deadline.map(time), flows })
            }
            KeptState::Drained => Self::Drained,
            KeptState::Disabled => Self::Disabled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use super::*;

    fn all_kinds() -> Overrides {
        let given = |at, uid| Given { at: time(at), uid };
        let drain = |deadline| StateOverride::Draining(Drain { since: time(7001), deadline, flows: 12 });
        let states = [
            Some(StateOverride::Active),
            Some(drain(None)),
            Some(drain(Some(time(9000)))),
            Some(StateOverride::Drained),
            Some(StateOverride::Disabled),
            None,
        ];
        let backend = |(number, state): (u32, Option<StateOverride>)| {
            let name = BackendName { pool: "web".into(), name: format!("web-{number}") };
            let weight = (number % 2 == 1).then_some(number);
            (name, BackendOverride { given: given(u64::from(number), Some(number)), state, weight })
        };
        Overrides {
            backends: (0..).zip(states).map(backend).collect(),
            vips: BTreeMap::from([("dns".into(), given(1_700_000_000_123, None))]),
        }
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::of(top.path(), Path::new("/sys/fs/bpf/lb"));
        assert_eq!(read(&folder).unwrap(), Overrides::default());
        write(&folder, &all_kinds()).unwrap();
        assert_eq!(read(&folder).unwrap(), all_kinds());
        write(&folder, &Overrides::default()).unwrap();
        assert_eq!(read(&folder).unwrap(), Overrides::default());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::of(top.path(), Path::new("/sys/fs/bpf/lb"));
        write(&folder, &all_kinds()).unwrap();
        let file = folder.path().join("overrides.json");
        let text = fs::read_to_string(&file).unwrap();
        for damaged in [&text[..text.len() / 2], "", &text.replace("web-1", "web-7")] {
            fs::write(&file, damaged).unwrap();
            let error = read(&folder).unwrap_err().to_string();
            assert!(error.contains(file.to_str().unwrap()) && error.contains("damaged"), "{error}");
        }
    }
}
