//! Steps under a steady stream of numbered packets on 1,000 flows, of which they may lose none, double none and move none.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    balancer::Balancer,
    settings::{PoolBackend, Settings},
    topology::{Lab, VIP_V4, VIP_V6, vips},
    traffic::numbered::{PORT, Stream},
};

/// Time that the stream goes on before and after a step, for packets to show what it did.
pub const BETWEEN: Duration = Duration::from_millis(300);
/// Weights of the stream's backends: equal ones.
pub const EVEN: [u32; 3] = [1, 1, 1];
/// Weights that give another ring than [`EVEN`] does: flows stay only because they are known.
pub const UNEVEN: [u32; 3] = [9, 1, 3];

/// A VIP for the stream over each family, of pool `stream`, with backends of these weights.
pub fn settings(lab: &Lab, weights: [u32; 3]) -> Settings {
    let backends = lab.backends.iter().zip(weights);
    let backends =
        backends.map(|(backend, weight)| PoolBackend { weight, ..PoolBackend::new(backend.name(), backend.v4) });
    with_stream(Settings::empty(lab).pool_of("stream", backends.collect()))
}

/// The same VIPs beside what there is, which has the pool.
#[must_use]
pub fn with_stream(settings: Settings) -> Settings {
    settings.vip("stream-v4", (VIP_V4, PORT, "udp"), "stream").vip("stream-v6", (VIP_V6, PORT, "udp"), "stream")
}

/// So many further VIPs, of this pool.
#[must_use]
pub fn with_others(settings: Settings, vips: u16, pool: &str) -> Settings {
    (0..vips).fold(settings, |settings, number| {
        settings.vip(&format!("other-{number}"), (VIP_V4, 8000 + number, "tcp"), pool)
    })
}

/// Starts a balancer and a stream through it, takes `steps`, prints what became of the packets, and demands that they noticed
/// nothing.
///
/// # Errors
/// When a step fails, or the stream noticed something.
pub fn under_a_stream(
    what: &str,
    lab: &Lab,
    settings: &Settings,
    steps: impl FnOnce(&mut Balancer) -> Result<()>,
) -> Result<()> {
    let mut lb = Balancer::start(lab, settings)?;
    let stream = Stream::start(lab, vips(PORT))?;
    thread::sleep(BETWEEN);
    steps(&mut lb)?;
    thread::sleep(BETWEEN);
    let report = stream.finish()?;
    println!("{what}: {report}");
    ensure!(report.is_whole(), "{what}: {report}");
    Ok(())
}
