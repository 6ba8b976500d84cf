//! The same rules said in another way: everything is written down, and all is worked out anew from that.

use std::net::SocketAddr;

use super::*;
use crate::{
    health::{
        Heard, Kept, Word,
        agent::{Mode, State},
    },
    model::{Damping, Matching},
};

/// An instant, and what the clock on the wall says then.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

/// What has happened to a probe.
#[derive(Clone)]
pub(super) struct Line {
    check: Check,
    /// What was known of it when it was made.
    before: Option<Status>,
    /// What its agent had said by then, if it asks one.
    word: Word,
    begun: Moment,
    results: Vec<(Outcome, Moment)>,
    /// When it was last started, and whether it is still on its way.
    started: Option<(Instant, bool)>,
    ended: Instant,
    /// Whether the time before the last start was a whole interval, after which the next is one too, or a fast one.
    whole: bool,
}

impl Line {
    fn new(check: &Check, (before, word): (Option<Status>, Word), begun: Moment) -> Self {
        let (check, results) = (check.clone(), Vec::new());
        Self { check, before, word, begun, results, started: None, ended: begun.now, whole: false }
    }

    /// What the agent said last of each thing that it may speak of.
    fn word(&self) -> Word {
        let mut word = self.word.clone();
        let lines = self.results.iter().filter(|(outcome, _)| outcome.result == Verdict::Success);
        for (outcome, _) in lines {
            let has = |text: &str| outcome.text.split(' ').any(|word| word == text);
            for (text, mode) in [("ready", Mode::Ready), ("drain", Mode::Drain), ("maint", Mode::Maint)] {
                word.mode = if has(text) { mode } else { word.mode };
            }
            for percent in [0, 50, 100] {
                word.percent = if has(&format!("{percent}%")) { percent } else { word.percent };
            }
            if has("up") {
                word.state = State::Up;
            } else if has("down") {
                word.state = State::Down("down", "disk".into());
            }
        }
        word
    }

    /// What is to be known of it.
    pub(super) fn status(&self) -> Option<Status> {
        let mut status = self.before.clone();
        let mut never = None;
        let mut run: Vec<bool> = Vec::new();
        for (outcome, at) in &self.results {
            if outcome.result == Verdict::Impossible {
                let unknown = || Status { since: Some(self.begun.wall), unknown: true, ..Status::default() };
                let told = status.as_mut().unwrap_or_else(|| never.get_or_insert_with(unknown));
                told.last.clone_from(&outcome.text);
                continue;
            }
            let success = outcome.result == Verdict::Success;
            if run.first().is_some_and(|first| *first != success) {
                run.clear();
            }
            run.push(success);
            let needed = if success { self.check.rise } else { self.check.fall } as usize;
            let was = status.as_ref().map(|status| status.up);
            let mut next = status.unwrap_or_default();
            if was.is_none() || was == Some(!success) && run.len() >= needed {
                (next.up, next.since) = (success, Some(at.wall));
                let (text, latency) = (outcome.text.clone(), Some(outcome.latency));
                next.transitions.push(Record { at: at.wall, up: success, text, latency });
            }
            (next.last, next.latency, next.heard) = (outcome.text.clone(), Some(outcome.latency), Some(at.wall));
            let length = u32::try_from(run.len()).unwrap();
            (next.successes, next.failures) = if success { (length, 0) } else { (0, length) };
            status = Some(next);
        }
        status.or(never)
    }

    /// Until when it has to be started, at the latest.
    pub(super) fn latest_start(&self) -> Option<Instant> {
        let Some((started, running)) = self.started else {
            return Some(self.begun.now + Duration::from_millis(300).min(self.check.interval));
        };
        let longest = self.fast().unwrap_or(self.check.interval).mul_f64(1.101);
        (!running).then(|| (started + longest).max(self.ended))
    }

    /// The fast interval, while it holds.
    fn fast(&self) -> Option<Duration> {
        let changing = match self.status() {
            Some(Status { successes: 0, failures: 0, .. }) | None => true,
            Some(Status { up, failures, .. }) => up == (failures > 0),
        };
        self.check.fast_interval.filter(|_| changing)
    }

    fn start(&mut self, at: Moment) {
        if let Some((started, _)) = self.started {
            let shortest = match self.fast() {
                Some(fast) => fast.mul_f64(0.899),
                None => self.check.interval.mul_f64(if self.whole { 0.899 } else { 0.099 }),
            };
            assert!(at.now >= started + shortest, "early: {:?} after the last start", at.now - started);
            self.whole = self.fast().is_none();
        }
        self.started = Some((at.now, true));
    }
}

/// What agents say.
pub(super) const LINES: [&str; 9] =
    ["ready", "drain", "maint", "ready 50%", "100%", "0% up", "down #disk", "up", "ready up 100%"];

/// What was so of a backend at some moment.
struct Fact {
    at: Moment,
    health: Arc<Health>,
    checks: BTreeMap<Arc<str>, Status>,
    agent: Option<Heard>,
    ejected: Option<Ejected>,
}

/// Everything that has happened.
pub(super) struct World {
    checks: Checks,
    lines: BTreeMap<Asked, Line>,
    facts: BTreeMap<Member, Vec<Fact>>,
    ejections: Ejections,
    kept: BTreeMap<CheckId, Kept>,
    /// Nobody looked at the clock before, so what is late by then is not.
    pub(super) excused: Option<Instant>,
}

/// What a probe asks of whom: address and port, the host of a request by HTTP, and the timeout, which tells the pace in
/// these schedules.
type Asked = (SocketAddr, Option<String>, Duration);

fn asked(member: Member, check: &Check) -> Asked {
    let host = matches!(check.ask, Ask::Http(_)).then(|| member.service.address.to_string());
    ((member.backend, check.port.unwrap_or(member.service.port)).into(), host, check.timeout)
}

fn asked_by(probe: &Probe) -> Asked {
    let host = match &probe.ask {
        Ask::Http(http) => Some(http.host.clone().expect("the VIP's, if the check names none")),
        _ => None,
    };
    (probe.target, host, probe.timeout)
}

impl World {
    pub(super) fn new(kept: BTreeMap<CheckId, Kept>) -> Self {
        Self {
            checks: Checks::new(),
            lines: BTreeMap::new(),
            facts: BTreeMap::new(),
            ejections: Ejections::new(),
            kept,
            excused: None,
        }
    }

    pub(super) fn lines(&self) -> &BTreeMap<Asked, Line> {
        &self.lines
    }

    pub(super) fn reload(&mut self, wanted: &Checks, at: Moment) {
        let mut lines: BTreeMap<Asked, Line> = BTreeMap::new();
        for (member, check) in wanted.iter().flat_map(|(member, health)| health.asked().map(|one| (*member, one))) {
            let key = asked(member, check);
            let id = CheckId { member, check: Arc::clone(&check.name) };
            let former = self.former(&id).cloned();
            let kept = if former.is_none() { self.kept.remove(&id) } else { None };
            if let Some(goes_on) = self.lines.get(&key) {
                lines.insert(key, goes_on.clone());
                continue;
            }
            let word = former.as_ref().map(Line::word);
            let status = former.as_ref().and_then(Line::status).filter(|status| status.heard.is_some());
            // It counts anew.
            let taken = status.map(|status| Status { successes: 0, failures: 0, latency: None, ..status });
            let before = match taken {
                Some(taken) => (Some(taken), word.unwrap_or_default()),
                None => first_state(check, kept, at),
            };
            let heard = |line: &Line| line.before.as_ref().is_some_and(|status| status.heard.is_some());
            let line = Line::new(check, before, at);
            if lines.get(&key).is_none_or(|there| !heard(there) && heard(&line)) {
                lines.insert(key, line);
            }
        }
        let changed: Vec<Member> =
            wanted.keys().copied().filter(|one| self.checks.get(one) != wanted.get(one)).collect();
        (self.lines, self.checks) = (lines, wanted.clone());
        self.facts.retain(|member, _| wanted.contains_key(member));
        for member in changed {
            self.look(member, at);
        }
    }

    /// The probe that a check had until now.
    fn former(&self, id: &CheckId) -> Option<&Line> {
        let check = self.checks.get(&id.member)?.asked().find(|check| check.name == id.check)?;
        self.lines.get(&asked(id.member, check))
    }

    pub(super) fn start(&mut self, probe: &Probe, at: Moment) {
        let line = self.lines.get_mut(&asked_by(probe)).expect("only what is wanted is probed");
        assert!(!line.started.is_some_and(|(_, running)| running), "two probes of one check at once");
        let latest = line.latest_start().max(self.excused).unwrap();
        assert!(at.now <= latest, "late by {:?}: {probe:?}", at.now - latest);
        line.start(at);
    }

    /// The outcome of a probe that was started then; of one that is gone nothing comes.
    pub(super) fn outcome(&mut self, probe: &Probe, started: Instant, outcome: &Outcome, at: Moment) {
        let key = asked_by(probe);
        let Some(line) = self.lines.get_mut(&key).filter(|line| line.started == Some((started, true))) else { return };
        (line.started, line.ended) = (Some((started, false)), at.now);
        if outcome.result != Verdict::Skipped {
            line.results.push((outcome.clone(), at));
            let uses = |(member, health): (&Member, &Arc<Health>)| {
                health.asked().any(|check| asked(*member, check) == key).then_some(*member)
            };
            let members: Vec<Member> = self.checks.iter().filter_map(uses).collect();
            for member in members {
                self.look(member, at);
            }
        }
    }

    pub(super) fn eject(&mut self, ejections: &Ejections, at: Moment) {
        self.ejections = ejections.clone();
        self.look_at_all(at);
    }

    pub(super) fn look_at_all(&mut self, at: Moment) {
        let members: Vec<Member> = self.checks.keys().copied().collect();
        for member in members {
            self.look(member, at);
        }
    }

    fn look(&mut self, member: Member, at: Moment) {
        let Some(health) = self.checks.get(&member) else { return };
        let status = |check: &Check| {
            Some((Arc::clone(&check.name), self.lines.get(&asked(member, check)).and_then(Line::status)?))
        };
        let checks = health.checks.iter().filter_map(status).collect();
        let heard = |line: &Line| Some(Heard { status: line.status()?, word: line.word() });
        let agent = health.agent.as_ref().and_then(|agent| heard(self.lines.get(&asked(member, agent))?));
        let ejected = self.ejections.get(&member).cloned();
        let fact = Fact { at, health: Arc::clone(health), checks, agent, ejected };
        self.facts.entry(member).or_default().push(fact);
    }

    /// What is to be known of all backends, and until when some of them are down at least.
    pub(super) fn view(&self) -> (HealthView, Vec<Instant>) {
        let mut ends = Vec::new();
        let judged = self.facts.iter().filter_map(|(member, facts)| {
            let (standing, end) = judge(facts);
            ends.extend(end);
            Some((*member, standing?))
        });
        (judged.collect(), ends)
    }
}

/// What is known of a check that is new, and what an agent said.
fn first_state(check: &Check, kept: Option<Kept>, at: Moment) -> (Option<Status>, Word) {
    let begin = |up| Status { up, last: "not checked yet".into(), since: Some(at.wall), ..Status::default() };
    let longest = Duration::from_mins(10).max(check.interval * 10);
    let is_near = |kept: &Kept| at.wall <= kept.heard + longest && kept.heard <= at.wall + longest;
    match (check.initial, kept.filter(is_near)) {
        (Initial::Down, _) => (Some(begin(false)), Word::default()),
        (Initial::Up, _) => (Some(begin(true)), Word::default()),
        (Initial::Last, None) => (None, Word::default()),
        (Initial::Last, Some(kept)) => {
            let status = Status { last: kept.last, since: Some(kept.since), heard: Some(kept.heard), ..begin(kept.up) };
            (Some(status), kept.word.unwrap_or_default())
        }
    }
}

/// Goes through all that was so of a backend. Also tells when it may be up again, if that is a matter of time.
fn judge(facts: &[Fact]) -> (Option<Standing>, Option<Instant>) {
    let mut standing: Option<Standing> = None;
    let mut records = Records::default();
    let mut falls: Vec<Instant> = Vec::new();
    let mut hold: Option<(Instant, String)> = None;
    let mut end = None;
    for Fact { at, health, checks, agent, ejected } in facts {
        if health.damping.is_none() {
            falls.clear();
            hold = None;
        }
        let was_up = standing.as_ref().map(|standing| standing.up);
        let against = agent.as_ref().filter(|agent| agent.word.takes_down());
        let in_maintenance = against.is_some_and(|agent| agent.word.mode == Mode::Maint);
        let by_checks = match against {
            Some(Heard { status, word }) if status.up => Some((false, format!("agent: {word}"), None)),
            Some(Heard { word, .. }) => Some((false, format!("agent: {word}, silent"), None)),
            None => by_checks(health, checks),
        };
        let ejected = ejected.as_ref().filter(|ejected| ejected.until > at.now);
        let is_held = hold.as_ref().is_some_and(|(until, _)| *until > at.now);
        if let (None, false, Some(Damping { flaps, within, hold_for }), Some(true), Some((false, ..))) =
            (ejected, is_held || in_maintenance, health.damping, was_up, &by_checks)
        {
            falls.push(at.now);
            if falls.iter().filter(|fall| **fall + within >= at.now).count() >= flaps as usize {
                let until = humantime::format_rfc3339_seconds(at.wall + hold_for);
                let text = format!("went down {flaps} times within {within:?}, held down until {until}");
                hold = Some((at.now + hold_for, text));
            }
        }
        let lasting = hold.as_ref().filter(|(until, _)| *until > at.now);
        end = ejected.map(|ejected| ejected.until).or(lasting.map(|(until, _)| *until));
        let verdict = match (ejected, lasting.filter(|_| !in_maintenance)) {
            (Some(ejected), _) => Some((false, ejected.reason.clone(), None)),
            (None, Some((_, text))) => Some((false, text.clone(), None)),
            (None, None) => by_checks.map(|(up, text, by)| (up, text, by.cloned())),
        };
        let unheard = standing.is_none() && health.agent.is_some() && agent.is_none();
        let verdict = verdict.filter(|(up, ..)| !(*up && unheard));
        standing = verdict.map(|(up, reason, by)| {
            let since = match &standing {
                Some(before) if before.up == up => before.since,
                Some(_) => Some(at.wall),
                None => by.as_ref().and_then(|by| by.since).or(Some(at.wall)),
            };
            if was_up != Some(up) {
                records.push(Record { at: at.wall, up, text: reason.clone(), latency: by.and_then(|by| by.latency) });
            }
            let permille = agent.as_ref().map_or(1000, |agent| agent.word.permille());
            let (transitions, checks, agent) = (records.clone(), checks.clone(), agent.clone());
            Standing { up, permille, reason, since, transitions, checks, agent }
        });
    }
    (standing, end)
}

type Verdicts<'a> = Option<(bool, String, Option<&'a Status>)>;

fn by_checks<'a>(health: &Health, checks: &'a BTreeMap<Arc<str>, Status>) -> Verdicts<'a> {
    if health.checks.is_empty() {
        return Some((true, "nothing is checked".into(), None));
    }
    let mut told = Vec::new();
    for check in &health.checks {
        told.push((&check.name, checks.get(&check.name)));
    }
    let passing = told.iter().filter(|(_, status)| status.is_some_and(|status| status.up)).count();
    let failing = told.iter().filter(|(_, status)| status.is_some_and(|status| !status.up)).count();
    let up = match health.matching {
        Matching::All if failing > 0 => false,
        Matching::All if passing == told.len() => true,
        Matching::Any if passing > 0 => true,
        Matching::Any if failing == told.len() => false,
        Matching::All | Matching::Any => return None,
    };
    let (name, status) = told.iter().find_map(|(name, status)| Some((name, status.filter(|one| one.up == up)?)))?;
    let text = if told.len() == 1 { status.last.clone() } else { format!("{name}: {}", status.last) };
    Some((up, text, Some(status)))
}
