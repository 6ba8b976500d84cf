//! Who is ended first when memory runs out.

use std::fs;

/// The kernel's word on how soon this process is to be ended for want of memory, from -1000 to 1000.
const WISH: &str = "/proc/self/oom_score_adj";
/// As if a program had half of the machine's memory more than it has.
const SOON: i16 = 500;

/// While this lives, what is started is ended for want of memory before daemon and runner are. It is taken back for the runner
/// itself: without it all checks would stand still.
pub(super) struct Expendable(Option<i16>);

impl Expendable {
    pub(super) fn new() -> Self {
        let before = fs::read_to_string(WISH).ok().and_then(|text| text.trim().parse().ok());
        let raised = before.filter(|before| *before < SOON && fs::write(WISH, SOON.to_string()).is_ok());
        Self(raised)
    }
}

impl Drop for Expendable {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            // Back to what it was, which is always allowed.
            let _ = fs::write(WISH, before.to_string());
        }
    }
}
