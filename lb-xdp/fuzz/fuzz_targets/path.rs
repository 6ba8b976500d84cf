//! The packet's way on the host: whatever comes, it makes sense.
#![no_main]

use lb_common::{layout::flow::TIME_SHIFT, verdict::Verdict};
use lb_fuzz::{
    input::{Input, Step, explain},
    sense::{Sent, demand},
};
use libfuzzer_sys::fuzz_target;

/// When the first frame comes: late enough that everything can be older.
const START: u64 = 5000 << TIME_SHIFT;

fuzz_target!(|bytes: &[u8]| {
    let input = Input::read(bytes);
    let mut tables = input.scene.tables(START);
    for (number, step) in input.steps.iter().enumerate() {
        step.change(&mut tables);
        let Step::Frame(frame) = step else { continue };
        let sent = Sent::through(&tables, frame);
        let fault = |sent: &Sent, fault: String| panic!("step {number}: {fault}\n{sent:02x?}\n{}", explain(bytes));
        demand(&input.scene, &tables, &sent).unwrap_or_else(|error| fault(&sent, error));
        if sent.exit.verdict != Verdict::Forwarded {
            continue;
        }
        // Nothing has changed, so the next one like it goes the same way, unless there were too many.
        let again = Sent::through(&tables, frame);
        if again.exit.verdict == Verdict::Forwarded && (again.target, &again.after) != (sent.target, &sent.after) {
            fault(&again, format!("the same frame went to {:?} before, as {:02x?}", sent.target, sent.after));
        }
    }
});
