//! Which configuration a daemon starts with. Pure.

use super::{About, Pending};

/// The configuration to start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// What the file says.
    File,
    /// The newest generation.
    Newest,
    /// An older one, since nobody confirmed the newest in time.
    Back(u64),
}

/// Chooses by what the file says now (`file_digest`), the newest generation, what waits for confirmation, and the time in
/// seconds since 1970.
///
/// A file that says what it said when the newest generation was made is no news: the generation was meant to be in force
/// although the file said so, as after a rollback. Any other file is what the operator wants now.
pub fn choose(file_digest: &str, newest: Option<&About>, pending: Option<&Pending>, now: u64) -> Start {
    let Some(newest) = newest else { return Start::File };
    if newest.file_digest != file_digest && newest.digest != file_digest {
        return Start::File;
    }
    match pending {
        Some(pending) if pending.generation == newest.number && pending.left(now) == 0 => Start::Back(pending.back_to),
        _ => Start::Newest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Author, Origin};

    fn about(digest: &str, file_digest: &str) -> About {
        About {
            number: 7,
            time: 1000,
            origin: Origin::Apply,
            author: Author::default(),
            reason: None,
            of: None,
            pending: None,
            digest: digest.into(),
            file_digest: file_digest.into(),
            bytes: 0,
        }
    }

    fn pending(generation: u64) -> Pending {
        Pending { generation, back_to: 5, deadline: 1100, seconds: 100 }
    }

    #[test]
    fn a_file_that_is_news_wins() {
        assert_eq!(choose("a", None, None, 0), Start::File);
        assert_eq!(choose("a", Some(&about("b", "c")), None, 0), Start::File);
        assert_eq!(choose("a", Some(&about("b", "c")), Some(&pending(7)), 2000), Start::File);
    }

    #[test]
    fn a_generation_that_was_made_over_the_same_file_survives() {
        assert_eq!(choose("a", Some(&about("b", "a")), None, 0), Start::Newest);
        assert_eq!(choose("a", Some(&about("a", "b")), None, 0), Start::Newest, "the file followed");
    }

    #[test]
    fn what_nobody_confirmed_in_time_goes_back_and_nothing_else_does() {
        let newest = about("b", "a");
        for (generation, now, start) in
            [(7, 1099, Start::Newest), (7, 1100, Start::Back(5)), (6, 1100, Start::Newest), (8, 1100, Start::Newest)]
        {
            assert_eq!(choose("a", Some(&newest), Some(&pending(generation)), now), start, "{generation} at {now}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_prolong_the_wait() {
        assert_eq!(pending(7).left(0), 100);
        assert_eq!(pending(7).left(1090), 10);
        assert_eq!(pending(7).left(5000), 0);
    }
}
