//! What agents said, and how long it holds.

use super::*;
use crate::health::agent::Said;

fn asking(port: u16) -> Check {
    Check::of_agent(port, None)
}

/// These backends with one check each, and an agent if there is one.
fn checks(members: &[Member], agent: Option<&Check>) -> Checks {
    let health = Arc::new(Health { checks: vec![tcp(None)], agent: agent.cloned(), ..Health::default() });
    members.iter().map(|member| (*member, Arc::clone(&health))).collect()
}

/// Lets all probes of the next interval end: checks pass, and agents say this, or are not reached. Returns how often agents
/// were asked.
fn round(bench: &mut Bench, line: Option<&str>) -> usize {
    bench.pass(Duration::from_millis(2300));
    let started: Vec<_> = std::iter::from_fn(|| bench.roster.start_next(bench.now)).collect();
    let mut asked = 0;
    for Due { number, probe, .. } in started {
        let is_agent = matches!(probe.ask, Ask::Agent(_));
        asked += usize::from(is_agent);
        let said = line.filter(|_| is_agent).map(|line| Said::read(line.as_bytes()).unwrap());
        let result = if is_agent && said.is_none() { Verdict::Failure } else { Verdict::Success };
        let outcome = Outcome { said, ..outcome(result) };
        bench.roster.on_outcome(number, outcome, bench.now, bench.wall);
    }
    asked
}

fn word(bench: &Bench, member: Member) -> String {
    bench.standing(member).unwrap().agent.map_or_else(|| "nobody".into(), |agent| agent.word.to_string())
}

#[test]
fn what_an_agent_said_holds_while_it_is_silent_and_over_reloads_until_it_is_asked_no_more() {
    let (one, two) = (id("192.0.2.1", 80, "10.0.0.1"), id("192.0.2.2", 80, "10.0.0.1"));
    let mut bench = Bench::new(&[]);
    bench.roster.set(&checks(&[one], Some(&asking(9))), bench.now, bench.wall);
    assert_eq!(round(&mut bench, None), 1);
    let first = bench.standing(one).unwrap();
    assert_eq!((first.up, first.permille, word(&bench, one)), (true, 1000, "ready".into()), "it said nothing yet");
    assert!(!first.agent.unwrap().status.up);
    round(&mut bench, Some("drain 25%"));
    for _ in 0..5 {
        round(&mut bench, None);
    }
    let silent = bench.standing(one).unwrap();
    assert_eq!((silent.up, silent.permille, word(&bench, one)), (true, 0, "drain 25%".into()));
    let status = silent.agent.unwrap().status;
    assert_eq!((status.up, status.last.as_str(), status.failures), (false, "Failure", 5));
    assert_eq!(status.since, Some(bench.wall - Duration::from_millis(2300 * 4)), "since when it does not answer");
    // Another port, and a VIP more, which shares the question.
    let asked = asking(10);
    bench.roster.set(&checks(&[one, two], Some(&asked)), bench.now, bench.wall);
    assert_eq!((word(&bench, one), bench.standing(one).unwrap().permille), ("drain 25%".into(), 0));
    assert_eq!(round(&mut bench, Some("ready")), 1);
    assert_eq!([one, two].map(|member| bench.standing(member).unwrap().permille), [250, 250]);
    bench.roster.set(&checks(&[one, two], None), bench.now, bench.wall);
    assert_eq!((word(&bench, one), bench.standing(one).unwrap().permille), ("nobody".into(), 1000));
    bench.roster.set(&checks(&[one, two], Some(&asked)), bench.now, bench.wall);
    round(&mut bench, Some("up"));
    assert_eq!(word(&bench, one), "ready", "forgotten");
}

#[test]
fn what_an_agent_said_before_a_restart_holds_at_once() {
    let member = id("192.0.2.1", 80, "10.0.0.1");
    let mut said = crate::health::Word::default();
    said.take(&Said::read(b"maint").unwrap());
    let heard = SystemTime::UNIX_EPOCH;
    let kept = |check: &str, word| {
        let kept = Kept { up: true, last: "as before".into(), since: heard, heard, word };
        (CheckId { member, check: check.into() }, kept)
    };
    let roster = Roster::new([kept("one", None), kept("agent", Some(said))].into(), 7);
    let mut bench = Bench { roster, now: Instant::now(), wall: heard };
    bench.roster.set(&checks(&[member], Some(&asking(9))), bench.now, bench.wall);
    assert_eq!(bench.standing(member).unwrap().reason, "agent: maint");
    round(&mut bench, Some("up"));
    assert!(!bench.standing(member).unwrap().up);
    round(&mut bench, Some("ready"));
    assert!(bench.standing(member).unwrap().up);
}
