//! Server IDs in a TCP option and in the stable-routing header of UDP.

use lb_common::{
    layout::{
        counter::PathEvent::{MissTcp, MissUdp, ServerIdRouted, ServerIdUnknown},
        flow::FlowState::{Datagram, Established, FirstDatagram, PickedUp},
        vip::{TCP, UDP, Vip},
    },
    maps::feature,
};
use netns_tests::packet::{
    Case, Frame,
    frame::{
        flags::{ACK, SYN},
        payload::{server_option, stable_header},
    },
    given::{FEATURES, Given},
};

use super::site::{BACKEND, CLIENT, DNS, WEB, datagram, segment};

/// Both VIPs route by server ID: 0x01020304 and 0x020304 are targets 1 and 3, while the rings point to 2 and 4.
fn given() -> Given {
    let backends = [BACKEND, "10.0.0.12"];
    Given::nothing()
        .vip(WEB, TCP, &backends)
        .vip(DNS, UDP, &backends)
        .ring(1, Some(2))
        .ring(2, Some(4))
        .flags(1, Vip::TCP_SERVER_ID)
        .flags(2, Vip::UDP_SERVER_ID)
        .server(1, 0x0102_0304, 1)
        .server(2, 0x02_0304, 3)
        .server(1, 7, 2)
        .server(1, 0, 1)
        .server(2, 0, 3)
}

fn with_option(flags: u8, server: u32) -> Frame {
    segment(flags).tcp_options(&server_option(server))
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = options();
    cases.extend(headers());
    cases
}

fn options() -> Vec<Case> {
    let routed = |name, frame: &Frame| {
        let case = Case::forwarded(name, &given(), frame, 1).event(MissTcp).event(ServerIdRouted).creates(1);
        case.remembers(&[(1, PickedUp, 0)])
    };
    let absent = |name, options: &[u8]| {
        let frame = segment(ACK).tcp_options(options);
        Case::forwarded(name, &given(), &frame, 2).event(MissTcp).creates(2)
    };
    let ack = with_option(ACK, 0x0102_0304);
    let known = given().flow(&ack, 2, 0, Established);
    let down = given().target(1, |target| target.serves = 0);
    let without = given().features(FEATURES & !feature::SERVER_IDS);
    let id = [0xb7, 6, 4, 3, 2, 1];
    let unknown = with_option(ACK, 99);
    vec![
        routed("a server ID in a TCP option", &ack),
        routed(
            "a server ID behind timestamps",
            &segment(ACK).tcp_options(&[&[1, 1, 8, 10], &[9; 8][..], &id, &[1; 2]].concat()),
        ),
        routed("a server ID that ends the header", &segment(ACK).tcp_options(&[&[1, 1], &id[..]].concat())),
        routed("a server ID behind fourteen options", &segment(ACK).tcp_options(&[&[1; 14], &id[..]].concat())),
        Case::forwarded("a server ID beats the remembered target", &known, &ack, 1)
            .event(ServerIdRouted)
            .remembers(&[(1, Established, 0)]),
        Case::forwarded("a server ID of a SYN is not looked at", &given(), &with_option(SYN, 0x0102_0304), 2).opens(2),
        Case::forwarded("an unknown server ID", &given(), &unknown, 2).event(MissTcp).event(ServerIdUnknown).creates(2),
        Case::forwarded(
            "an unknown server ID of a known flow",
            &given().flow(&unknown, 1, 0, Established),
            &unknown,
            1,
        )
        .event(ServerIdUnknown)
        .remembers(&[(1, Established, 0)]),
        Case::forwarded("the server ID of a target that is down", &down, &ack, 2)
            .event(MissTcp)
            .event(ServerIdUnknown)
            .creates(2),
        Case::forwarded("a server ID in a program that does not know them", &without, &ack, 2)
            .event(MissTcp)
            .creates(2),
        absent("a server ID of 0", &server_option(0)),
        absent("a server ID behind the end of options", &[&[0, 0], &id[..]].concat()),
        absent("a server ID behind an option of no length", &[&[8, 0], &id[..]].concat()),
        absent("a server ID of another length", &[0xb7, 8, 4, 3, 2, 1, 0, 0]),
        absent("a server ID that the header cuts off", &[1, 1, 1, 1, 1, 1, 0xb7, 6]),
        absent("a server ID behind more options than are looked at", &[&[1; 18], &id[..]].concat()),
        absent("no option", &[]),
    ]
}

fn headers() -> Vec<Case> {
    let query = |payload: &[u8]| datagram().payload(payload);
    let routed = query(&stable_header(0x02_0304));
    let absent = |name, payload: &[u8]| Case::forwarded(name, &given(), &query(payload), 4).event(MissUdp).creates(4);
    let known = given().flow(&routed, 4, 0, Datagram);
    let segment_too = Frame::tcp(CLIENT, WEB, ACK).payload(&stable_header(0x02_0304));
    vec![
        Case::forwarded("a server ID in a stable-routing header", &given(), &routed, 3)
            .event(MissUdp)
            .event(ServerIdRouted)
            .creates(3)
            .remembers(&[(3, FirstDatagram, 0)]),
        Case::forwarded("a stable-routing header alone", &given(), &query(&stable_header(0x02_0304)[..8]), 3)
            .event(MissUdp)
            .event(ServerIdRouted)
            .creates(3),
        Case::forwarded("a stable-routing header beats the remembered target", &known, &routed, 3)
            .event(ServerIdRouted)
            .remembers(&[(3, Datagram, 0)]),
        Case::forwarded("an unknown server in a stable-routing header", &given(), &query(&stable_header(5)), 4)
            .event(MissUdp)
            .event(ServerIdUnknown)
            .creates(4),
        absent("a stable-routing header of server 0", &stable_header(0)),
        absent("a stable-routing header of seven bytes", &stable_header(0x02_0304)[..7]),
        absent("another first byte", &[0x53, 2, 3, 4, 0, 0, 0, 0]),
        absent("nothing behind UDP", &[]),
        Case::forwarded("a stable-routing header in TCP is not looked at", &given(), &segment_too, 2)
            .event(MissTcp)
            .creates(2),
    ]
}
