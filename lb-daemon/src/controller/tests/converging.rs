//! Whatever happened before, the tables end as if the controller had started afresh with the last configuration, but for
//! the numbers of what stayed; and at no moment does a slot lead to a target that is not filled in.

mod shape;
mod world;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::{runtime, time::sleep};

use self::{
    shape::{Shape, shape},
    world::{Spec, Step, World, any_spec, any_step},
};

/// So many cases, or as many as `PROPTEST_CASES` says: [`ProptestConfig::with_cases`] alone would not heed it.
fn cases(few: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases.unwrap_or(few)) }
}

/// Runs with a paused clock.
fn run<T>(work: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
}

/// The tables of a controller that takes all steps, and those of one that starts where the first one ends. `patience` is how
/// long the first one may take in the end.
fn both_ways(first: &Spec, steps: &[(Step, bool)], patience: Duration) -> (Shape, Shape) {
    run(async {
        let mut world = World::begin(first).await;
        for (step, told) in steps {
            world.take(step).await;
            if *told {
                world.tell();
                world.rig.settle().await;
            }
        }
        world.heal();
        world.tell();
        sleep(patience).await;
        assert_eq!(world.rig.handle.snapshot().failing, None);
        let fresh = world.afresh().await;
        (shape(&world.rig.tables().memory), shape(&fresh.rig.tables().memory))
    })
}

/// Shorter than the time after which all tables are compared with all that is wanted, which would mend what a plan for some
/// VIPs forgot.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Attempts that failed are long made up for.
const LATER: Duration = Duration::from_secs(100);

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn any_history_ends_as_if_started_afresh(
        first in any_spec(),
        steps in prop::collection::vec((any_step(false), any::<bool>()), 1..12),
    ) {
        let (reached, fresh) = both_ways(&first, &steps, AT_ONCE);
        prop_assert_eq!(reached, fresh);
    }

    #[test]
    fn any_history_with_ops_that_fail_does_so_too(
        first in any_spec(),
        steps in prop::collection::vec((any_step(true), any::<bool>()), 1..12),
    ) {
        let (reached, fresh) = both_ways(&first, &steps, LATER);
        prop_assert_eq!(reached, fresh);
    }
}

#[test]
fn each_op_of_a_plan_may_fail() {
    let (first, second) = (Spec::sample(0), Spec::sample(1));
    let mut failed = 0;
    for op in 0.. {
        let before = failed;
        let steps = [(Step::Fail(op), false), (Step::Config(Arc::new(second.clone())), true)];
        let (reached, fresh, pending) = run(async {
            let mut world = World::begin(&first).await;
            world.take(&steps[0].0).await;
            let pending = world.take(&steps[1].0).await;
            world.heal();
            world.tell();
            sleep(LATER).await;
            let fresh = world.afresh().await;
            (shape(&world.rig.tables().memory), shape(&fresh.rig.tables().memory), pending)
        });
        assert_eq!(reached, fresh, "op {op}");
        failed += usize::from(pending);
        if failed == before {
            break;
        }
    }
    assert!(failed > 30, "the plan had {failed} ops only");
}
