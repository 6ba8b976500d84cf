//! The metrics: names, meanings and labels.

use prometheus::proto::{
    Counter, Gauge, LabelPair, Metric, MetricFamily,
    MetricType::{self, COUNTER, GAUGE},
};

/// A metric's name, what it means and its labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Its name.
    pub(super) name: &'static str,
    /// What it means, in a sentence.
    pub(super) help: &'static str,
    /// Counter or gauge.
    pub(super) kind: MetricType,
    /// Names of its labels.
    pub(super) labels: &'static [&'static str],
}

impl Family {
    /// A sample; `labels` are the values of the family's labels, in their order.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles; beyond 2^53 the last digits go")]
    pub(super) fn sample(&self, labels: &[&str], value: u64) -> Metric {
        self.sample_exact(labels, value as f64)
    }

    /// As [`Family::sample`], for what is no whole number.
    pub(super) fn sample_exact(&self, labels: &[&str], value: f64) -> Metric {
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(self.labels.iter().zip(labels).map(pair).collect());
        if self.kind == COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }

    /// The family with these samples.
    pub(super) fn with(&self, samples: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.into());
        family.set_help(self.help.into());
        family.set_field_type(self.kind);
        family.set_metric(samples);
        family
    }
}

macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal $labels:tt $help:literal;)*) => {
        $(pub(super) const $constant: Family =
            Family { name: $name, help: $help, kind: $kind, labels: &$labels };)*
        /// All of them.
        pub(super) const ALL: &[Family] = &[$($constant,)*];
    };
}

families! {
    BUILD_INFO = GAUGE "lb_build_info" ["version"]
        "Always 1; the label names the version that runs.";
    GENERATION = GAUGE "lb_config_generation" []
        "Number of the configuration in force.";
    UNCONFIRMED = GAUGE "lb_config_unconfirmed" []
        "Whether the configuration in force is rolled back unless it is confirmed in time.";
    DIFFERS_FROM_FILE = GAUGE "lb_config_differs_from_file" []
        "Whether the configuration in force is not what the file said when it was last read.";
    RELOAD_SUCCESSFUL = GAUGE "lb_config_last_reload_successful" []
        "Whether the last attempt to load the configuration succeeded.";
    RELOAD_TIMESTAMP = GAUGE "lb_config_last_reload_success_timestamp_seconds" []
        "When the configuration was last loaded successfully, in seconds since 1970.";
    APPLY_FAILING = GAUGE "lb_apply_failing" []
        "Whether the last attempt to write the wanted state to the tables failed.";
    OVERRIDES = GAUGE "lb_overrides" []
        "Backends and VIPs for which an operator wants something else than the configuration says.";
    ATTACHED = GAUGE "lb_xdp_attached" ["interface", "mode"]
        "Always 1 for an interface that the program is attached to; the mode is native or generic.";
    FEATURE = GAUGE "lb_xdp_feature" ["feature"]
        "1 for what the program in force can do beyond plain VIPs, 0 for what the configuration does not ask for.";
    AGENTS_SILENT = GAUGE "lb_agents_silent" []
        "Agents of backends, one for each VIP, that are not reached or not understood; what they said before holds.";
    PACKETS = COUNTER "lb_packets_total" ["verdict"]
        "Frames that the program handled, by why they left it.";
    VERDICT_BYTES = COUNTER "lb_bytes_total" ["verdict"]
        "Bytes of the frames that the program handled, as received; of forwarded ones from the IP header on.";
    DROPPED = COUNTER "lb_dropped_packets_total" ["reason"]
        "Frames that the program dropped, by reason.";
    VIP_UP = GAUGE "lb_vip_up" ["vip"]
        "Whether a VIP has a backend that takes new flows, as many healthy ones as min_healthy asks for, and is not disabled.";
    VIP_PANIC = GAUGE "lb_vip_panic" ["vip"]
        "Whether so few backends of a VIP are up that all are used, as panic_threshold says.";
    VIP_PACKETS = COUNTER "lb_vip_packets_total" ["vip"]
        "Packets forwarded for a VIP, to its former backends too.";
    VIP_BYTES = COUNTER "lb_vip_bytes_total" ["vip"]
        "Bytes forwarded for a VIP, from the IP header on and before encapsulation.";
    VIP_FLOWS = COUNTER "lb_vip_flows_created_total" ["vip"]
        "Flows of a VIP that its ring gave to a backend.";
    RING_CHANGED = COUNTER "lb_ring_changed_slots_total" ["vip"]
        "Slots of a VIP's ring that came to lead to another backend, or to none.";
    TRACKED_SLOTS = GAUGE "lb_vip_tracked_slots" ["vip"]
        "Slots of an adaptive VIP's ring whose flows are remembered; 0 of other VIPs, which have no such slots.";
    BACKEND_PACKETS = COUNTER "lb_backend_packets_total" ["vip", "backend"]
        "Packets forwarded to a backend of a VIP.";
    BACKEND_BYTES = COUNTER "lb_backend_bytes_total" ["vip", "backend"]
        "Bytes forwarded to a backend of a VIP, from the IP header on and before encapsulation.";
    BACKEND_FLOWS = COUNTER "lb_backend_flows_created_total" ["vip", "backend"]
        "Flows that the ring gave to a backend of a VIP.";
    BACKEND_SYNS = COUNTER "lb_backend_syn_total" ["vip", "backend"]
        "TCP openings forwarded to a backend of a VIP.";
    BACKEND_SYN_RETRANSMITS = COUNTER "lb_backend_syn_retransmits_total" ["vip", "backend"]
        "TCP openings to a backend of a VIP that were sent again, which tells of a backend that does not answer.";
    BACKEND_HANDSHAKES = COUNTER "lb_backend_handshakes_total" ["vip", "backend"]
        "TCP openings to a backend of a VIP that went on, so that the backend must have answered.";
    BACKEND_EJECTIONS = COUNTER "lb_backend_ejections_total" ["vip", "backend"]
        "Times that a backend of a VIP was ejected because its clients' handshakes did not complete.";
    BACKEND_WEIGHT = GAUGE "lb_backend_weight" ["vip", "backend"]
        "Configured weight of a backend.";
    BACKEND_UP = GAUGE "lb_backend_up" ["vip", "backend"]
        "Whether a backend passes its health check; 0 before the first result.";
    BACKEND_STATE = GAUGE "lb_backend_state" ["vip", "backend", "state"]
        "1 for what a backend takes: serving takes all flows, draining known ones, down none; 0 for the other two.";
    BACKEND_ENTRIES = GAUGE "lb_backend_flow_table_entries" ["vip", "backend"]
        "Flows that the flow table remembers for a backend of a VIP.";
    FLOW_CAPACITY = GAUGE "lb_flow_table_capacity" []
        "Flows that the flow table can remember.";
    FLOW_ENTRIES = GAUGE "lb_flow_table_entries" ["state"]
        "Flows that the flow table remembers, by state, those that ended in the last minutes included.";
    FLOW_LIVE = GAUGE "lb_flow_table_live_entries" []
        "Flows that the flow table remembers and that go on.";
    FLOW_LOOKUPS = COUNTER "lb_flow_lookups_total" ["result"]
        "Look-ups in the flow table, by result; hits are counted from the first reading of a daemon, with packets in untracked slots of adaptive VIPs, which are not looked up.";
    FLOW_EVICTIONS = COUNTER "lb_flow_evictions_total" []
        "Flows that gave way to others in the flow table.";
    FLOWS_NOT_REMEMBERED = COUNTER "lb_flows_not_remembered_total" []
        "Packets of flows that the flow table had no room for, or that new flows are limited for; the ring answers for them.";
    PATH_EVENTS = COUNTER "lb_path_events_total" ["event"]
        "What happened to packets off the plain way, by event: fragments, ICMP errors, server IDs, source routes, tunnels.";
    FLOWS_MOVED = COUNTER "lb_flows_moved_total" []
        "Flows that moved to another backend because theirs was down or gone.";
}
