use std::time::{Duration, UNIX_EPOCH};

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::model::MAX_WEIGHT;

const TEXT: &str = r#"
[dataplane]
interfaces = ["eth0"]
[pool.a]
backends = [
  { name = "one", address = "10.0.0.1", weight = 7 },
  { name = "two", address = "10.0.0.2", state = "drain" },
]
[pool.b]
backends = [{ name = "one", address = "10.0.0.1", state = "disabled" }]
[[vip]]
name = "a"
address = "192.0.2.1"
port = 80
protocol = "tcp"
pool = "a"
[[vip]]
name = "b"
address = "192.0.2.2"
port = 80
protocol = "tcp"
pool = "b"
"#;

fn config() -> Config {
    crate::config::parse(TEXT, "lb.toml").unwrap_or_else(|complaints| panic!("{complaints}"))
}

fn name(pool: &str, name: &str) -> BackendName {
    BackendName { pool: pool.into(), name: name.into() }
}

fn at(seconds: u64) -> Given {
    Given { at: UNIX_EPOCH + Duration::from_secs(seconds), uid: Some(7) }
}

fn drain(since: u64, deadline: Option<u64>) -> Drain {
    let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    Drain { since: time(since), deadline: deadline.map(time), flows: since }
}

fn after(orders: &[(BackendName, BackendOrder)]) -> Overrides {
    let mut overrides = Overrides::default();
    for (name, order) in orders {
        overrides.take(&Order::Backend(name.clone(), *order), &config(), at(1));
    }
    overrides
}

fn state(overrides: &Overrides, of: &BackendName) -> (AdminState, u32) {
    let effective = overrides.apply(&config());
    let backend = find(&effective, of).unwrap();
    (backend.state, backend.weight)
}

#[test]
fn orders_become_what_backends_do() {
    let (active, drained, off) = (name("a", "one"), name("a", "two"), name("b", "one"));
    let drains = BackendOrder::Drain(drain(5, None));
    for (of, order, expected) in [
        (&active, drains, (AdminState::Drain, 7)),
        (&active, BackendOrder::Disable, (AdminState::Disabled, 7)),
        (&active, BackendOrder::Enable, (AdminState::Active, 7)),
        (&active, BackendOrder::Weigh(Some(0)), (AdminState::Active, 0)),
        (&drained, BackendOrder::Enable, (AdminState::Active, 100)),
        (&drained, BackendOrder::Weigh(Some(9)), (AdminState::Drain, 9)),
        (&off, BackendOrder::Enable, (AdminState::Active, 100)),
        (&off, drains, (AdminState::Drain, 100)),
    ] {
        assert_eq!(state(&after(&[(of.clone(), order)]), of), expected, "{of} {order:?}");
    }
    // A backend of the same name in another pool is another one.
    assert_eq!(
        state(&after(&[(active.clone(), BackendOrder::Disable)]), &name("b", "one")),
        (AdminState::Disabled, 100)
    );
    assert_eq!(state(&after(&[(off, BackendOrder::Enable)]), &active), (AdminState::Active, 7));
}

#[test]
fn what_the_file_says_needs_no_override() {
    let one = name("a", "one");
    assert!(after(&[(one.clone(), BackendOrder::Enable), (one.clone(), BackendOrder::Weigh(None))]).is_empty());
    let both = [(one.clone(), BackendOrder::Disable), (one.clone(), BackendOrder::Weigh(Some(3)))];
    let mut overrides = after(&both);
    overrides.take(&Order::Backend(one.clone(), BackendOrder::Enable), &config(), at(2));
    assert_eq!(overrides.backends[&one], BackendOverride { given: at(2), state: None, weight: Some(3) });
    overrides.take(&Order::Backend(one, BackendOrder::Weigh(None)), &config(), at(3));
    assert!(overrides.is_empty());
}

#[test]
fn a_drain_that_is_ordered_again_goes_on_with_the_new_deadline() {
    let one = name("a", "one");
    let overrides = after(&[
        (one.clone(), BackendOrder::Drain(drain(5, Some(9)))),
        (one.clone(), BackendOrder::Drain(drain(6, Some(20)))),
    ]);
    assert_eq!(
        overrides.drains().collect::<Vec<_>>(),
        [(&one, drain(20, Some(20)))].map(|(name, mut drain)| {
            (drain.since, drain.flows) = (UNIX_EPOCH + Duration::from_secs(5), 5);
            (name, drain)
        })
    );
}

#[test]
fn a_drain_that_ended_leaves_the_backend_off_until_it_is_enabled() {
    let (one, two) = (name("a", "one"), name("a", "two"));
    let mut overrides =
        after(&[(one.clone(), BackendOrder::Drain(drain(5, None))), (two.clone(), BackendOrder::Disable)]);
    overrides.end_drain(&one);
    overrides.end_drain(&two);
    overrides.end_drain(&name("c", "none"));
    let states = [&one, &two].map(|name| overrides.backends[name].state);
    assert_eq!(states, [Some(StateOverride::Drained), Some(StateOverride::Disabled)]);
    assert_eq!(state(&overrides, &one), (AdminState::Disabled, 7));
    assert_eq!(overrides.drains().count(), 0);
    overrides.take(&Order::Backend(one.clone(), BackendOrder::Enable), &config(), at(2));
    assert_eq!(state(&overrides, &one), (AdminState::Active, 7));
}

#[test]
fn a_vip_is_disabled_alone() {
    let mut overrides = Overrides::default();
    overrides.take(&Order::DisableVip("b".into()), &config(), at(1));
    let disabled =
        |overrides: &Overrides| overrides.apply(&config()).vips.iter().map(|vip| vip.disabled).collect::<Vec<_>>();
    assert_eq!(disabled(&overrides), [false, true]);
    assert_eq!(overrides.apply(&config()).pools, config().pools);
    overrides.take(&Order::EnableVip("b".into()), &config(), at(2));
    assert_eq!(disabled(&overrides), [false, false]);
    assert!(overrides.is_empty());
}

fn names() -> impl Strategy<Value = BackendName> {
    (prop::sample::select(vec!["a", "b", "c"]), prop::sample::select(vec!["one", "two", "six"]))
        .prop_map(|(pool, backend)| name(pool, backend))
}

fn orders() -> impl Strategy<Value = Order> {
    let order = prop_oneof![
        (0_u64..100, option::of(0_u64..100)).prop_map(|(since, until)| BackendOrder::Drain(drain(since, until))),
        Just(BackendOrder::Enable),
        Just(BackendOrder::Disable),
        option::of(0..=MAX_WEIGHT).prop_map(BackendOrder::Weigh),
    ];
    let vip = || prop::sample::select(vec!["a", "b", "c"]).prop_map(String::from);
    prop_oneof![
        4 => (names(), order).prop_map(|(name, order)| Order::Backend(name, order)),
        1 => vip().prop_map(Order::DisableVip),
        1 => vip().prop_map(Order::EnableVip),
    ]
}

proptest! {
    #[test]
    fn what_is_in_force_obeys_the_laws(orders in vec(orders(), 0..12), ended in vec(names(), 0..3)) {
        let config = config();
        let mut overrides = Overrides::default();
        for order in &orders {
            overrides.take(order, &config, at(1));
        }
        for name in &ended {
            overrides.end_drain(name);
        }
        let effective = overrides.apply(&config);
        // Applied twice is applied once.
        prop_assert_eq!(&overrides.apply(&effective), &effective);
        prop_assert_eq!(overrides.concern(&config) || effective == config, true);
        // Those that match nothing change nothing.
        let (backends, vips) = overrides.unmatched(&config);
        let mut lost = overrides.clone();
        lost.backends.retain(|name, _| backends.contains(&name));
        lost.vips.retain(|name, _| vips.contains(&name.as_str()));
        prop_assert!(!lost.concern(&config));
        prop_assert_eq!(&lost.apply(&config), &config);
        // Only states, weights and disabled VIPs differ from the file.
        let mut restored = effective.clone();
        for (pool, of_file) in restored.pools.values_mut().zip(config.pools.values()) {
            for (backend, of_file) in pool.backends.iter_mut().zip(&of_file.backends) {
                (backend.state, backend.weight) = (of_file.state, of_file.weight);
            }
        }
        restored.vips.iter_mut().for_each(|vip| vip.disabled = false);
        prop_assert_eq!(&restored, &config);
        // Whatever was ordered, everything can be made to serve, and what the file has active needs no override for that.
        for name in overrides.backends.clone().keys() {
            overrides.take(&Order::Backend(name.clone(), BackendOrder::Enable), &config, at(2));
            overrides.take(&Order::Backend(name.clone(), BackendOrder::Weigh(None)), &config, at(2));
        }
        for name in overrides.vips.clone().into_keys() {
            overrides.take(&Order::EnableVip(name), &config, at(2));
        }
        prop_assert!(overrides.vips.is_empty());
        for (name, given) in &overrides.backends {
            prop_assert_eq!(given.state, Some(StateOverride::Active));
            prop_assert!(find(&config, name).is_some_and(|backend| backend.state != AdminState::Active));
        }
    }
}
