//! A few packets of each contender are counted before anything is timed: it must do with all of them what it is there for.

use anyhow::{Result, ensure};
use bench_xdp::Arrived;

use super::{ARRIVAL, Amount, Contender, Generator, Makes, Site, Traffic, arrived_since};
use crate::lab::Stop;

/// Packets of each queue: no more than a veth's queue holds.
const PACKETS: u32 = 128;

/// Sends them, and looks at what comes back.
pub(super) fn verify(
    site: &Site,
    generator: &mut Generator,
    contender: &mut Contender,
    traffic: &Traffic,
    stop: &Stop,
) -> Result<()> {
    let _turn = contender.turn(site)?;
    let before = site.arrived()?;
    let sent = generator.send(site, traffic, Amount::Packets(PACKETS), stop)?;
    // None may be missing, so that the last one is worth waiting for.
    let arrived = arrived_since(site, before, sent.packets, ARRIVAL)?;
    let name = format!("{} ({})", contender.name, contender.mode.name());
    judge(&name, contender.makes, (sent.packets, u64::try_from(traffic.frame_bytes())?), arrived)
}

fn judge(name: &str, makes: Makes, (sent, frame_bytes): (u64, u64), arrived: Arrived) -> Result<()> {
    let packets = arrived.plain + arrived.wrapped;
    ensure!(packets > 0, "{name}: none of {sent} packets came back");
    ensure!(packets >= sent, "{name}: {} of {sent} packets did not come back", sent - packets);
    ensure!(packets <= sent, "{name}: {packets} packets came back of {sent}");
    let expected = match makes {
        Makes::Plain => arrived.plain,
        Makes::Wrapped => arrived.wrapped,
        Makes::Either => packets,
    };
    ensure!(
        expected == packets,
        "{name}: {} packets came back as they were, {} in tunnels",
        arrived.plain,
        arrived.wrapped
    );
    if let Some(grown) = makes.grown() {
        let bytes = packets * (frame_bytes + u64::from(grown));
        ensure!(arrived.bytes == bytes, "{name}: {packets} packets came back with {} bytes", arrived.bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_packets_must_come_back_and_be_what_they_should_be() {
        let arrived = |plain, wrapped, bytes| Arrived { plain, wrapped, others: 0, bytes };
        let judged = |makes, arrived| judge("x", makes, (128, 64), arrived).map_err(|error| error.to_string());
        let ok = Ok(());
        assert_eq!(judged(Makes::Plain, arrived(128, 0, 128 * 64)), ok);
        assert_eq!(judged(Makes::Wrapped, arrived(0, 128, 128 * 84)), ok);
        assert_eq!(judged(Makes::Either, arrived(100, 28, 1)), ok);
        let told = |text: &str| Err(text.to_owned());
        assert_eq!(judged(Makes::Plain, arrived(0, 0, 0)), told("x: none of 128 packets came back"));
        assert_eq!(judged(Makes::Wrapped, arrived(0, 127, 127 * 84)), told("x: 1 of 128 packets did not come back"));
        assert_eq!(judged(Makes::Either, arrived(1, 0, 64)), told("x: 127 of 128 packets did not come back"));
        assert_eq!(judged(Makes::Plain, arrived(129, 0, 129 * 64)), told("x: 129 packets came back of 128"));
        let mixed = "x: 1 packets came back as they were, 127 in tunnels";
        assert_eq!(judged(Makes::Wrapped, arrived(1, 127, 128 * 84)), told(mixed));
        assert_eq!(judged(Makes::Plain, arrived(128, 0, 8193)), told("x: 128 packets came back with 8193 bytes"));
    }
}
