//! What a schedule is made of: configurations that change at random.

use super::*;
use crate::model::{Damping, Matching};

/// Each backend that may come up: two VIPs and a third on another address, before the same two backends.
pub(super) fn members() -> Vec<Member> {
    let vips = [("192.0.2.1", 80), ("192.0.2.1", 443), ("192.0.2.2", 80)];
    let pairs = vips.into_iter().flat_map(|vip| [(vip, "10.0.0.1"), (vip, "10.0.0.2")]);
    pairs.map(|((vip, port), backend)| id(vip, port, backend)).collect()
}

/// A check at random. The timeout tells apart those that ask the same at another pace.
fn check(dice: &mut Dice, name: &str) -> Check {
    let nth = dice.below(12);
    let small = u32::try_from(nth).unwrap();
    let ask = if dice.once_in(2) { Ask::Tcp } else { Ask::Http(Http { path: "/".into(), ..Http::default() }) };
    Check {
        name: name.into(),
        port: dice.of(&[None, Some(8080)]),
        initial: [Initial::Last, Initial::Down, Initial::Up, Initial::Last][small as usize % 4],
        interval: Duration::from_secs(if nth == 11 { 100 } else { 1 + nth % 2 }),
        fast_interval: nth.is_multiple_of(3).then_some(Duration::from_millis(300)),
        timeout: Duration::from_millis(400 + nth),
        rise: 1 + small % 3,
        fall: 1 + small / 2 % 3,
        ..Check::of(ask)
    }
}

fn health(dice: &mut Dice) -> Health {
    let names = ["a", "b", "c"];
    let count = dice.of(&[0, 1, 1, 1, 2, 3]);
    Health {
        checks: names[..count].iter().map(|name| check(dice, name)).collect(),
        matching: dice.of(&[Matching::All, Matching::Any]),
        damping: dice.once_in(2).then(|| damping(dice)),
        // What follows from it comes in as ejections.
        passive: None,
        agent: dice.once_in(3).then(|| agent(dice)),
        slow_start: None,
    }
}

/// An agent, on ports that no check asks. The timeout tells the pace here too.
fn agent(dice: &mut Dice) -> Check {
    let seconds = 1 + dice.below(3);
    let (interval, timeout) = (Duration::from_secs(seconds), Duration::from_millis(400 + seconds));
    Check { interval, timeout, ..Check::of_agent(9000 + u16::from(dice.once_in(2)), None) }
}

fn damping(dice: &mut Dice) -> Damping {
    let flaps = dice.of(&[2, 2, 3]);
    let within = Duration::from_secs(1 + dice.below(30));
    Damping { flaps, within, hold_for: Duration::from_secs(1 + dice.below(20)) }
}

/// The first configuration of a schedule.
pub(super) fn begin(dice: &mut Dice) -> Checks {
    let all: Vec<Member> = members().into_iter().filter(|_| !dice.once_in(3)).collect();
    // Pools behind several VIPs share what they say.
    let pools = [Arc::new(health(dice)), Arc::new(health(dice))];
    all.into_iter().map(|member| (member, dice.of(&pools))).collect()
}

/// Changes one thing or two.
pub(super) fn change(dice: &mut Dice, checks: &mut Checks) {
    let member = dice.of(&members());
    let Some(found) = checks.get(&member) else {
        let other = checks.values().next().cloned();
        let health = other.filter(|_| dice.once_in(2)).unwrap_or_else(|| Arc::new(health(dice)));
        checks.insert(member, health);
        return;
    };
    let mut health = Health::clone(found);
    match dice.below(9) {
        8 => health.agent = dice.once_in(2).then(|| agent(dice)),
        0 => drop(checks.remove(&member)),
        1 => health.matching = dice.of(&[Matching::All, Matching::Any]),
        2 => health.damping = dice.once_in(2).then(|| damping(dice)),
        3 if health.checks.len() < 3 => {
            let free =
                ["a", "b", "c", "d"].into_iter().find(|name| health.checks.iter().all(|one| *one.name != **name));
            health.checks.push(check(dice, free.unwrap()));
        }
        4 => drop(health.checks.pop()),
        // Another name, or names that change places.
        5 if health.checks.len() == 1 => health.checks[0].name = dice.of(&["a", "d"]).into(),
        5 if health.checks.len() > 1 => {
            let name = Arc::clone(&health.checks[0].name);
            health.checks[0].name = std::mem::replace(&mut health.checks[1].name, name);
        }
        _ => {
            if let Some(one) = health.checks.first_mut() {
                *one = check(dice, &one.name.clone());
            }
        }
    }
    let health = Arc::new(health);
    let everywhere = dice.once_in(2);
    for (other, found) in checks.iter_mut() {
        if *other == member || everywhere && other.backend == member.backend {
            *found = Arc::clone(&health);
        }
    }
}
