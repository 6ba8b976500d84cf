use super::*;

/// A message about link 7, as the kernel sends it, with these attributes besides.
fn message(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = LinkFlags::Up | LinkFlags::Running;
    message.attributes = vec![
        LinkAttribute::IfName("eth0".into()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
    ];
    message.attributes.extend(attributes);
    message
}

fn vlan(facts: Vec<InfoVlan>) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(facts))])
}

#[test]
fn a_link_without_further_attributes_is_plain() {
    let expected = Link {
        name: "eth0".into(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        up: true,
        kind: Kind::Plain,
        master: None,
    };
    assert_eq!(link_event(&message(Vec::new())), Some(expected));
}

#[test]
fn a_vlan_device_tells_the_device_below_and_its_tag() {
    let q = vec![InfoVlan::Protocol(VlanProtocol::Ieee8021Q), InfoVlan::Id(100)];
    let ad = vec![InfoVlan::Protocol(VlanProtocol::Ieee8021Ad), InfoVlan::Id(4094)];
    for (facts, tag) in [(q, [0x81, 0x00, 0x00, 0x64]), (ad, [0x88, 0xa8, 0x0f, 0xfe])] {
        let told = link(&message(vec![LinkAttribute::Link(2), vlan(facts)]));
        assert_eq!(told.kind, Kind::Vlan { below: 2, tag });
    }
}

#[test]
fn a_vlan_device_marks_frames_with_the_priority_that_it_gives_to_ordinary_packets() {
    let mappings = vec![VlanQosMapping::Mapping(3, 7), VlanQosMapping::Mapping(0, 5)];
    let facts = vec![InfoVlan::Id(1), InfoVlan::EgressQos(mappings)];
    let told = link(&message(vec![LinkAttribute::Link(2), vlan(facts)]));
    assert_eq!(told.kind, Kind::Vlan { below: 2, tag: [0x81, 0x00, 0xa0, 0x01] });
}

#[test]
fn a_vlan_device_whose_lower_device_is_in_another_namespace_is_left_by_itself() {
    let attributes = vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(0), vlan(vec![InfoVlan::Id(100)])];
    assert_eq!(link(&message(attributes)).kind, Kind::Plain);
}

#[test]
fn a_bond_and_its_members_are_known_as_such() {
    let bond = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bond)]);
    assert_eq!(link(&message(vec![bond])).kind, Kind::Bond);
    let member = link(&message(vec![LinkAttribute::Controller(9)]));
    assert_eq!((member.kind, member.master), (Kind::Plain, Some(9)));
    let veth = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]);
    assert_eq!(link(&message(vec![LinkAttribute::Link(2), veth])).kind, Kind::Plain, "its link is its peer");
}
