//! `[pool.NAME.agent]`

use super::{
    super::{duration, number},
    INTERVAL, TIMEOUT, too_long,
    udp::payload,
};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::{At, Spanned},
        raw::Section,
        schema,
    },
    model::Check,
};

/// What agents of a pool are asked, if they are. `checks` are the pool's, with their places.
pub(super) fn agent(pool: &Section<'_>, checks: &[(Check, At)]) -> Option<Check> {
    pool.entry("agent")?;
    let own = pool.child("agent", &schema::AGENT);
    if !own.is_present() {
        // It is no table, which was said.
        return None;
    }
    own.require("port", "say where the agents listen, such as `port = 9707`");
    let port = number(&own, "port", &(1..=65_535));
    let send = own.parsed("send", payload).map(Spanned::into_inner);
    let interval = duration(&own, "interval", &INTERVAL);
    let timeout = duration(&own, "timeout", &TIMEOUT);
    let length = interval.as_ref().map_or(Check::INTERVAL, |interval| *interval.get_ref());
    if let Some(given) = timeout.as_ref().filter(|given| *given.get_ref() > length) {
        too_long(&own, ("timeout", "which an agent may take to answer"), given, interval.as_ref(), length);
    }
    for (_, place) in checks.iter().filter(|(check, _)| *check.name == *Check::AGENT) {
        let message = "a health check has the name of the pool's agent".to_owned();
        let complaint = Complaint::new(Code::Duplicate, *place, message).also(own.span(), "the agent");
        own.complain(complaint.hint("give the check another `name`"));
    }
    let plain = Check::of_agent(port?, send);
    let timeout = timeout.map_or_else(|| plain.timeout.min(length), Spanned::into_inner);
    Some(Check { interval: length, timeout, ..plain })
}
