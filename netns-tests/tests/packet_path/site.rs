//! The VIPs and flows that the cases share.

use lb_common::layout::vip::{TCP, UDP};
use lb_xdp::host::HostFrame;
use netns_tests::packet::{Frame, Given, case::INGRESS};

pub(crate) const CLIENT: &str = "198.51.100.7:51000";
pub(crate) const CLIENT_V6: &str = "[2001:db8:c::7]:51000";
pub(crate) const WEB: &str = "192.0.2.10:443";
pub(crate) const WEB_V6: &str = "[2001:db8::10]:443";
pub(crate) const DNS: &str = "192.0.2.10:53";
pub(crate) const DNS_V6: &str = "[2001:db8::10]:53";
/// Every TCP port of an address.
pub(crate) const ANY: &str = "192.0.2.11:0";
pub(crate) const BACKEND: &str = "10.0.0.11";
pub(crate) const BACKEND_V6: &str = "fd00::11";

/// VIPs 1 to 4 (web and dns, IPv4 and IPv6), each with one backend of that family: targets 1 to 4. VIP 5 serves any port:
/// target 5.
pub(crate) fn site() -> Given {
    site_with(BACKEND, BACKEND_V6)
}

/// The same with other backends for IPv4 and IPv6 VIPs.
pub(crate) fn site_with(for_v4: &str, for_v6: &str) -> Given {
    Given::nothing()
        .vip(WEB, TCP, &[for_v4])
        .vip(WEB_V6, TCP, &[for_v6])
        .vip(DNS, UDP, &[for_v4])
        .vip(DNS_V6, UDP, &[for_v6])
        .vip(ANY, TCP, &[for_v4])
}

/// One VIP of each protocol with two backends each, of which one has the whole ring: targets 1 and 2 (web), 3 and 4 (dns).
pub(crate) fn pair(web: u32, dns: u32) -> Given {
    let backends = [BACKEND, "10.0.0.12"];
    Given::nothing().vip(WEB, TCP, &backends).vip(DNS, UDP, &backends).ring(1, Some(web)).ring(2, Some(dns))
}

pub(crate) fn segment(flags: u8) -> Frame {
    Frame::tcp(CLIENT, WEB, flags)
}

pub(crate) fn segment_v6(flags: u8) -> Frame {
    Frame::tcp(CLIENT_V6, WEB_V6, flags)
}

pub(crate) fn datagram() -> Frame {
    Frame::udp(CLIENT, DNS)
}

pub(crate) fn datagram_v6() -> Frame {
    Frame::udp(CLIENT_V6, DNS_V6)
}

/// Two backends of each family behind one VIP, tracked: targets 1 to 4.
pub(crate) fn four(service: &str, protocol: u8) -> Given {
    Given::nothing().vip(service, protocol, &[BACKEND, "10.0.0.12", BACKEND_V6, "fd00::12"])
}

/// The target that tables choose for a frame, of which they know nothing yet.
pub(crate) fn chosen(given: &Given, frame: &Frame) -> u32 {
    let tables = given.tables(1000);
    let exit = tables.run(&mut HostFrame::new(&frame.build(), INGRESS));
    let counters = tables.target_counters.borrow();
    let ids = (0..).zip(counters.iter()).filter(|(_, counters)| counters.packets > 0).map(|(id, _)| id);
    let [id] = ids.collect::<Vec<u32>>()[..] else { panic!("not sent to one target: {exit:?}") };
    id
}
