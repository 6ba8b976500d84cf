//! `[pool.NAME.health]` and `[[pool.NAME.health]]`

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use toml::de::DeValue;

mod agent;
mod damping;
mod dns;
mod exec;
mod grpc;
mod http;
mod kind;
mod passive;
mod tls;
mod udp;

use self::kind::{Asks, Kind};
pub(super) use self::{
    kind::TYPES,
    passive::{passive, udp_alone, unseen},
};
use super::{Once, duration, name, protection::PACE, templates::Templates};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        lists::Lists,
        place::{At, Spanned},
        quantity,
        raw::Section,
        schema,
    },
    model::{Check, Health, Initial, Matching, Route},
};

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);
const STREAK: RangeInclusive<u64> = 1..=100;
const INITIAL: [(&str, Initial); 3] = [("down", Initial::Down), ("up", Initial::Up), ("last", Initial::Last)];
const ROUTES: [(&str, Route); 2] = [("vip", Route::Vip), ("direct", Route::Direct)];

/// A health section as it was read.
struct Settings {
    kind: Option<Kind>,
    /// `None` if nothing is asked.
    check: Option<Check>,
    interval: Option<Spanned<Duration>>,
    fast_interval: Option<Spanned<Duration>>,
    timeout: Option<Spanned<Duration>>,
}

/// How it is told which backends of a pool may take traffic, and the place of each check.
pub(super) fn health<'a>(pool: &Section<'a>, lists: &Lists<'_>, templates: &mut Templates<'a>) -> (Health, Vec<At>) {
    let read: Vec<(Check, At)> = match pool.entry("health") {
        None => Vec::new(),
        Some((_, value)) => match value.get_ref() {
            DeValue::String(_) => {
                let own = pool.absent(&schema::HEALTH, value.span());
                check(own, pool.string("health"), lists, templates).and_then(only_if_asked).into_iter().collect()
            }
            DeValue::Table(_) => {
                let own = pool.child("health", &schema::HEALTH);
                check(own, own.string("template"), lists, templates).and_then(only_if_asked).into_iter().collect()
            }
            DeValue::Array(_) => several(pool, lists, templates),
            _ => {
                let hint = "write `health = { type = \"tcp\" }`, or the name of a [health.NAME] in quotes";
                pool.mistyped("health", value, "a table or the name of a template", hint.into());
                Vec::new()
            }
        },
    };
    let agent = agent::agent(pool, &read);
    let (checks, places): (Vec<_>, _) = read.into_iter().unzip();
    let words = [("all", Matching::All), ("any", Matching::Any)];
    let matching = pool.choice("health_match", &words).unwrap_or_default();
    let damping = damping::damping(pool, !checks.is_empty() || agent.is_some());
    let slow_start = duration(pool, "slow_start", &PACE).map(Spanned::into_inner);
    (Health { checks, matching, damping, agent, slow_start, ..Health::default() }, places)
}

/// What a section says, key by key.
pub(super) fn look_through(section: &Section<'_>, lists: &Lists<'_>) {
    settings(section, lists);
}

/// Each of `[[pool.NAME.health]]`.
fn several<'a>(pool: &Section<'a>, lists: &Lists<'_>, templates: &mut Templates<'a>) -> Vec<(Check, At)> {
    let mut seen = Once::new();
    let mut checks = Vec::new();
    let sections = pool.children("health", &schema::HEALTH);
    let alone = sections.len() < 2;
    for own in sections {
        let Some((settings, at)) = check(own, own.string("template"), lists, templates) else { continue };
        if settings.kind == Some(Kind::None) && !alone {
            let complaint = Complaint::new(Code::Conflict, at, "a check of `type = \"none\"` beside others");
            own.complain(complaint.hint("remove it: the others are made all the same"));
        }
        if let Some(check) = settings.check {
            let what = format!("health check {}", check.name);
            let hint = "give each check of a pool a `name` of its own; without one it has the name of its type";
            seen.note(&own, &what, Arc::clone(&check.name), at, hint);
            checks.push((check, at));
        }
    }
    checks
}

fn only_if_asked((settings, at): (Settings, At)) -> Option<(Check, At)> {
    Some((settings.check?, at))
}

/// A section over the template that it names, and its place; `None` if there is no such template.
fn check<'a>(
    own: Section<'a>,
    named: Option<Spanned<&'a str>>,
    lists: &Lists<'_>,
    templates: &mut Templates<'a>,
) -> Option<(Settings, At)> {
    let merged = templates.under(own, named)?;
    merged.require("type", "add `type = \"tcp\"`, or \"http\", or \"none\"");
    let mut settings = settings(&merged, lists);
    if let Some(kind) = settings.kind {
        kind.require(&merged);
    }
    let name = own.parsed("name", name);
    if let (Some(check), Some(name)) = (&mut settings.check, name) {
        check.name = name.into_inner().into();
    }
    let shorter = [
        ("timeout", &settings.timeout, "which a probe may take"),
        ("fast_interval", &settings.fast_interval, "the same while results change"),
    ];
    let length = settings.interval.as_ref().map_or(Check::INTERVAL, |interval| *interval.get_ref());
    for (key, given, meaning) in shorter {
        if let Some(given) = given.as_ref().filter(|given| *given.get_ref() > length) {
            too_long(&merged, (key, meaning), given, settings.interval.as_ref(), length);
        }
    }
    Some((settings, own.span()))
}

fn settings(section: &Section<'_>, lists: &Lists<'_>) -> Settings {
    let kind = Kind::of(section);
    let route = section.choice("probe", &ROUTES).unwrap_or(Route::VipIfPossible);
    let route = if kind == Some(Kind::Exec) { Route::Direct } else { route };
    let asks = Asks::read(section, kind, lists);
    let port = section.integer("port", &(1..=65_535)).and_then(|port| u16::try_from(port.into_inner()).ok());
    let initial = section.choice("initial", &INITIAL);
    let interval = duration(section, "interval", &INTERVAL);
    let fast_interval = duration(section, "fast_interval", &INTERVAL);
    let timeout = duration(section, "timeout", &TIMEOUT);
    let streak = |key| section.integer(key, &STREAK).and_then(|count| u32::try_from(count.into_inner()).ok());
    let (rise, fall) = (streak("rise"), streak("fall"));
    let ask = kind.and_then(|kind| asks.of(kind));
    let given = |duration: &Option<Spanned<Duration>>| duration.as_ref().map(|duration| *duration.get_ref());
    let check = ask.map(|ask| {
        let plain = Check::of(ask);
        let length = given(&interval).unwrap_or(plain.interval);
        Check {
            route,
            port,
            initial: initial.unwrap_or_default(),
            interval: length,
            // So a backend that is gone has failed twice after 2.2 intervals at most, jitter included.
            fast_interval: given(&fast_interval).or(Some((length / 2).max(*INTERVAL.start()))),
            timeout: given(&timeout).unwrap_or_else(|| plain.timeout.min(length / 2)),
            rise: rise.unwrap_or(plain.rise),
            fall: fall.unwrap_or(plain.fall),
            ..plain
        }
    });
    Settings { kind, check, interval, fast_interval, timeout }
}

/// Complains that `given`, under a key with this meaning, is longer than `interval`, which is `length`; at the one of them
/// that was written nearer to the pool.
fn too_long(
    section: &Section<'_>,
    (key, meaning): (&'static str, &str),
    given: &Spanned<Duration>,
    interval: Option<&Spanned<Duration>>,
    length: Duration,
) {
    let [shown, needed] = [length, *given.get_ref()].map(quantity::show_duration);
    section.complain(match interval {
        Some(interval) if section.depth("interval") < section.depth(key) => {
            Complaint::new(Code::Conflict, interval.span(), format!("`interval` is shorter than `{key}`"))
                .label(format!("shorter than {needed}, {meaning}"))
                .also(given.span(), format!("`{key}` is here"))
                .hint(format!("give `interval` at least \"{needed}\", or a shorter `{key}`"))
        }
        _ => {
            let complaint = Complaint::new(Code::Conflict, given.span(), format!("`{key}` is longer than `interval`"))
                .label(format!("longer than {shown}, the time between two probes"))
                .hint(format!("give `{key}` at most \"{shown}\", or a longer `interval`"));
            match interval {
                Some(interval) => complaint.also(interval.span(), "`interval` is here"),
                None => complaint,
            }
        }
    });
}
