//! IPv6 extension headers: up to four are walked.

use lb_common::{layout::counter::PathEvent, verdict::Verdict};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, SYN},
};

use super::site::{CLIENT_V6, datagram_v6, segment_v6, site, site_with};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// A padding option that fills a header of 8 bytes.
const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
/// Of a fragment header: offset 0, no more fragments, an identification.
const WHOLE: [u8; 6] = [0, 0, 0, 0, 0, 9];

fn behind(frame: Frame, headers: &[u8]) -> Frame {
    headers
        .iter()
        .fold(frame, |frame, number| frame.extension(*number, if *number == FRAGMENT { &WHOLE } else { &PADDING }))
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = walked();
    cases.extend(beyond());
    cases
}

fn walked() -> Vec<Case> {
    let opens = |name, headers: &[u8]| Case::forwarded(name, &site(), &behind(segment_v6(SYN), headers), 2).opens(2);
    let long: Vec<u8> = [&[1, 68][..], &[0; 68]].concat();
    let crossed = site_with("fd00::11", "10.0.0.11");
    let request = behind(Frame::echo("2001:db8:c::7", "2001:db8::10", 9), &[HOP_BY_HOP, DESTINATION]);
    vec![
        opens("hop-by-hop options", &[HOP_BY_HOP]),
        opens("a routing header", &[ROUTING]),
        opens("destination options", &[DESTINATION]),
        opens("a fragment header of a whole packet", &[FRAGMENT]),
        opens("two extension headers", &[HOP_BY_HOP, DESTINATION]),
        opens("four extension headers", &[HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT]),
        opens("four of a kind", &[DESTINATION; 4]),
        Case::forwarded("long options", &site(), &segment_v6(SYN).extension(DESTINATION, &long), 2).opens(2),
        Case::forwarded("a datagram behind extension headers", &site(), &behind(datagram_v6(), &[0, 60]), 4)
            .event(PathEvent::MissUdp)
            .creates(4),
        Case::forwarded("extension headers in IPv4", &crossed, &behind(segment_v6(SYN), &[0, 43, 60]), 2).opens(2),
        Case::answered("a ping behind extension headers", &site(), &request, &request.answered()),
    ]
}

fn beyond() -> Vec<Case> {
    use Verdict::{ExtensionHeaders, NotBalanced, NotVip, Truncated};
    let left = |name, frame: Vec<u8>, verdict| Case::left_alone(name, &site(), frame, verdict).remembers(&[]);
    let host = |headers: &[u8]| behind(Frame::tcp(CLIENT_V6, "[2001:db8::1]:22", ACK), headers).build();
    let raw = |number, body: &[u8]| Frame::raw("2001:db8:c::7", "2001:db8::10", number, body).build();
    let mut overlong = behind(segment_v6(SYN), &[DESTINATION]).build();
    overlong[55] = 200;
    vec![
        left("five extension headers", behind(segment_v6(SYN), &[DESTINATION; 5]).build(), ExtensionHeaders),
        left("five extension headers to the host", host(&[DESTINATION; 5]), Verdict::Unreadable),
        left("four extension headers to the host", host(&[0, 60, 43, 44]), NotVip),
        left("an extension header longer than the packet", overlong, Truncated),
        left("an extension header cut short", raw(DESTINATION, &[6, 0, 1]), Truncated),
        left("nothing behind an extension header", raw(DESTINATION, &[59, 0, 1, 4, 0, 0, 0, 0]), NotBalanced),
        left("SCTP behind an extension header", raw(HOP_BY_HOP, &[132, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4]), NotBalanced),
        left("an authentication header", raw(51, &[6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]), NotBalanced),
    ]
}
