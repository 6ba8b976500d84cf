//! Counters of the checks, for the metrics endpoint.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::{
    machine::Transition,
    probe::{Outcome, Verdict},
};

/// Upper bounds of the histogram's buckets, in seconds: from a neighbour in the rack to the longest sensible timeout.
const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The same of the time by which probes start late: from what a timer has for its steps to where checks are no use any more.
const LATE: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// Counters of the checks. Clones count into the same counters.
#[derive(Clone, Debug)]
pub struct Stats {
    checks: IntCounterVec,
    transitions: IntCounterVec,
    duration: Histogram,
    lateness: Histogram,
    success: IntCounter,
    failure: IntCounter,
    timeout: IntCounter,
    skipped: IntCounter,
    to_up: IntCounter,
    to_down: IntCounter,
}

impl Stats {
    /// Counters at zero.
    ///
    /// # Errors
    /// Never, as long as names and labels are well-formed, as the tests see to.
    pub fn new() -> Result<Self, prometheus::Error> {
        let checks = IntCounterVec::new(
            Opts::new("lb_health_checks_total", "Probes made, by how they ended; skipped ones could not be made here."),
            &["result"],
        )?;
        let transitions = IntCounterVec::new(
            Opts::new(
                "lb_health_transitions_total",
                "Changes of a backend's health after its first result, by the new state.",
            ),
            &["state"],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new("lb_health_check_duration_seconds", "Time from the start of a probe to its end.")
                .buckets(BUCKETS.to_vec()),
        )?;
        let lateness = Histogram::with_opts(
            HistogramOpts::new("lb_health_check_lateness_seconds", "Time from when a probe was due to its start.")
                .buckets(LATE.to_vec()),
        )?;
        Ok(Self {
            success: checks.get_metric_with_label_values(&["success"])?,
            failure: checks.get_metric_with_label_values(&["failure"])?,
            timeout: checks.get_metric_with_label_values(&["timeout"])?,
            skipped: checks.get_metric_with_label_values(&["skipped"])?,
            to_up: transitions.get_metric_with_label_values(&["up"])?,
            to_down: transitions.get_metric_with_label_values(&["down"])?,
            checks,
            transitions,
            duration,
            lateness,
        })
    }

    /// Adds these metrics to a registry.
    ///
    /// # Errors
    /// When it has metrics of these names already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.checks.clone()))?;
        registry.register(Box::new(self.transitions.clone()))?;
        registry.register(Box::new(self.duration.clone()))?;
        registry.register(Box::new(self.lateness.clone()))
    }

    /// Counts the start of a probe, so long after its time.
    pub(super) fn count_start(&self, late: Duration) {
        self.lateness.observe(late.as_secs_f64());
    }

    /// Counts a probe.
    pub(super) fn count(&self, outcome: &Outcome) {
        let counter = match outcome.result {
            Verdict::Success => &self.success,
            Verdict::Failure => &self.failure,
            Verdict::Timeout => &self.timeout,
            Verdict::Skipped | Verdict::Impossible => &self.skipped,
        };
        counter.inc();
        if !matches!(outcome.result, Verdict::Skipped | Verdict::Impossible) {
            self.duration.observe(outcome.latency.as_secs_f64());
        }
    }

    /// Counts a change of a backend's state.
    pub(super) fn count_transition(&self, transition: Transition) {
        let counter = if transition.up { &self.to_up } else { &self.to_down };
        if !transition.first {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_result_and_registers_once() {
        let stats = Stats::new().unwrap();
        let registry = Registry::new();
        stats.register(&registry).unwrap();
        assert!(stats.register(&registry).is_err(), "twice is an error, not a second set");
        let outcome = |result| Outcome { result, latency: Duration::from_millis(3), text: String::new(), said: None };
        stats.count(&outcome(Verdict::Success));
        stats.clone().count(&outcome(Verdict::Timeout));
        stats.count(&outcome(Verdict::Skipped));
        stats.count_start(Duration::from_millis(3));
        stats.count_transition(Transition { up: true, first: true });
        stats.count_transition(Transition { up: false, first: false });
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "lb_health_checks_total{result=\"success\"} 1",
            "lb_health_checks_total{result=\"timeout\"} 1",
            "lb_health_checks_total{result=\"failure\"} 0",
            "lb_health_checks_total{result=\"skipped\"} 1",
            "lb_health_transitions_total{state=\"up\"} 0",
            "lb_health_transitions_total{state=\"down\"} 1",
            "lb_health_check_duration_seconds_count 2",
            "lb_health_check_lateness_seconds_bucket{le=\"0.002\"} 0",
            "lb_health_check_lateness_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
    }
}
