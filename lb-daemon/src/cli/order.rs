//! What operators order of backends and VIPs: finds what is meant, asks the daemon, tells what came of it.

use std::{
    io::{self, Write},
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::anyhow;
use serde::Serialize;

use super::{Exit, Global, ask, output};
use crate::{
    api::types::{ListedOverride, Overridden, Override, Pool, Status},
    config::{is_name, nearest},
};

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_secs(1);
/// Names that an error lists at most.
const LISTED: usize = 12;

/// The pool and the name of a backend that is named as `POOL/NAME`, or as `NAME` where only one pool has it.
///
/// # Errors
/// When no daemon answers, or it is not clear what is meant.
pub(super) fn backend(global: &Global, named: &str) -> Result<(String, String), anyhow::Error> {
    if let Some((pool, name)) = named.split_once('/') {
        // What could be no name might lead to another resource.
        if !(is_name(pool) && is_name(name)) {
            return Err(anyhow!("no backend {named}; `lb backend list` shows all"));
        }
        return Ok((pool.to_owned(), name.to_owned()));
    }
    let pools: Vec<Pool> = ask::get(global, "/v1/pools")?;
    // What is not configured any more may still have an override to take back.
    let status: Status = ask::get(global, "/v1/status")?;
    let lost = status.overrides.unwrap_or_default();
    let lost = lost.iter().filter(|one| !one.configured && one.name == named).filter_map(|one| one.pool.as_deref());
    find(&pools, lost.collect(), named).map_err(|error| anyhow!(error))
}

/// The same, among these; `lost` are pools that had it.
fn find(pools: &[Pool], lost: Vec<&str>, named: &str) -> Result<(String, String), String> {
    let have = pools.iter().filter(|pool| pool.backends.iter().any(|name| name == named));
    let mut have: Vec<&str> = have.map(|pool| pool.name.as_str()).collect();
    have.extend(lost);
    match have.as_slice() {
        [pool] => Ok(((*pool).to_owned(), named.to_owned())),
        [] => {
            let all = || pools.iter().flat_map(|pool| pool.backends.iter().map(String::as_str));
            let hint = match nearest(named, all()) {
                Some(near) => format!("did you mean {near}?"),
                None => "`lb backend list` shows all".into(),
            };
            Err(format!("no backend {named}; {hint}"))
        }
        several => {
            let listed: Vec<String> = several.iter().take(LISTED).map(|pool| format!("{pool}/{named}")).collect();
            let more = if several.len() > LISTED { ", ..." } else { "" };
            Err(format!("{} pools have a backend {named}; name one of {}{more}", several.len(), listed.join(", ")))
        }
    }
}

/// Gives an order, and tells what came of it: warnings on stderr.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub(super) fn give(global: &Global, what: &str, path: &str, body: &impl Serialize) -> Result<Exit, anyhow::Error> {
    let done: Overridden = ask::post(global, path, body)?;
    output::print(global.output, &done, |done| text(what, done))?;
    for warning in &done.warnings {
        // Whoever closed stderr does not want to know.
        let _ = writeln!(io::stderr(), "! {warning}");
    }
    Ok(if done.pending.is_some() { Exit::Failed } else { Exit::Done })
}

fn text(what: &str, done: &Overridden) -> String {
    let is = match &done.r#override {
        Some(given) => self::given(given),
        None => "as the file says".into(),
    };
    match &done.pending {
        Some(why) => format!("{what}: {is}; not in force yet, and tried again: {why}\n"),
        None => format!("{what}: {is}\n"),
    }
}

/// An override in words.
pub(super) fn given(given: &Override) -> String {
    let mut words = Vec::new();
    match given.state.as_deref() {
        Some("draining") => words.push(drain(given)),
        Some(state) => words.push(state.to_owned()),
        None => {}
    }
    if let Some(weight) = given.weight {
        words.push(format!("weight {weight}"));
    }
    words.join(", ")
}

fn drain(given: &Override) -> String {
    let left = given.flows_left.zip(given.flows_at_start);
    let left = left.map(|(left, start)| format!("{left} live flows left of {start}"));
    let silent = given.silent_flows.then(|| "adaptive VIPs may have silent ones for 2.5 h or more".to_owned());
    let about = given.seconds_left.map(|seconds| format!("about {} to go", ask::duration(seconds)));
    let most = given.deadline.map(|deadline| format!("at most {}", ask::duration(deadline.saturating_sub(now()))));
    let words = [Some("draining".into()), left, silent, about, most];
    words.into_iter().flatten().collect::<Vec<String>>().join(", ")
}

/// Since when and by whom.
pub(super) fn by(given: &Override) -> String {
    let since = ask::duration(now().saturating_sub(given.since));
    match ask::user(given.author.as_deref(), given.uid) {
        Some(user) => format!("ordered {since} ago by {user}"),
        None => format!("ordered {since} ago"),
    }
}

/// An override, of what it is, in one line.
pub(super) fn line(one: &ListedOverride) -> String {
    let what = match &one.pool {
        Some(pool) => format!("backend {pool}/{}", one.name),
        None => format!("vip {}", one.name),
    };
    let lost = if one.configured { "" } else { "; not in the configuration, so without effect" };
    format!("{what}: {}; {}{lost}", given(&one.given), by(&one.given))
}

/// Waits until a backend drains no more, and says how it goes on stderr.
///
/// # Errors
/// When the daemon answers no more, or somebody ended the drain otherwise.
pub(super) fn wait(global: &Global, pool: &str, name: &str) -> Result<Exit, anyhow::Error> {
    let mut said = String::new();
    loop {
        let status: Status = ask::get(global, "/v1/status")?;
        let overrides = status.overrides.unwrap_or_default();
        let own = overrides.iter().find(|one| one.pool.as_deref() == Some(pool) && one.name == name);
        match own.and_then(|own| own.given.state.as_deref()) {
            Some("drained") => return Ok(Exit::Done),
            Some("draining") => {}
            _ => return Err(anyhow!("{pool}/{name} was ordered otherwise meanwhile")),
        }
        let now = own.map(|own| given(&own.given)).unwrap_or_default();
        if now != said {
            let _ = writeln!(io::stderr(), "{pool}/{name}: {now}");
            said = now;
        }
        sleep(LOOK);
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools() -> Vec<Pool> {
        let pool = |name: &str, backends: &[&str]| Pool {
            name: name.into(),
            backends: backends.iter().map(ToString::to_string).collect(),
        };
        vec![pool("api", &["one", "two"]), pool("web", &["one", "three"])]
    }

    #[test]
    fn a_name_alone_means_the_one_backend_of_that_name() {
        let find = |lost: &[&str], named| find(&pools(), lost.to_vec(), named);
        assert_eq!(find(&[], "two"), Ok(("api".into(), "two".into())));
        assert_eq!(find(&["gone"], "six"), Ok(("gone".into(), "six".into())));
        assert_eq!(find(&[], "one").unwrap_err(), "2 pools have a backend one; name one of api/one, web/one");
        assert_eq!(find(&[], "thre").unwrap_err(), "no backend thre; did you mean three?");
        assert_eq!(find(&[], "x").unwrap_err(), "no backend x; `lb backend list` shows all");
    }

    #[test]
    fn an_override_is_told_in_a_line() {
        let given = Override {
            state: Some("draining".into()),
            weight: Some(7),
            since: now() - 61,
            uid: Some(1000),
            author: Some("ada".into()),
            deadline: Some(now() + 1801),
            flows_at_start: Some(90),
            flows_left: Some(30),
            silent_flows: false,
            seconds_left: Some(30),
        };
        let one = ListedOverride { pool: Some("web".into()), name: "web-1".into(), configured: true, given };
        let told = line(&one);
        let begin = "backend web/web-1: draining, 30 live flows left of 90, about 30 s to go, at most 30 min";
        assert!(told.starts_with(begin), "{told}");
        assert!(told.ends_with(", weight 7; ordered 1 min 1 s ago by ada (1000)"), "{told}");
        let silent = Override { silent_flows: true, seconds_left: None, ..one.given.clone() };
        let told = "draining, 30 live flows left of 90, adaptive VIPs may have silent ones for 2.5 h or more, at most ";
        assert!(super::given(&silent).starts_with(told), "{}", super::given(&silent));
        let nameless = ListedOverride { given: Override { author: None, ..one.given }, ..one };
        assert!(line(&nameless).ends_with(" ago by uid 1000"), "{}", line(&nameless));
        let given = Override { state: Some("disabled".into()), since: now() - 5, ..Override::default() };
        let one = ListedOverride { pool: None, name: "dns".into(), configured: false, given };
        let told = "vip dns: disabled; ordered 5 s ago; not in the configuration, so without effect";
        assert_eq!(line(&one), told);
    }
}
