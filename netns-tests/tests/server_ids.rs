//! Packets that name their backend themselves: QUIC connection IDs, and the stable-routing header of UDP services.

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::Balancer,
    scenario::scenario,
    settings::{Family, Health, Settings},
    topology::{Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::udp::Flow,
};

/// Backends `web-1` to `web-3` with the IDs 0x0a01 to 0x0a03.
fn settings(lab: &Lab, vip: &str) -> Settings {
    let mut settings = Settings::empty(lab)
        .pool("web", lab, Family::V4, Health::None)
        .vip("v4", (VIP_V4, 53, "udp"), "web")
        .vip("v6", (VIP_V6, 53, "udp"), "web")
        .each_vip(vip);
    for (number, backend) in settings.pools[0].backends.iter_mut().enumerate() {
        backend.keys.push(format!("server_id = \"0a{:02x}\"", number + 1));
    }
    settings
}

/// A short header with a connection ID of configuration `config`: server ID, then what the server likes.
fn short(config: u8, id: [u8; 2], nonce: u8) -> Vec<u8> {
    [&[0x40, config << 5 | 7][..], &id, &[nonce; 5], &[0x5a; 40]].concat()
}

/// A long header of version 1; kind 0 is Initial, 2 is Handshake.
fn long(kind: u8, config: u8, id: [u8; 2], nonce: u8) -> Vec<u8> {
    let head = [0xc0 | kind << 4, 0, 0, 0, 1, 8, config << 5 | 7];
    [&head[..], &id, &[nonce; 5], &[8], &[nonce; 8], &[0x5a; 1200]].concat()
}

/// The header in front of a datagram, with the ID as Katran reads it: 3 bytes behind the first.
fn stable(id: u32) -> Vec<u8> {
    let [_, a, b, c] = id.to_be_bytes();
    [&[0x52, a, b, c, 0, 0, 0, 0][..], &[0x5a; 40]].concat()
}

fn id(number: usize) -> [u8; 2] {
    [0x0a, u8::try_from(number).expect("a small number")]
}

/// Whatever flow they come by, such datagrams reach the backend that they name.
fn named(lab: &Lab, datagram: impl Fn(usize) -> Vec<u8>) -> Result<()> {
    for to in vips(53) {
        for number in 1..=lab.backends.len() {
            for _ in 0..6 {
                let name = Flow::open(&lab.client, to)?.ask_this(&datagram(number))?;
                ensure!(name == format!("web-{number}"), "{to}: number {number} was answered by {name}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_quic_connection_keeps_its_backend_when_the_client_moves() {
    scenario(&Layout::default(), |lab| {
        let plain = settings(lab, "quic = \"quic-lb\"\nquic_lb = [{ config = 2, server_id_length = 2 }]");
        let lb = Balancer::start(lab, &plain)?;
        named(lab, |number| short(2, id(number), 1))?;
        named(lab, |number| long(2, 2, id(number), 1))?;
        assert_eq!(lb.stats()?.event("server_id_routed")?, 2 * 2 * 3 * 6);
        // The client's own ID of an Initial says nothing, even if it looks like a server's, nor does another configuration's.
        for (round, datagram) in [long(0, 2, id(1), 1), short(3, id(1), 1)].into_iter().enumerate() {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..40 {
                let mut flow = Flow::open(&lab.client, vips(53)[round])?;
                let name = flow.ask_this(&datagram)?;
                // The flow has its backend: the next packet goes there too, and its connection ID would say the same.
                ensure!(flow.ask_this(&datagram)? == name, "a flow went elsewhere");
                seen.insert(name);
            }
            assert_eq!(seen.len(), 3, "round {round}");
        }
        assert_eq!(lb.stats()?.event("server_id_none")?, 2 * 40 * 2);
        // An ID that nobody has goes by the flow.
        let mut flow = Flow::open(&lab.client, vips(53)[0])?;
        let name = flow.ask_this(&short(2, [9, 9], 1))?;
        ensure!(flow.ask_this(&short(2, [9, 9], 2))? == name, "an unknown ID was not steered by its flow");
        assert_eq!(lb.stats()?.event("server_id_unknown")?, 2);
        Ok(())
    });
}

#[test]
fn a_live_change_of_server_ids_is_heeded_at_once() {
    scenario(&Layout::default(), |lab| {
        let first = settings(lab, "quic = \"quic-lb\"");
        let lb = Balancer::start(lab, &first)?;
        named(lab, |number| short(0, id(number), 1))?;
        let mut swapped = first.clone();
        for backend in &mut swapped.pools[0].backends {
            let key = &mut backend.keys[0];
            *key = key.replace("0a01", "0b01").replace("0a02", "0a01").replace("0b01", "0a02");
        }
        lb.reload(&swapped)?;
        named(lab, |number| short(0, id([0, 2, 1, 3][number]), 1))?;
        // What drains still gets what is its own.
        let mut drained = swapped.clone();
        drained.backend("web-3").keys.push("state = \"drain\"".into());
        lb.reload(&drained)?;
        named(lab, |number| short(0, id([0, 2, 1, 3][number]), 1))
    });
}

#[test]
fn the_stable_routing_header_names_the_backend() {
    scenario(&Layout::default(), |lab| {
        let lb = Balancer::start(lab, &settings(lab, "udp_stable = true"))?;
        named(lab, |number| stable(0x0a00 + u32::try_from(number).unwrap_or(0)))?;
        assert_eq!(lb.stats()?.event("server_id_routed")?, 2 * 3 * 6);
        let mut flow = Flow::open(&lab.client, vips(53)[1])?;
        let name = flow.ask()?;
        ensure!(flow.ask()? == name, "a datagram without the header went elsewhere");
        Ok(())
    });
}
