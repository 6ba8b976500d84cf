//! Keeps the work for scrapers small, however many there are.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// Work is paid for with so many times its time, so that it takes half of one CPU at most. Less would be too little for
/// two scrapers of a hundred thousand backends, which are a second of work or two each time.
const PRICE: u32 = 2;
/// What takes longer has waited for others, and counts as this much.
const LONGEST: Duration = Duration::from_secs(1);
/// Rest may be put off by this much: a scrape now and then does not wait, and who asks all the time does.
const CREDIT: Duration = Duration::from_secs(5);

/// Whose turn it is: one piece of work at a time, in the order of asking, and rest between.
#[derive(Default)]
pub(super) struct Pace(Mutex<Rest>);

impl Pace {
    /// Does a piece of work in its turn.
    pub(super) async fn work<T>(&self, work: impl Future<Output = T>) -> T {
        let mut rest = self.0.lock().await;
        if let Some(due) = rest.due() {
            sleep_until(due).await;
        }
        let begun = Instant::now();
        let made = work.await;
        rest.add(begun, begun.elapsed());
        made
    }
}

/// Rest that is due for what was done.
#[derive(Default)]
struct Rest(Option<Instant>);

impl Rest {
    /// When work may go on.
    fn due(&self) -> Option<Instant> {
        self.0.and_then(|until| until.checked_sub(CREDIT))
    }

    /// Work was begun then and took so long.
    fn add(&mut self, begun: Instant, took: Duration) {
        self.0 = Some(self.0.map_or(begun, |until| until.max(begun)) + took.min(LONGEST) * PRICE);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// How long work of a tenth of a second each takes to be done so many times, and the longest wait for one.
    async fn working(pace: &Pace, times: u32) -> (Duration, Duration) {
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        for _ in 0..times {
            let asked = Instant::now();
            pace.work(async { sleep(Duration::from_millis(100)).await }).await;
            longest = longest.max(asked.elapsed());
        }
        (begun.elapsed(), longest)
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_all_the_time_gets_half_and_who_asks_now_and_then_all() {
        let pace = Pace::default();
        let (took, _) = working(&pace, 50).await;
        assert!(took < Duration::from_millis(5100), "five seconds of work at once: {took:?}");
        let (took, longest) = working(&pace, 300).await;
        assert!(took > Duration::from_secs(59), "{took:?}");
        assert!(longest < Duration::from_millis(210), "no rest is long: {longest:?}");
        sleep(CREDIT).await;
        let (took, _) = working(&pace, 50).await;
        assert!(took < Duration::from_millis(5100), "rested: {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waited_for_others_needs_no_long_rest() {
        let pace = Pace::default();
        pace.work(sleep(Duration::from_mins(1))).await;
        let (took, _) = working(&pace, 10).await;
        assert!(took < Duration::from_millis(1100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_works_at_a_time() {
        let pace = Pace::default();
        let begun = Instant::now();
        tokio::join!(working(&pace, 5), working(&pace, 5), working(&pace, 5));
        assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());
    }
}
