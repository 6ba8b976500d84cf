//! Counters of what receivers were told, for the metrics endpoint.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::Receiver;

/// Counters of deliveries. Clones count into the same counters.
#[derive(Clone, Debug)]
pub struct Stats {
    deliveries: IntCounterVec,
    lost: IntCounterVec,
    program: Counters,
    webhook: Counters,
}

/// Those of one receiver.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    /// Deliveries that succeeded.
    pub(super) success: IntCounter,
    /// Those that failed, each attempt by itself.
    pub(super) failure: IntCounter,
    /// Events that it was never told of.
    pub(super) lost: IntCounter,
}

impl Stats {
    /// Counters at zero.
    ///
    /// # Errors
    /// Never, as long as names and labels are well-formed, as the tests see to.
    pub fn new() -> Result<Self, prometheus::Error> {
        let deliveries = IntCounterVec::new(
            Opts::new(
                "lb_on_change_deliveries_total",
                "Attempts to tell a receiver of on_change, by receiver and by how they ended.",
            ),
            &["to", "result"],
        )?;
        let lost = IntCounterVec::new(
            Opts::new(
                "lb_on_change_lost_events_total",
                "Events that a receiver of on_change was not told of: given up after all attempts, or too many waited.",
            ),
            &["to"],
        )?;
        let of = |receiver: Receiver| -> Result<Counters, prometheus::Error> {
            let to = receiver.name();
            Ok(Counters {
                success: deliveries.get_metric_with_label_values(&[to, "success"])?,
                failure: deliveries.get_metric_with_label_values(&[to, "failure"])?,
                lost: lost.get_metric_with_label_values(&[to])?,
            })
        };
        Ok(Self { program: of(Receiver::Program)?, webhook: of(Receiver::Webhook)?, deliveries, lost })
    }

    /// Adds these metrics to a registry.
    ///
    /// # Errors
    /// When it has metrics of these names already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.deliveries.clone()))?;
        registry.register(Box::new(self.lost.clone()))
    }

    pub(super) fn of(&self, receiver: Receiver) -> &Counters {
        match receiver {
            Receiver::Program => &self.program,
            Receiver::Webhook => &self.webhook,
        }
    }
}
