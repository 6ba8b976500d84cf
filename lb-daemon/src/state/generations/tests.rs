//! Generations on a real disk, and what becomes of damaged ones.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::*;
use crate::{
    config::Bundle,
    state::{Author, Origin},
};

fn folder(top: &TempDir) -> Folder {
    Folder::of(top.path(), Path::new("/lb")).inner("generations")
}

fn generation(number: u64, text: &str) -> Generation {
    let bundle = Bundle::of("/etc/lb.toml", text);
    let about = About {
        number,
        time: 1,
        origin: Origin::Apply,
        author: Author::default(),
        reason: Some("a test".into()),
        of: None,
        pending: None,
        digest: bundle.digest(),
        file_digest: bundle.digest(),
        bytes: text.len() as u64,
    };
    Generation { about, bundle }
}

fn numbers(generations: &Generations) -> Vec<u64> {
    generations.all().map(|about| about.number).collect()
}

#[test]
fn what_was_kept_is_found_again() {
    let top = TempDir::new().unwrap();
    let mut kept = Generations::open(folder(&top));
    assert_eq!((kept.next(0), kept.next(7)), (1, 8));
    kept.keep(generation(1, "a"), &[]);
    kept.keep(generation(2, "b"), &[]);
    let found = Generations::open(folder(&top));
    assert_eq!((numbers(&found), found.next(0)), (vec![1, 2], 3));
    assert_eq!(found.load(2).unwrap(), generation(2, "b"));
    assert!(found.complaints().is_empty() && found.failing().is_none());
}

#[test]
fn the_newest_hundred_are_kept_and_those_that_are_named() {
    let top = TempDir::new().unwrap();
    let mut kept = Generations::open(folder(&top));
    for number in 1..=130 {
        kept.keep(generation(number, "a"), &[3]);
    }
    let expected: Vec<u64> = [3].into_iter().chain(31..=130).collect();
    assert_eq!(numbers(&kept), expected);
    assert_eq!(numbers(&Generations::open(folder(&top))), expected);
}

#[test]
fn of_large_ones_the_newest_ten_are_kept() {
    let top = TempDir::new().unwrap();
    let mut kept = Generations::open(folder(&top));
    let large = "#".repeat(usize::try_from(LARGE).unwrap() + 1);
    kept.keep(generation(1, "small"), &[]);
    for number in 2..=14 {
        kept.keep(generation(number, &large), &[]);
    }
    assert_eq!(numbers(&kept), [1].into_iter().chain(5..=14).collect::<Vec<_>>());
}

#[test]
fn wherever_a_file_is_cut_the_one_before_is_found_and_the_file_is_named() {
    let top = TempDir::new().unwrap();
    let mut kept = Generations::open(folder(&top));
    kept.keep(generation(1, "a"), &[]);
    kept.keep(generation(2, "b"), &[]);
    let path = folder(&top).path().join("00000002.json");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() - 1 {
        fs::write(&path, &whole[..length]).unwrap();
        let found = Generations::open(folder(&top));
        assert_eq!((numbers(&found), found.next(0)), (vec![1], 3), "{length}");
        assert!(found.complaints()[0].contains("00000002.json is damaged"), "{:?}", found.complaints());
    }
    for bit in (0..(whole.len() - 1) * 8).step_by(3) {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        assert_eq!(numbers(&Generations::open(folder(&top))), [1], "{bit}");
    }
}

#[test]
fn files_of_a_later_version_and_of_others_are_left_alone() {
    let top = TempDir::new().unwrap();
    let mut kept = Generations::open(folder(&top));
    kept.keep(generation(1, "a"), &[]);
    let later = folder(&top).path().join("00000005.json");
    fs::write(&later, r#"{"format": 2}"#).unwrap();
    fs::write(folder(&top).path().join("notes.txt"), "mine").unwrap();
    // A copy under another number is not what its number says.
    fs::copy(folder(&top).path().join("00000001.json"), folder(&top).path().join("00000004.json")).unwrap();
    let mut found = Generations::open(folder(&top));
    assert_eq!((numbers(&found), found.next(0), found.complaints().len()), (vec![1], 6, 2));
    found.keep(generation(6, "b"), &[]);
    assert!(later.exists() && folder(&top).path().join("notes.txt").exists());
    for number in 7..=106 {
        found.keep(generation(number, "b"), &[]);
    }
    assert!(!later.exists(), "it is older than all that are kept");
}
