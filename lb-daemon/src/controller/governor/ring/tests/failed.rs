//! Writes that fail, in part perhaps.

use super::*;

#[test]
fn what_moved_counts_although_something_else_failed_and_what_did_not_move_does_not() {
    let mut world = World::serving(4, 4093, None, Some(limit(10)));
    let before = shares::counted(world.ring.weights(), 4093);
    world.report(0, false);
    let after = shares::counted(world.ring.weights(), 4093);
    assert_ne!(before, after);
    for (slots, more) in [(after, 0..=20), (before, 300..=409)] {
        let mut world = World { ring: world.ring.clone(), aim: world.aim.clone(), moved: Vec::new(), ..world };
        let written = world.now + SECOND;
        world.ring.failed(&slots, written);
        assert_eq!((shares::counted(world.ring.weights(), 4093), world.ring.next()), (slots, None));
        // Tried again.
        world.now = written + SECOND;
        world.step();
        let went: u32 = world.moved.iter().map(|(_, slots)| *slots).sum();
        assert!(more.contains(&went), "{went} slots moved, not {more:?}");
        let from = if went > 20 { world.now } else { written };
        assert_eq!(world.ring.held(address(0)), Some(Held::Budget(from + SECOND * 10)));
        world.pass(SECOND * 300);
        assert!(world.is_plain());
    }
}
