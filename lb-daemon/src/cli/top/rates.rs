//! What went on between two looks at the counters. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    api::types::{Backend, Effect, Stats, Traffic, Vip},
    cli::output::table,
};

/// Counters at one moment.
pub(super) struct Look {
    /// A daemon told them; else they are the tables'.
    pub(super) managed: bool,
    pub(super) vips: Vec<Vip>,
    pub(super) backends: Vec<Backend>,
    pub(super) stats: Stats,
}

/// What went on, the busiest first.
#[derive(Debug, Serialize)]
pub(super) struct Frame {
    /// All that was forwarded.
    #[serde(flatten)]
    all: Rates,
    /// Whether a daemon runs.
    managed: bool,
    live_flows: u64,
    vips: Vec<VipRates>,
    backends: Vec<BackendRates>,
    /// What was dropped, by verdict; verdicts of which nothing was are left out.
    dropped: Vec<DropRate>,
}

#[derive(Debug, Serialize)]
struct VipRates {
    name: String,
    backends: usize,
    backends_serving: usize,
    live_flows: u64,
    #[serde(flatten)]
    rates: Rates,
}

#[derive(Debug, Serialize)]
struct BackendRates {
    pool: String,
    vip: String,
    name: String,
    state: Effect,
    live_flows: u64,
    #[serde(flatten)]
    rates: Rates,
}

#[derive(Debug, Serialize)]
struct DropRate {
    verdict: String,
    packets_per_second: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "they are the names in JSON, which bear their unit")]
struct Rates {
    packets_per_second: f64,
    bits_per_second: f64,
    new_flows_per_second: f64,
}

impl Rates {
    /// Without counters of before there is nothing to compare, so nothing went on; nor where counters began anew.
    fn between(before: Option<&Traffic>, after: &Traffic, passed: Duration) -> Self {
        let rate = |what: fn(&Traffic) -> u64| {
            per_second(before.map_or(0, |before| what(after).saturating_sub(what(before))), passed)
        };
        Self {
            packets_per_second: rate(|traffic| traffic.packets),
            bits_per_second: rate(|traffic| traffic.bytes.saturating_mul(8)),
            new_flows_per_second: rate(|traffic| traffic.flows_created),
        }
    }

    fn add(&mut self, other: &Self) {
        self.packets_per_second += other.packets_per_second;
        self.bits_per_second += other.bits_per_second;
        self.new_flows_per_second += other.new_flows_per_second;
    }

    fn cells(&self) -> [String; 3] {
        [self.packets_per_second, self.bits_per_second, self.new_flows_per_second].map(short)
    }
}

/// To a tenth: more is noise.
fn per_second(count: u64, passed: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "what is counted in seconds is far below 2^52")]
    let count = count as f64;
    (count / passed.as_secs_f64().max(0.001) * 10.0).round() / 10.0
}

impl Frame {
    /// What went on from one look to the next.
    pub(super) fn between(before: &Look, after: &Look, passed: Duration) -> Self {
        let old: BTreeMap<_, _> = before.backends.iter().map(|one| ((&one.vip, &one.address), &one.traffic)).collect();
        let live = |backend: &Backend| backend.live_flows.unwrap_or(backend.flows);
        let mut live_of_vip: BTreeMap<&str, u64> = BTreeMap::new();
        let backends = after.backends.iter().map(|backend| {
            *live_of_vip.entry(&backend.vip).or_default() += live(backend);
            BackendRates {
                pool: backend.pool.clone(),
                vip: backend.vip.clone(),
                name: backend.name.clone(),
                state: backend.state,
                live_flows: live(backend),
                rates: Rates::between(old.get(&(&backend.vip, &backend.address)).copied(), &backend.traffic, passed),
            }
        });
        let mut backends: Vec<BackendRates> = backends.collect();
        let old: BTreeMap<_, _> = before.vips.iter().map(|vip| (&vip.name, &vip.traffic)).collect();
        let vips = after.vips.iter().map(|vip| VipRates {
            name: vip.name.clone(),
            backends: vip.backends,
            backends_serving: vip.backends_serving,
            live_flows: live_of_vip.get(vip.name.as_str()).copied().unwrap_or(0),
            rates: Rates::between(old.get(&vip.name).copied(), &vip.traffic, passed),
        });
        let mut vips: Vec<VipRates> = vips.collect();
        // Equally busy ones stay in the order of the file.
        vips.sort_by(|a, b| b.rates.packets_per_second.total_cmp(&a.rates.packets_per_second));
        backends.sort_by(|a, b| b.rates.packets_per_second.total_cmp(&a.rates.packets_per_second));
        let mut all = Rates::default();
        for vip in &vips {
            all.add(&vip.rates);
        }
        let live_flows = backends.iter().map(|backend| backend.live_flows).sum();
        Self {
            all,
            managed: after.managed,
            live_flows,
            vips,
            backends,
            dropped: dropped(&before.stats, &after.stats, passed),
        }
    }

    /// The frame for people; of each table no more than so many rows.
    pub(super) fn text(&self, rows: usize) -> String {
        let [packets, bits, flows] = self.all.cells();
        let live = self.live_flows;
        let note = if self.managed { "" } else { " (from the tables: no daemon answers)" };
        // When UDP flows end the program keeps to itself: without a daemon all that are remembered are counted.
        let (what, heading) = if self.managed { ("live", ">LIVE FLOWS") } else { ("remembered", ">REMEMBERED") };
        let head = format!("{packets} packets/s, {bits} bits/s, {flows} new flows/s, {live} {what} flows{note}");
        let vips = self.vips.iter().take(rows).map(|vip| {
            let [packets, bits, flows] = vip.rates.cells();
            let serving = format!("{} of {}", vip.backends_serving, vip.backends);
            [vip.name.clone(), serving, packets, bits, flows, vip.live_flows.to_string()]
        });
        let backends = self.backends.iter().take(rows).map(|backend| {
            let [packets, bits, flows] = backend.rates.cells();
            let place =
                if backend.pool.is_empty() { backend.vip.clone() } else { format!("{}/{}", backend.pool, backend.vip) };
            let state = backend.state.name().to_owned();
            [backend.name.clone(), place, state, packets, bits, flows, backend.live_flows.to_string()]
        });
        let rates = [">PACKETS/S", ">BITS/S", ">NEW FLOWS/S", heading];
        let [packets, bits, flows, live] = rates;
        let mut parts = vec![
            table(["VIP", "SERVING", packets, bits, flows, live], vips),
            table(["BACKEND", "POOL/VIP", "STATE", packets, bits, flows, live], backends),
        ];
        if !self.dropped.is_empty() {
            let dropped = self.dropped.iter().take(rows);
            let dropped = dropped.map(|one| [one.verdict.clone(), short(one.packets_per_second)]);
            // Above the backends: they are many, and a screen ends somewhere.
            parts.insert(1, table(["DROPPED", packets], dropped));
        }
        format!("{head}\n\n{}", parts.join("\n"))
    }
}

fn dropped(before: &Stats, after: &Stats, passed: Duration) -> Vec<DropRate> {
    let old: BTreeMap<_, _> = before.verdicts.iter().map(|one| (&one.verdict, one.packets)).collect();
    let lost = after.verdicts.iter().filter(|one| matches!(one.action.as_str(), "drop" | "aborted"));
    let rates = lost.map(|one| {
        let count = old.get(&one.verdict).map_or(0, |before| one.packets.saturating_sub(*before));
        DropRate { verdict: one.verdict.clone(), packets_per_second: per_second(count, passed) }
    });
    let mut rates: Vec<DropRate> = rates.filter(|one| one.packets_per_second > 0.0).collect();
    rates.sort_by(|a, b| b.packets_per_second.total_cmp(&a.packets_per_second));
    rates
}

/// Three digits and the unit's prefix.
fn short(rate: f64) -> String {
    let mut rest = rate;
    for prefix in ["", "k", "M", "G"] {
        // What would be rounded to four digits has the next prefix.
        if rest < 999.5 {
            let digits = usize::from(rest < 9.95 && rest > 0.0);
            return format!("{rest:.digits$}{prefix}");
        }
        rest /= 1000.0;
    }
    format!("{rest:.1}T")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn look(packets: u64, dropped: u64) -> Look {
        let traffic = |packets: u64| {
            json!({
                "packets": packets, "bytes": packets * 100, "flows_created": packets / 10, "flows_moved": 0, "syns": 0,
                "syn_retransmits": 0, "handshakes": 0, "fins": 0, "rsts": 0,
            })
        };
        let with = |mut value: Value, packets: u64| {
            value.as_object_mut().unwrap().extend(traffic(packets).as_object().unwrap().clone());
            value
        };
        let vip = |name: &str, packets| {
            let vip = json!({
                "name": name, "address": "192.0.2.1", "port": 80, "protocol": "tcp", "pool": "p", "backends": 1,
                "backends_serving": 1, "ring_slots": 251,
            });
            serde_json::from_value(with(vip, packets)).unwrap()
        };
        let backend = |vip: &str, address: &str, packets| {
            let backend = json!({
                "pool": "p", "vip": vip, "name": format!("b-{address}"), "address": address, "state": "serving",
                "last_check": "", "ifindex": 0, "flows": 9, "live_flows": 7,
            });
            serde_json::from_value(with(backend, packets)).unwrap()
        };
        Look {
            managed: true,
            vips: vec![vip("calm", 5), vip("busy", packets)],
            backends: vec![backend("calm", "10.0.0.1", 5), backend("busy", "10.0.0.2", packets)],
            stats: serde_json::from_value(json!({
                "verdicts": [
                    { "verdict": "forwarded", "action": "tx", "packets": packets, "bytes": 0 },
                    { "verdict": "no_backend", "action": "drop", "packets": dropped, "bytes": 0 },
                    { "verdict": "too_big", "action": "drop", "packets": 3, "bytes": 0 },
                ],
                "path": {},
                "flows": { "capacity": 64, "entries": 18, "states": {}, "backends": [] },
            }))
            .unwrap(),
        }
    }

    #[test]
    fn rates_are_differences_over_the_time_that_passed_and_the_busiest_come_first() {
        let frame = json!(Frame::between(&look(100, 10), &look(2100, 40), Duration::from_secs(2)));
        assert_eq!(frame["vips"][0]["name"], "busy");
        let rates =
            json!({ "packets_per_second": 1000.0, "bits_per_second": 800_000.0, "new_flows_per_second": 100.0 });
        for (name, rate) in rates.as_object().unwrap() {
            assert_eq!((&frame["vips"][0][name], &frame["backends"][0][name]), (rate, rate), "{name}");
            assert_eq!(&frame[name], rate, "{name}");
        }
        assert_eq!((&frame["vips"][0]["live_flows"], &frame["live_flows"]), (&json!(7), &json!(14)));
        assert_eq!(frame["dropped"], json!([{ "verdict": "no_backend", "packets_per_second": 15.0 }]));
    }

    #[test]
    fn counters_that_begin_anew_or_have_no_past_make_no_rate() {
        let (before, mut after) = (look(2100, 40), look(100, 10));
        after.backends[1].address = "10.0.0.9".parse().unwrap();
        let frame = json!(Frame::between(&before, &after, Duration::from_secs(1)));
        assert_eq!((&frame["packets_per_second"], &frame["dropped"]), (&json!(0.0), &json!([])));
        assert_eq!(frame["backends"][1]["packets_per_second"], 0.0);
    }

    #[test]
    fn people_read_short_numbers_and_as_many_rows_as_fit() {
        for (rate, text) in
            [(0.0, "0"), (0.5, "0.5"), (12.3, "12"), (999.6, "1.0k"), (1234.0, "1.2k"), (45_600.0, "46k")]
        {
            assert_eq!(short(rate), text);
        }
        assert_eq!((short(3e9), short(7.2e12), short(999.5e9)), ("3.0G".into(), "7.2T".into(), "1.0T".into()));
        let text = Frame::between(&look(100, 10), &look(2100, 40), Duration::from_secs(2)).text(1);
        assert!(text.starts_with("1.0k packets/s, 800k bits/s, 100 new flows/s, 14 live flows\n\nVIP "), "{text}");
        assert!(text.contains("\nbusy  1 of 1        1.0k") && text.contains("\nno_backend         15\n"), "{text}");
        assert!(!text.contains("calm"), "{text}");
    }
}
