use lb_common::{
    layout::vip::{TCP, Vip},
    maps::feature,
};

use super::{ServerId, read};
use crate::{
    fixture::{
        INGRESS, World,
        frames::{ends, flags::ACK},
    },
    host::HostFrame,
};

/// Server ID 0x01020304 as an option.
const ID: [u8; 6] = [0xb7, 6, 4, 3, 2, 1];

/// What a TCP VIP reads in a segment with these options, of a multiple of 4 bytes.
fn with_options(options: &[u8]) -> ServerId {
    let mut frame = ends("198.51.100.7:51000", "192.0.2.10:443").tcp(ACK);
    let (packet, header) = (frame.len() - 14 + options.len(), 20 + options.len());
    frame.splice(54..54, options.iter().copied());
    frame[16..18].copy_from_slice(&u16::try_from(packet).expect("a short packet").to_be_bytes());
    frame[46] = u8::try_from(header << 2).expect("a short header");
    let mut world = World::new(1);
    let key = world.serve("192.0.2.10".parse().expect("an address"), 443, TCP, &[]);
    world.tables.tuning.features = feature::SERVER_IDS;
    let vip = Vip { flags: Vip::TCP_SERVER_ID, ..world.vip(key) };
    read(&HostFrame::new(&frame, INGRESS), &world.parse(&frame), &vip, &world.tables)
}

#[test]
fn an_option_longer_than_the_header_ends_the_search() {
    assert_eq!(with_options(&[&[1, 1], &ID[..]].concat()), ServerId::Given([0, 0x0102_0304]));
    for length in 3..=40 {
        // What looks like a server ID is within an option; behind it is one that ends beyond the header.
        let within = [&[8, 26], &ID[..], &[0; 18], &[9, length]].concat();
        assert_eq!(with_options(&within), ServerId::Absent, "{length}");
    }
}
