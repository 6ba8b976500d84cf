use serde_json::json;

use super::*;
use crate::machine::Machine;

/// A run with one row for each list of samples.
fn run(rows: Vec<Row>) -> Record {
    let method = json!({ "rounds": 11, "baselines": ["bare_tx"], "null": "bare_tx" });
    let mut record = Record::begin("prog-run", method).unwrap();
    record.about.machine = Machine { cpu_model: "M".into(), cpus: 2, kernel: "6.18".into(), load: "0.5".into() };
    record.rows = rows;
    record
}

fn row(packet: &str, program: &str, samples: Vec<f64>) -> Row {
    Row::new([("packet", packet.into()), ("program", program.into())], "ns", Better::Less, samples)
}

/// Eleven samples around `middle`, with a standard deviation of 3 %; `turn` has them in another order.
fn around(middle: f64, turn: usize) -> Vec<f64> {
    let mut noise = [-4.3, -3.2, -2.4, -1.5, -0.7, 0.1, 0.8, 1.6, 2.3, 3.1, 4.2];
    noise.rotate_left(turn);
    noise.map(|percent| middle * (1.0 + percent / 100.0)).to_vec()
}

/// The verdict on the row of a packet, and how often it is worse.
fn verdict(new: Vec<f64>, old: Vec<f64>) -> (Verdict, f64) {
    let change = compare(&run(vec![row("udp", "lb", new)]), &run(vec![row("udp", "lb", old)]), 0.03).unwrap();
    let change = change.changes.first().expect("a row of both").clone();
    (change.verdict, change.ratio)
}

#[test]
fn the_same_figures_are_the_same() {
    let record = run(vec![row("udp", "lb", around(70.0, 0)), row("tcp", "lb", around(60.0, 3))]);
    let comparison = compare(&record, &record, 0.03).unwrap();
    assert!(comparison.is_good() && comparison.notes.is_empty(), "{comparison}");
    assert_eq!(comparison.to_string(), "2 of 2 rows are as they were\n");
}

#[test]
fn a_tenth_more_with_noise_of_three_in_a_hundred_is_told() {
    let (verdict_up, ratio) = verdict(around(77.0, 4), around(70.0, 0));
    assert_eq!(verdict_up, Verdict::Worse);
    assert!((ratio - 1.1).abs() < 0.01, "{ratio}");
    assert_eq!(verdict(around(63.0, 4), around(70.0, 0)).0, Verdict::Better);
}

#[test]
fn what_lies_within_noise_or_margin_is_not_told() {
    assert_eq!(verdict(around(71.4, 5), around(70.0, 0)).0, Verdict::Same, "2 % with 3 % noise");
    assert_eq!(verdict(vec![71.4; 11], vec![70.0; 11]).0, Verdict::Same, "2 % without noise, but below the margin");
    assert_eq!(verdict(vec![74.0; 11], vec![70.0; 11]).0, Verdict::Worse);
    let mut wild = vec![70.0; 11];
    wild[..3].fill(200.0);
    assert_eq!(verdict(wild, vec![70.0; 11]).0, Verdict::Same, "three rounds of eleven");
}

#[test]
fn a_machine_that_was_slower_is_taken_out_by_the_reference() {
    let referred = |scale: f64| {
        let samples = |middle: f64| around(middle * scale, 2);
        run(vec![row("udp", "lb", samples(70.0)).with(REFERENCE, samples(45.0))])
    };
    let comparison = compare(&referred(1.3), &referred(1.0), 0.03).unwrap();
    assert!(comparison.is_good(), "{comparison}");
    let mut slower = run(vec![row("udp", "lb", around(80.0, 2)).with(REFERENCE, around(45.0, 2))]);
    let comparison = compare(&slower, &referred(1.3), 0.03).unwrap();
    assert!(!comparison.is_good(), "1.14 times, on a machine that is faster now");
    let told = comparison.to_string();
    assert!(told.contains("x 1.14") && told.contains("70.071 (measured: 91.091) -> 80.08 ns"), "{told}");
    slower.about.method.insert(REFERENCE.into(), "something else".into());
    let comparison = compare(&slower, &referred(1.3), 0.03).unwrap();
    assert!(comparison.is_good() && comparison.notes.join(" ").contains("as they were measured"), "80 after 91");
}

#[test]
fn more_is_better_where_the_row_says_so() {
    let rate = |middle| run(vec![Row { better: Better::More, ..row("udp", "lb", around(middle, 1)) }]);
    let comparison = compare(&rate(9e5), &rate(1e6), 0.03).unwrap();
    assert_eq!(comparison.changes[0].verdict, Verdict::Worse);
    assert!((comparison.changes[0].ratio - 1.11).abs() < 0.01, "{comparison}");
    assert!(compare(&rate(1e6), &rate(9e5), 0.03).unwrap().is_good());
}

#[test]
fn the_error_that_the_null_program_shows_in_most_rows_widens_the_margin_of_all() {
    let with_nulls = |middle: f64, nulls: &[f64]| {
        let null = |(number, null): (usize, &f64)| row(&number.to_string(), "bare_tx", vec![*null; 11]);
        let nulls = nulls.iter().enumerate().map(null);
        run([row("0", "lb", vec![middle; 11])].into_iter().chain(nulls).collect())
    };
    let good = |new: &Record, old: &Record| compare(new, old, 0.03).unwrap().is_good();
    let steady = [0.1; 20];
    assert!(!good(&with_nulls(22.0, &steady), &with_nulls(20.0, &steady)));
    assert!(good(&with_nulls(22.0, &[-1.0; 20]), &with_nulls(20.0, &[0.9; 20])));
    let lucky: Vec<f64> = [&[0.0], &[-1.0; 19][..]].concat();
    assert!(good(&with_nulls(22.0, &lucky), &with_nulls(20.0, &lucky)), "this row's own null had luck");
    let unlucky: Vec<f64> = [&[9.0], &steady[1..]].concat();
    assert!(!good(&with_nulls(22.0, &unlucky), &with_nulls(20.0, &unlucky)), "this row's own null had none");
    let mut beside_it = with_nulls(22.0, &steady);
    beside_it.rows.push(row("0", "old", vec![20.0; 11]).told(VALUE, 0.0));
    assert!(!beside(&beside_it, "old", 0.03).unwrap().is_good(), "no margin is infinite");
}

#[test]
fn one_sample_is_too_few_to_tell() {
    assert_eq!(verdict(vec![90.0], vec![70.0]).0, Verdict::Untold);
    assert_eq!(verdict(vec![71.0], vec![70.0]).0, Verdict::Same);
    let record = |value| run(vec![row("udp", "lb", vec![value])]);
    let comparison = compare(&record(90.0), &record(70.0), 0.03).unwrap();
    assert!(comparison.is_good() && comparison.to_string().contains("too few samples"), "{comparison}");
}

#[test]
fn another_machine_gives_a_hint_only_and_another_method_is_named() {
    let old = run(vec![row("udp", "lb", around(70.0, 0))]);
    let mut new = run(vec![row("udp", "lb", around(90.0, 0))]);
    assert!(!compare(&new, &old, 0.03).unwrap().is_good());
    new.about.machine.kernel = "6.19".into();
    new.about.method.insert("rounds".into(), json!(7));
    let comparison = compare(&new, &old, 0.03).unwrap();
    let text = comparison.to_string();
    assert!(comparison.is_good() && text.contains("6.19 instead of 6.18") && text.contains("a hint"), "{text}");
    assert!(text.contains("rounds is 7 instead of 11") && text.contains("x 1.29"), "{text}");
}

#[test]
fn rows_of_one_run_alone_are_counted_and_baselines_left_out() {
    let new = run(vec![row("udp", "lb", around(70.0, 0)), row("tcp", "lb", around(70.0, 0))]);
    let old = run(vec![row("udp", "lb", around(70.0, 0)), row("udp", "bare_tx", around(1.0, 0))]);
    let comparison = compare(&new, &old, 0.03).unwrap();
    assert_eq!((comparison.changes.len(), comparison.unmatched), (1, 1));
    let mut other = run(vec![]);
    other.about.benchmark = "wire".into();
    assert!(compare(&new, &other, 0.03).unwrap_err().to_string().contains("prog-run and of wire"));
}

#[test]
fn rows_that_a_run_has_twice_are_counted_like_others() {
    let twice = run(vec![row("udp", "lb", around(70.0, 0)), row("udp", "lb", around(70.0, 1))]);
    let once = run(vec![row("udp", "lb", around(70.0, 0)), row("tcp", "lb", around(70.0, 0))]);
    assert_eq!(compare(&twice, &once, 0.03).unwrap().unmatched, 1, "tcp");
    assert_eq!(compare(&once, &twice, 0.03).unwrap().unmatched, 1, "tcp");
    let zero = run(vec![row("udp", "lb", vec![0.0; 11])]);
    assert_eq!(compare(&zero, &once, 0.03).unwrap().unmatched, 2, "udp, which has no ratio, and tcp");
    assert_eq!(compare(&zero, &zero, 0.03).unwrap().to_string(), "1 of 1 rows are as they were\n");
}

#[test]
fn a_slower_machine_makes_no_program_worse_where_all_were_measured_beside_an_empty_one() {
    let wire = |pace: f64| {
        let row = |figure: &str, program: &str, samples: Vec<f64>| {
            let what = [("figure", figure.into()), ("program", program.into())];
            Row::new(what, "Mpps", Better::More, samples)
        };
        let (empty, rate) = (around(4.6 * pace, 3), around(3.9 * pace, 3));
        let mut record = run(vec![
            row("rate", "xdp_tx", empty.clone()),
            row("rate", "lb", rate).with(REFERENCE, empty),
            row("of-xdp-tx", "lb", vec![0.85 * pace; 11]),
        ]);
        record.about.method = BTreeMap::new();
        record
    };
    let (slow, mut old) = (wire(0.7), wire(1.0));
    assert_eq!(compare(&slow, &old, 0.03).unwrap().changes.len(), 3, "nothing says what the rows are");
    for (role, name) in [("baselines", "xdp_tx"), ("derived", "of-xdp-tx")] {
        // One of both runs knows.
        old.about.method.insert(role.into(), json!([name]));
    }
    let comparison = compare(&slow, &old, 0.03).unwrap();
    assert!(comparison.is_good() && comparison.notes.is_empty(), "{comparison}");
    assert_eq!((comparison.changes.len(), comparison.unmatched), (1, 0), "the rate of lb");
}

#[test]
fn too_few_rounds_are_told_with_the_number_that_it_takes() {
    let rows = |rounds: usize| {
        run(vec![
            row("udp", "lb", around(70.0, 0)[..rounds].into()),
            row("udp", "old", around(60.0, 3)[..rounds].into()),
        ])
    };
    let notes = |comparison: Result<Comparison, anyhow::Error>| comparison.unwrap().notes.join("; ");
    assert!(notes(beside(&rows(7), "old", 0.03)).contains("it takes 8 rounds"));
    assert_eq!(notes(beside(&rows(8), "old", 0.03)), "");
    let (four, five) = (rows(4), rows(5));
    let shifted = |rounds: usize| run(vec![row("udp", "lb", around(75.0, 2)[..rounds].into())]);
    assert!(notes(compare(&four, &shifted(4), 0.03)).contains("it takes 5 rounds in each"));
    assert_eq!(notes(compare(&five, &shifted(5), 0.03)), "");
}

#[test]
fn a_program_beside_is_compared_round_by_round() {
    let drifting = |middle: f64| (0..11).map(|round| middle * (1.0 + f64::from(round) / 20.0)).collect::<Vec<f64>>();
    let rows = |middle| {
        run(vec![row("udp", "lb", drifting(middle)), row("udp", "old", drifting(70.0)), row("tcp", "lb", vec![1.0])])
    };
    let comparison = beside(&rows(75.0), "old", 0.03).unwrap();
    assert_eq!(comparison.changes.len(), 1);
    assert!(!comparison.is_good(), "7 % more in each round, while rounds drift by half: {comparison}");
    assert!(beside(&rows(70.5), "old", 0.03).unwrap().is_good());
    assert!(beside(&rows(70.5), "older", 0.03).is_err());
}

#[test]
fn what_is_no_number_is_not_compared() {
    for odd in [f64::INFINITY, f64::NAN, 0.0] {
        let record = run(vec![row("udp", "lb", vec![odd; 11]), row("tcp", "lb", vec![1.0; 11])]);
        let comparison = compare(&record, &run(vec![row("udp", "lb", vec![70.0; 11])]), 0.03).unwrap();
        assert!(comparison.changes.is_empty() && comparison.is_good(), "{odd}: {comparison}");
    }
}
