//! Echo requests to VIPs are answered; all other ICMP is the host's.

use lb_common::{layout::limit::SILENCE_NS, maps::feature, verdict::Verdict};
use netns_tests::packet::{Case, Frame};

use super::site::site;

const CLIENT: &str = "198.51.100.7";
const VIP: &str = "192.0.2.10";
const CLIENT_V6: &str = "2001:db8:c::7";
const VIP_V6: &str = "2001:db8::10";

fn answered(name: &'static str, request: &Frame) -> Case {
    Case::answered(name, &site(), request, &request.answered())
}

/// An ICMP message of this type, with a right sum, that quotes a segment.
fn message(to: &str, kind: u8) -> Frame {
    let quote = [kind, 1, 0, 0, 0, 0, 0, 0].into_iter().chain(*b"quoted").collect::<Vec<u8>>();
    let (from, protocol) = if to.contains(':') { (CLIENT_V6, 58) } else { (CLIENT, 1) };
    Frame::raw(from, to, protocol, &quote)
}

pub(crate) fn cases() -> Vec<Case> {
    let request = Frame::echo(CLIENT, VIP, 77);
    let request_v6 = Frame::echo(CLIENT_V6, VIP_V6, 77);
    let long = request.clone().payload(&[0x5a; 1472]).ttl(255);
    let host = |name, frame: Frame| Case::left_alone(name, &site(), frame, Verdict::Icmp);
    let mut cases = vec![
        answered("ping", &request),
        answered("ping, IPv6", &request_v6),
        answered("ping of a full frame", &long),
        answered("ping of a full frame, IPv6", &request_v6.clone().payload(&[0xff; 1452]).ttl(1)),
        answered("ping with padding", &request.clone().payload(b"").padded(18)),
        answered("ping with options", &request.clone().options(&[148, 4, 0, 0])),
        answered("ping with DSCP", &request.clone().class(0xb8)),
        answered("ping, IPv6, with DSCP", &request_v6.clone().class(0xb9)),
        answered("ping of a VIP of any port", &Frame::echo(CLIENT, "192.0.2.11", 1)),
        host("ping of another address", Frame::echo(CLIENT, "192.0.2.99", 77)),
        host("ping of another address, IPv6", Frame::echo(CLIENT_V6, "2001:db8::99", 77)),
        host("ping from everybody", Frame::echo("224.0.0.1", VIP, 77)),
        host("ping from nobody", Frame::echo("0.0.0.0", VIP, 77)),
        host("ping from everybody, IPv6", Frame::echo("ff02::1", VIP_V6, 77)),
        host("ping from nobody, IPv6", Frame::echo("::", VIP_V6, 77)),
        host("an answer to a ping of the host's own", request.answered()),
        host("an echo reply to a VIP", message(VIP, 0)),
        host("neighbour solicitation for an IPv6 VIP", message(VIP_V6, 135)),
        host("IPv4's echo type in ICMPv6", message(VIP_V6, 8)),
    ];
    // The sums at which incremental updates went wrong elsewhere: 0 and 0xffff, and those around.
    cases.extend(edge_sums());
    cases
}

/// Pings while the daemon lives and after it was lost, for a program that asks for its signs of life and one that does not.
pub(crate) fn silences() -> Vec<Case> {
    let request = Frame::echo(CLIENT, VIP, 77);
    let request_v6 = Frame::echo(CLIENT_V6, VIP_V6, 77);
    let mut cases = Vec::new();
    // A second short of the limit and one beyond: the clock goes on while the kernel's turn comes.
    let within = site().silent_for(SILENCE_NS - 1_000_000_000);
    let beyond = site().silent_for(SILENCE_NS + 1_000_000_000);
    let knows_not = beyond.clone().tuned(|tuning| tuning.features &= !feature::WITHDRAW);
    for (request, [lives, lost, other]) in [
        (&request, ["ping, the daemon lives", "ping, the daemon is lost", "ping, nobody asks whether it is lost"]),
        (
            &request_v6,
            [
                "ping, IPv6, the daemon lives",
                "ping, IPv6, the daemon is lost",
                "ping, IPv6, nobody asks whether it is lost",
            ],
        ),
    ] {
        cases.push(Case::answered(lives, &within, request, &request.answered()));
        cases.push(Case::left_alone(lost, &beyond, request.clone(), Verdict::Withdrawn));
        cases.push(Case::answered(other, &knows_not, request, &request.answered()));
    }
    cases.push(Case::left_alone(
        "ping of another address, the daemon is lost",
        &beyond,
        Frame::echo(CLIENT, "192.0.2.99", 77),
        Verdict::Icmp,
    ));
    cases
}

/// Requests whose checksums are where carries happen. `id` makes each sum: it is part of it, once.
fn edge_sums() -> Vec<Case> {
    let sum = |frame: &Frame| {
        let bytes = frame.build();
        let at = if frame.is_v4() { 36 } else { 56 };
        u16::from_be_bytes([bytes[at], bytes[at + 1]])
    };
    let wanted = [
        ("sum 0x0000", 0x0000),
        ("sum 0x0001", 0x0001),
        ("sum 0xf7fe", 0xf7fe),
        ("sum 0xf7ff", 0xf7ff),
        ("sum 0xf800", 0xf800),
        ("sum 0xfffe", 0xfffe),
        ("sum 0x0000, IPv6", 0x0000),
        ("sum 0xfeff, IPv6", 0xfeff),
        ("sum 0xff00, IPv6", 0xff00),
        ("sum 0xfffe, IPv6", 0xfffe),
    ];
    let find = |(name, wanted): (&'static str, u16)| {
        let (from, to) = if name.ends_with("IPv6") { (CLIENT_V6, VIP_V6) } else { (CLIENT, VIP) };
        let at_zero = Frame::echo(from, to, 0);
        // Each step of the identifier lowers the sum by one, modulo 0xffff.
        let id = (u32::from(sum(&at_zero)) + 0xffff - u32::from(wanted)) % 0xffff;
        let request = Frame::echo(from, to, u16::try_from(id).expect("below 0xffff"));
        assert_eq!(sum(&request), wanted, "{name}");
        answered(name, &request)
    };
    wanted.into_iter().map(find).collect()
}
