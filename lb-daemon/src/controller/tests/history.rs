//! Generations: made, kept, brought back, and confirmed or not.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::Duration,
};

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::{
    SECOND,
    rig::{PIN_PATH, Rig, TEXT, config},
};
use crate::{
    controller::{By, NotConfirmed, Refusal, ReloadError},
    state::{Author, Folder, Generations, Origin, Pending},
    telemetry::heard,
};

const WAIT: Duration = Duration::from_mins(5);
const ALMOST: Duration = Duration::from_secs(299);

/// The text with another backend in the place of the second.
fn other(backend: &str) -> String {
    TEXT.replace("10.0.0.2", backend)
}

fn folder(rig: &Rig) -> Folder {
    Folder::of(rig.state_dir.path(), PIN_PATH.as_ref())
}

fn file_of(rig: &Rig, generation: u64) -> PathBuf {
    folder(rig).path().join(format!("generations/{generation:08}.json"))
}

fn number(rig: &Rig) -> u64 {
    rig.handle.snapshot().in_force.about.number
}

/// Whether the configuration in force has this backend.
fn has(rig: &Rig, backend: &str) -> bool {
    let config = rig.handle.snapshot().config.clone();
    config.pools["web"].backends.iter().any(|one| one.address.to_string() == backend)
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, ReloadError>) -> Refusal {
    match outcome {
        Err(ReloadError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_survives_a_restart_until_the_file_says_something_new() {
    let rig = Rig::serving(TEXT).await;
    assert_eq!(number(&rig), 1);
    let done = rig.apply(&other("10.0.0.9"), None).await.unwrap();
    assert_eq!((done.generation, done.new), (2, true));
    let in_force = rig.handle.snapshot().in_force.clone();
    assert!(in_force.differs_from_file);
    assert_eq!(in_force.about.author, Author { uid: Some(7), name: Some("ada".into()) });

    let rig = rig.crash(TEXT).await;
    rig.report_all(true);
    rig.settle().await;
    assert!(has(&rig, "10.0.0.9") && rig.handle.snapshot().in_force.differs_from_file);
    assert_eq!(number(&rig), 2);
    assert_eq!(rig.steered_to("web").len(), 3);

    let rig = rig.restart(&other("10.0.0.8")).await;
    rig.settle().await;
    assert!(has(&rig, "10.0.0.8") && !rig.handle.snapshot().in_force.differs_from_file);
    assert_eq!((number(&rig), rig.handle.snapshot().in_force.about.origin), (3, Origin::Start));
}

#[tokio::test(start_paused = true)]
async fn the_same_text_makes_no_generation_and_a_health_change_makes_none() {
    let rig = Rig::serving(TEXT).await;
    let applied = rig.handle.snapshot().applied;
    let done = rig.apply(TEXT, None).await.unwrap();
    assert_eq!((done.generation, done.new, done.ops), (1, false, 0));
    rig.report("10.0.0.1", false);
    rig.settle().await;
    assert_eq!((number(&rig), rig.handle.snapshot().applied), (1, applied + 1));
    let rig = rig.restart(TEXT).await;
    rig.settle().await;
    assert_eq!(number(&rig), 1, "the file says what it said");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_a_new_generation_with_the_old_text() {
    let rig = Rig::serving(TEXT).await;
    assert!(matches!(refusal(rig.handle.roll_back(None, By::default()).await), Refusal::NothingBefore));
    rig.apply(&other("10.0.0.8"), None).await.unwrap();
    rig.apply(&other("10.0.0.9"), None).await.unwrap();
    let by = By { reason: Some("it was wrong".into()), ..By::default() };
    let done = rig.handle.roll_back(None, by).await.unwrap();
    assert_eq!((done.generation, done.new), (4, true));
    assert!(has(&rig, "10.0.0.8"));
    let done = rig.handle.roll_back(Some(1), By::default()).await.unwrap();
    assert_eq!(done.generation, 5);
    assert!(has(&rig, "10.0.0.2") && !rig.handle.snapshot().in_force.differs_from_file);
    let done = rig.handle.roll_back(Some(1), By::default()).await.unwrap();
    assert_eq!((done.generation, done.new), (5, false), "its text is in force");
    let refused = refusal(rig.handle.roll_back(Some(9), By::default()).await).to_string();
    assert_eq!(refused, "generation 9 is not kept, those from 1 to 5 are; `lb history` lists them");
    let all = rig.handle.generations().await.unwrap();
    assert_eq!(all.iter().map(|about| (about.number, about.of)).collect::<Vec<_>>()[..2], [(5, Some(1)), (4, Some(2))]);
    assert_eq!(all[1].reason.as_deref(), Some("it was wrong"));

    let rig = rig.crash(&other("10.0.0.2")).await;
    assert_eq!(number(&rig), 5);
}

#[tokio::test(start_paused = true)]
async fn each_rollback_goes_further_back_and_never_to_what_was_just_left() {
    let rig = Rig::serving(TEXT).await;
    rig.apply(&other("10.0.0.8"), None).await.unwrap();
    rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    tokio::time::sleep(WAIT + SECOND).await;
    assert!(has(&rig, "10.0.0.8"), "nobody confirmed");
    rig.handle.roll_back(None, By::default()).await.unwrap();
    assert!(has(&rig, "10.0.0.2"), "not what went because nobody confirmed it");
    assert_eq!((number(&rig), rig.handle.snapshot().in_force.about.of), (5, Some(1)));
    assert!(matches!(refusal(rig.handle.roll_back(None, By::default()).await), Refusal::NothingBefore));
    rig.apply(&other("10.0.0.7"), None).await.unwrap();
    rig.handle.roll_back(None, By::default()).await.unwrap();
    assert!(has(&rig, "10.0.0.2"));
    assert!(matches!(refusal(rig.handle.roll_back(None, By::default()).await), Refusal::NothingBefore));
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_in_time_stays() {
    let rig = Rig::serving(TEXT).await;
    assert!(matches!(rig.handle.confirm().await, Err(NotConfirmed::Refused(_))));
    let done = rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    assert_eq!(done.waiting.map(|pending| (pending.generation, pending.back_to)), Some((2, 1)));
    tokio::time::sleep(ALMOST).await;
    assert!(has(&rig, "10.0.0.9") && rig.handle.snapshot().in_force.pending.is_some());
    assert_eq!(rig.handle.confirm().await.unwrap(), 2);
    assert_eq!(rig.handle.snapshot().in_force.pending, None);
    tokio::time::sleep(WAIT).await;
    assert!(has(&rig, "10.0.0.9"));
    let rig = rig.crash(TEXT).await;
    tokio::time::sleep(WAIT).await;
    assert_eq!(number(&rig), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_stays_although_the_disk_may_not_know_yet() {
    let rig = Rig::serving(TEXT).await;
    rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    // Files in it may go, but it cannot be opened: root's own rights are given up on this thread.
    let held = capabilities(None).unwrap();
    let passes = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, CapabilitySets { effective: held.effective - passes, ..held }).unwrap();
    let kept = folder(&rig).path().to_owned();
    fs::set_permissions(&kept, Permissions::from_mode(0o300)).unwrap();
    let confirmed = rig.handle.confirm().await;
    let snapshot = rig.handle.snapshot();
    tokio::time::sleep(61 * SECOND).await;
    let still = rig.handle.snapshot();
    fs::set_permissions(&kept, Permissions::from_mode(0o700)).unwrap();
    assert_eq!((confirmed.unwrap(), snapshot.in_force.pending.clone()), (2, None));
    for snapshot in [snapshot, still] {
        let problems = &snapshot.in_force.problems;
        assert!(matches!(&problems[..], [one] if one.starts_with("a power cut may undo")), "{problems:?}");
    }
    tokio::time::sleep(WAIT).await;
    assert_eq!((number(&rig), rig.handle.snapshot().in_force.problems.clone()), (2, vec![]));
    let rig = rig.crash(TEXT).await;
    tokio::time::sleep(WAIT).await;
    assert_eq!((number(&rig), has(&rig, "10.0.0.9")), (2, true));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_confirmed_in_time_goes() {
    let rig = Rig::serving(TEXT).await;
    rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    rig.report_all(true);
    tokio::time::sleep(ALMOST).await;
    assert_eq!(number(&rig), 2);
    tokio::time::sleep(2 * SECOND).await;
    let in_force = rig.handle.snapshot().in_force.clone();
    assert_eq!((in_force.about.number, in_force.about.origin, in_force.about.of), (3, Origin::Rollback, Some(1)));
    assert_eq!(in_force.about.reason.as_deref(), Some("generation 2 was not confirmed in time"));
    assert_eq!(in_force.pending, None);
    assert!(has(&rig, "10.0.0.2") && !folder(&rig).path().join("pending.json").exists());
    rig.report_all(true);
    rig.settle().await;
    assert_eq!(rig.steered_to("web").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_put_in_force_while_one_waits_but_what_was_before() {
    let rig = Rig::serving(TEXT).await;
    rig.apply(&other("10.0.0.8"), None).await.unwrap();
    rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    for outcome in
        [rig.apply(TEXT, None).await, rig.apply(TEXT, Some(WAIT)).await, rig.reload(config(&other("10.0.0.7"))).await]
    {
        let refused = refusal(outcome).to_string();
        assert!(refused.contains("`lb confirm` keeps it, `lb rollback` puts generation 2 back"), "{refused}");
    }
    assert!(rig.handle.snapshot().last_reload.refused.is_some(), "a reload that nobody watches is noted");
    assert!(matches!(refusal(rig.handle.roll_back(Some(3), By::default()).await), Refusal::Waits { .. }));
    let done = rig.handle.roll_back(None, By::default()).await.unwrap();
    assert_eq!((done.generation, done.waiting), (4, None));
    assert!(has(&rig, "10.0.0.8"));
    tokio::time::sleep(WAIT).await;
    assert_eq!(number(&rig), 4);
}

#[tokio::test(start_paused = true)]
async fn a_wait_outlives_the_daemon_and_ends_at_its_start_if_its_time_is_over() {
    let rig = Rig::serving(TEXT).await;
    rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    let rig = rig.crash(TEXT).await;
    rig.settle().await;
    assert!(has(&rig, "10.0.0.9") && rig.handle.snapshot().in_force.pending.is_some());
    tokio::time::sleep(WAIT + SECOND).await;
    assert_eq!((number(&rig), has(&rig, "10.0.0.2")), (3, true));

    rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    // As if the daemon had been down for long.
    let over = Pending { generation: 4, back_to: 3, deadline: 1, seconds: 300 };
    folder(&rig).write("pending.json", &over, "pending").unwrap();
    let rig = rig.crash(TEXT).await;
    rig.settle().await;
    let in_force = rig.handle.snapshot().in_force.clone();
    assert_eq!((in_force.about.number, in_force.about.of, in_force.pending), (5, Some(3), None));
    assert!(has(&rig, "10.0.0.2") && !folder(&rig).path().join("pending.json").exists());
}

#[tokio::test(start_paused = true)]
async fn a_promise_without_its_generation_is_none() {
    let rig = Rig::serving(TEXT).await;
    let promised = Pending { generation: 2, back_to: 1, deadline: 1, seconds: 300 };
    folder(&rig).write("pending.json", &promised, "pending").unwrap();
    let rig = rig.crash(TEXT).await;
    rig.settle().await;
    assert_eq!((number(&rig), rig.handle.snapshot().in_force.pending.clone()), (1, None));
    assert!(!folder(&rig).path().join("pending.json").exists());
    assert_eq!(rig.apply(&other("10.0.0.9"), None).await.unwrap().waiting, None);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_promise_is_taken_from_its_generation() {
    let rig = Rig::serving(TEXT).await;
    rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    fs::write(folder(&rig).path().join("pending.json"), "{").unwrap();
    let rig = rig.crash(TEXT).await;
    rig.settle().await;
    assert_eq!(rig.handle.snapshot().in_force.pending.as_ref().map(|pending| pending.back_to), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_generation_is_skipped_and_its_number_is_not_given_again() {
    let rig = Rig::serving(TEXT).await;
    rig.apply(&other("10.0.0.8"), None).await.unwrap();
    rig.apply(&other("10.0.0.9"), None).await.unwrap();
    let whole = fs::read(file_of(&rig, 3)).unwrap();
    fs::write(file_of(&rig, 3), &whole[..whole.len() / 2]).unwrap();
    let rig = rig.crash(TEXT).await;
    rig.settle().await;
    assert_eq!((number(&rig), has(&rig, "10.0.0.8")), (2, true), "the last good one");
    assert_eq!(rig.apply(TEXT, None).await.unwrap().generation, 4);
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_generation_goes_back_further_if_what_was_before_is_lost() {
    let rig = Rig::serving(TEXT).await;
    rig.apply(&other("10.0.0.8"), None).await.unwrap();
    rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    fs::remove_file(file_of(&rig, 2)).unwrap();
    let over = Pending { generation: 3, back_to: 2, deadline: 1, seconds: 300 };
    folder(&rig).write("pending.json", &over, "pending").unwrap();
    let rig = rig.crash(TEXT).await;
    rig.settle().await;
    assert_eq!((number(&rig), has(&rig, "10.0.0.2")), (4, true));
    assert_eq!(rig.handle.snapshot().in_force.about.of, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_fails_is_tried_again_and_shows() {
    let rig = Rig::serving(TEXT).await;
    rig.apply(&other("10.0.0.9"), Some(WAIT)).await.unwrap();
    let before = fs::read(file_of(&rig, 1)).unwrap();
    fs::write(file_of(&rig, 1), "{}").unwrap();
    heard::listen();
    for file in ["damaged", "missing"] {
        tokio::time::sleep(WAIT + 61 * SECOND).await;
        let problems = rig.handle.snapshot().problems();
        let failing = problems.iter().find(|one| one.starts_with("going back to generation 1 fails: "));
        assert!(failing.is_some(), "{file}: {problems:?}");
        let _ = fs::remove_file(file_of(&rig, 1));
    }
    // After so many attempts: once for each reason.
    let told = heard::told();
    let times = |words: &str| told.matches(words).count();
    assert_eq!((times("not confirmed in time"), times("cannot be put in force; it is tried again")), (1, 2), "{told}");
    fs::write(file_of(&rig, 1), before).unwrap();
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!((number(&rig), has(&rig, "10.0.0.2")), (3, true));
    assert!(!rig.handle.snapshot().problems().iter().any(|one| one.contains("going back")));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_written_stops_nothing_but_promises() {
    let rig = Rig::serving(TEXT).await;
    let kept = folder(&rig).path().to_owned();
    fs::remove_dir_all(&kept).unwrap();
    fs::write(&kept, "in the way").unwrap();
    let refused = refusal(rig.apply(&other("10.0.0.9"), Some(WAIT)).await);
    assert!(matches!(refused, Refusal::Promise(_)), "{refused}");
    assert_eq!((number(&rig), has(&rig, "10.0.0.2")), (1, true));

    assert_eq!(rig.apply(&other("10.0.0.9"), None).await.unwrap().generation, 2);
    let problems = rig.handle.snapshot().problems();
    assert!(problems.iter().any(|one| one.starts_with("generations cannot be kept")), "{problems:?}");
    assert!(has(&rig, "10.0.0.9"));
    rig.apply(&other("10.0.0.8"), None).await.unwrap();
    assert_eq!(rig.handle.roll_back(None, By::default()).await.unwrap().generation, 4, "from memory");

    fs::remove_file(&kept).unwrap();
    tokio::time::sleep(61 * SECOND).await;
    assert!(!rig.handle.snapshot().problems().iter().any(|one| one.contains("kept")));
    let found = Generations::open(folder(&rig).inner("generations"));
    assert_eq!(found.all().map(|about| about.number).collect::<Vec<_>>(), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_file_with_other_fixed_settings_wins_over_what_was_kept() {
    let rig = Rig::serving(TEXT).await;
    // Somebody edits the file, and somebody applies something else before the daemon starts again.
    let edited = TEXT.replace("[dataplane]\n", "[api]\nsocket = \"/run/other.sock\"\n[dataplane]\n");
    let by = By { file_digest: Some(crate::config::Bundle::of("lb.toml", edited.as_str()).digest()), ..By::default() };
    rig.apply(&other("10.0.0.9"), None).await.unwrap();
    rig.handle.roll_back(Some(1), by).await.unwrap();
    let rig = rig.restart(&edited).await;
    rig.settle().await;
    assert_eq!(rig.handle.snapshot().config.api_socket.to_str(), Some("/run/other.sock"));
    assert_eq!((number(&rig), rig.handle.snapshot().in_force.about.origin), (4, Origin::Start));
}
