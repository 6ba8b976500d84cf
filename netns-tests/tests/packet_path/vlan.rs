//! VLAN tags: read on arrival, and on leaving as the next hop wants them.

use lb_common::{
    layout::{
        target::{Encap, Target},
        vip::TCP,
    },
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, SYN},
    given::Given,
};

use super::site::{CLIENT, segment, segment_v6, site, site_with};

/// 802.1Q.
const C_TAG: (u16, u16) = (0x8100, 0x0005);
/// The same with a priority.
const URGENT: (u16, u16) = (0x8100, 0xe005);
/// 802.1ad, the outer one of two.
const S_TAG: (u16, u16) = (0x88a8, 0x0064);
const C_BYTES: [u8; 4] = [0x81, 0x00, 0x00, 0x09];
const S_BYTES: [u8; 4] = [0x88, 0xa8, 0x00, 0x0a];

/// Every target's next hop is a gateway of which no interface is known.
fn keeping(given: Given) -> Given {
    (1..=5).fold(given, |given, id| given.target(id, |target| target.flags = Target::KEEPS_TAGS))
}

/// The next hop of targets 1 and 2 wants these tags.
fn wanting(tags: [[u8; 4]; 2]) -> Given {
    (1..=2).fold(site(), |given, id| given.target(id, |target| target.tags = tags))
}

fn opens(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    Case::forwarded(name, given, frame, target).opens(target)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = kept();
    cases.extend(set());
    cases.extend(left_alone());
    cases
}

fn kept() -> Vec<Case> {
    let (v4, v6) = (segment(SYN), segment_v6(SYN));
    let crossed = keeping(site_with("fd00::11", "10.0.0.11"));
    vec![
        opens("a tag is kept", &keeping(site()), &v4.clone().tagged(&[C_TAG]), 1),
        opens("a tag is kept, IPv6", &keeping(site()), &v6.clone().tagged(&[C_TAG]), 2),
        opens("a tag is kept with its priority", &keeping(site()), &v4.clone().tagged(&[URGENT]), 1),
        opens("two tags are kept", &keeping(site()), &v4.clone().tagged(&[S_TAG, C_TAG]), 1),
        opens("two tags are kept, IPv6", &keeping(site()), &v6.clone().tagged(&[S_TAG, C_TAG]), 2),
        opens("two tags of one kind are kept", &keeping(site()), &v4.clone().tagged(&[C_TAG, URGENT]), 1),
        opens("two tags are kept, IPv4 in IPv6", &crossed, &v4.clone().tagged(&[S_TAG, C_TAG]), 1),
        opens("a tag is kept, IPv6 in IPv4", &crossed, &v6.tagged(&[S_TAG]), 2),
        opens("no tag is kept as none", &keeping(site()), &v4, 1),
    ]
}

fn set() -> Vec<Case> {
    let (none, one, two) = ([[0; 4]; 2], [C_BYTES, [0; 4]], [S_BYTES, C_BYTES]);
    let (v4, v6) = (segment(SYN), segment_v6(SYN));
    let one_tag = |frame: &Frame| frame.clone().tagged(&[URGENT]);
    let two_tags = |frame: &Frame| frame.clone().tagged(&[S_TAG, C_TAG]);
    let away = wanting(one).target(1, |target| target.ifindex = 4000);
    vec![
        opens("a tag is removed", &wanting(none), &one_tag(&v4), 1),
        opens("a tag is removed, IPv6", &wanting(none), &one_tag(&v6), 2),
        opens("two tags are removed", &wanting(none), &two_tags(&v4), 1),
        opens("a tag is added", &wanting(one), &v4, 1),
        opens("a tag is added, IPv6", &wanting(one), &v6, 2),
        opens("two tags are added", &wanting(two), &v4, 1),
        opens("a tag is replaced", &wanting(one), &one_tag(&v4), 1),
        opens("one tag becomes two", &wanting(two), &one_tag(&v6), 2),
        opens("two tags become one", &wanting(one), &two_tags(&v4), 1),
        opens("two tags are replaced", &wanting(two), &two_tags(&v4), 1),
        opens("a tag is added on another interface", &away, &v4, 1).leaves_by(4000),
    ]
}

/// The same for frames that go to the backend's own MAC address.
pub(crate) fn unwrapped() -> Vec<Case> {
    let (none, two) = ([[0; 4]; 2], [S_BYTES, C_BYTES]);
    let v4 = segment(SYN);
    let (one_tag, two_tags) = (v4.clone().tagged(&[URGENT]), v4.clone().tagged(&[S_TAG, C_TAG]));
    let kept = keeping(site().encap(1, Encap::L2));
    let l2 = |tags| wanting(tags).encap(1, Encap::L2);
    vec![
        opens("a tag is kept without a tunnel", &kept, &one_tag, 1),
        opens("a tag is removed without a tunnel", &l2(none), &one_tag, 1),
        opens("two tags are removed without a tunnel", &l2(none), &two_tags, 1),
        opens("two tags are added without a tunnel", &l2(two), &v4, 1),
        opens("one tag becomes two without a tunnel", &l2(two), &one_tag, 1),
    ]
}

fn left_alone() -> Vec<Case> {
    let host = |frame: Frame, verdict, name| Case::left_alone(name, &site(), frame, verdict).remembers(&[]);
    let to_host = Frame::tcp(CLIENT, "192.0.2.1:22", SYN);
    let tagged = segment(SYN).tagged(&[C_TAG]);
    let cut = |frame: &Frame, length: usize| frame.build()[..length].to_vec();
    let arp = [&tagged.build()[..16], &[8, 6], &[0; 28][..]].concat();
    let request = Frame::echo("198.51.100.7", "192.0.2.10", 7).tagged(&[S_TAG, C_TAG]);
    let any = Given::nothing().vip("192.0.2.10:443", TCP, &[]);
    vec![
        host(to_host.clone().tagged(&[C_TAG]), Verdict::NotVip, "a tagged packet to the host"),
        host(to_host.tagged(&[S_TAG, C_TAG]), Verdict::NotVip, "a packet with two tags to the host"),
        host(segment(SYN).tagged(&[S_TAG, C_TAG, C_TAG]), Verdict::NotIp, "three tags"),
        Case::left_alone("a tagged ARP packet", &site(), arp, Verdict::NotIp),
        Case::left_alone("a frame that ends in its tag", &site(), cut(&tagged, 16), Verdict::Unreadable),
        Case::left_alone("a tagged frame that ends in its IP header", &site(), cut(&tagged, 30), Verdict::Unreadable),
        Case::left_alone("a tagged packet cut short", &site(), cut(&tagged, 57), Verdict::Truncated),
        Case::left_alone("a tagged packet without a backend", &any, segment(SYN).tagged(&[C_TAG]), Verdict::NoBackend)
            .event(lb_common::layout::counter::PathEvent::MissSyn),
        Case::answered("a tagged ping is answered with its tags", &site(), &request, &request.answered()),
        Case::left_alone("a tagged ACK within a tag unknown", &site(), other_type(&segment(ACK)), Verdict::NotIp),
    ]
}

/// A frame with a tag of another kind than 802.1 has.
fn other_type(frame: &Frame) -> Vec<u8> {
    frame.clone().tagged(&[(0x9100, 5)]).build()
}
