use super::*;

const MACS: [[u8; 6]; 4] = [[2, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];
const OUTER: [u8; 4] = [0x88, 0xa8, 0x01, 0x2c];
const INNER: [u8; 4] = [0x81, 0x00, 0x60, 0x05];

/// `eth0` as link 1, and as many VLAN devices above it, one upon the other, each with a MAC address of its own.
fn stack(tags: &[[u8; 4]]) -> BTreeMap<u32, Link> {
    let mut links = BTreeMap::from([(1, plain("eth0", MACS[0]))]);
    for ((number, tag), mac) in (2..).zip(tags).zip(&MACS[1..]) {
        let kind = Kind::Vlan { below: number - 1, tag: *tag };
        links.insert(number, Link { kind, ..plain(&format!("vlan{number}"), *mac) });
    }
    links
}

fn plain(name: &str, mac: [u8; 6]) -> Link {
    Link { name: name.into(), mac: Some(mac), mtu: 1500, up: true, kind: Kind::Plain, master: None }
}

#[test]
fn tags_are_in_the_order_of_the_wire_and_the_mac_is_that_of_the_device_on_top() {
    let links = stack(&[OUTER, INNER]);
    let expected = |interface: &str, source_mac, tags| {
        Ok(Exit { interface: interface.into(), ifindex: 1, source_mac, mtu: 1500, tags })
    };
    assert_eq!(exit(&links, 1), expected("eth0", MACS[0], [[0; 4]; 2]));
    assert_eq!(exit(&links, 2), expected("vlan2", MACS[1], [OUTER, [0; 4]]));
    assert_eq!(exit(&links, 3), expected("vlan3", MACS[2], [OUTER, INNER]));
}

#[test]
fn a_third_tag_is_refused_also_if_devices_lie_upon_each_other_in_a_circle() {
    let mut links = stack(&[OUTER, INNER, INNER]);
    let refused = |interface: &str| Err(Unreachable::TooManyTags { interface: interface.into() });
    assert_eq!(exit(&links, 4), refused("vlan4"));
    links.get_mut(&2).unwrap().kind = Kind::Vlan { below: 3, tag: OUTER };
    assert_eq!(exit(&links, 2), refused("vlan2"));
}

#[test]
fn each_device_of_a_stack_must_be_up_and_the_smallest_mtu_counts() {
    for number in 1..=3 {
        let mut links = stack(&[OUTER, INNER]);
        links.get_mut(&number).unwrap().mtu = 1300;
        assert_eq!(exit(&links, 3).unwrap().mtu, 1300, "link {number}");
        links.get_mut(&number).unwrap().up = false;
        let interface = links[&number].name.clone();
        assert_eq!(exit(&links, 3), Err(Unreachable::LinkDown { interface }));
        links.remove(&number);
        assert_eq!(exit(&links, 3), Err(Unreachable::LinkDown { interface: format!("number {number}") }));
    }
}

#[test]
fn only_the_device_on_top_needs_an_address() {
    let mut links = stack(&[OUTER]);
    links.get_mut(&1).unwrap().mac = None;
    assert_eq!(exit(&links, 2).unwrap().ifindex, 1);
    links.get_mut(&2).unwrap().mac = None;
    assert_eq!(exit(&links, 2), Err(Unreachable::NoEthernet { interface: "vlan2".into() }));
}

#[test]
fn frames_leave_by_a_bond_itself_also_below_a_vlan_device() {
    let mut links = stack(&[INNER]);
    links.get_mut(&1).unwrap().kind = Kind::Bond;
    assert_eq!(exit(&links, 1).unwrap().ifindex, 1);
    assert_eq!(exit(&links, 2).unwrap().ifindex, 1);
    assert_eq!(exit(&links, 2).unwrap().tags, [INNER, [0; 4]]);
}

#[test]
fn members_of_other_masters_are_no_members_of_bonds() {
    let mut links = stack(&[]);
    links.insert(5, Link { kind: Kind::Bond, ..plain("bond0", MACS[1]) });
    links.insert(6, plain("br0", MACS[2]));
    for (number, master) in [(7, Some(5)), (8, Some(5)), (9, Some(6)), (10, Some(99)), (11, None)] {
        links.insert(number, Link { master, ..plain(&format!("eth{number}"), MACS[3]) });
    }
    assert_eq!(bonds(&links), BTreeMap::from([(7, 5), (8, 5)]));
}
