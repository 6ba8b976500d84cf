//! What programs leave behind.

use std::fs;

use rustix::process::{Pid, Signal, WaitOptions, getpgid, kill_process, waitpid};

use super::serve::Leaders;

/// This thread's children, by their numbers.
const CHILDREN: &str = "/proc/thread-self/children";

/// Waits for children that have ended, and kills those whose program is over: they came here when it ended. Leaders are
/// waited for by whoever started them.
pub(super) fn sweep(leaders: &Leaders) {
    let leaders = leaders.borrow();
    // A kernel without this list keeps zombies until the runner ends.
    let children = fs::read_to_string(CHILDREN).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|number| Pid::from_raw(number.parse().ok()?)) {
        if leaders.contains(&child) {
            continue;
        }
        let ended = !matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(None));
        let belongs = getpgid(Some(child)).is_ok_and(|group| leaders.contains(&group));
        if !ended && !belongs {
            // It may be ending at this moment. Its end is told by a signal, and then it is waited for.
            let _ = kill_process(child, Signal::KILL);
        }
    }
}
