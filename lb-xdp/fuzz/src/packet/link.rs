//! The Ethernet header and VLAN tags.

use super::Recipe;

/// MAC address of the balancer.
const BALANCER: [u8; 6] = [0x02, 0, 0, 0, 0xaa, 0x01];
/// MAC address of the router that frames come from.
const ROUTER: [u8; 6] = [0x02, 0, 0, 0, 0xcc, 0x01];

/// The frame, with what pads it.
pub(super) fn build(recipe: &Recipe, packet: &[u8]) -> Vec<u8> {
    let mut frame = [BALANCER, ROUTER].concat();
    let tags: &[[u8; 4]] = match recipe.tags & 7 {
        0..=3 => &[],
        4 => &[[0x81, 0, 0x20, 7]],
        5 => &[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 8]],
        6 => &[[0x81, 0, 0, 0], [0x81, 0, 0, 8]],
        _ => &[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 8], [0x81, 0, 0, 9]],
    };
    frame.extend(tags.concat());
    let ether_type: [u8; 2] = match packet.first().map_or(0, |byte| byte >> 4) {
        4 => [0x08, 0x00],
        _ => [0x86, 0xdd],
    };
    frame.extend(ether_type);
    frame.extend(packet);
    if recipe.padding & 0x80 != 0 {
        frame.extend(vec![0xee; usize::from(recipe.padding & 0x7f)]);
    }
    frame
}
