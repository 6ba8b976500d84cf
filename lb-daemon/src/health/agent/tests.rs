use proptest::prelude::*;

use super::*;

/// What these lines come to, one after the other.
fn after(lines: &[&str]) -> Word {
    let mut word = Word::default();
    for line in lines {
        word.take(&Said::read(line.as_bytes()).unwrap_or_default());
    }
    word
}

#[test]
fn each_word_says_its_part_and_the_rest_stays() {
    for (lines, shown, permille, takes_down) in [
        (&[][..], "ready", 1000, false),
        (&["75%"], "75%", 750, false),
        (&["0%"], "0%", 0, false),
        (&["100%"], "ready", 1000, false),
        (&["ready 75%"], "75%", 750, false),
        (&["75%,ready"], "75%", 750, false),
        (&["UP\t50% Ready\r\n"], "50%", 500, false),
        (&["drain"], "drain", 0, false),
        (&["drain", "30%"], "drain 30%", 0, false),
        (&["drain", "30%", "ready"], "30%", 300, false),
        (&["maint"], "maint", 0, true),
        (&["maint", "up"], "maint", 0, true),
        (&["maint", "ready"], "ready", 1000, false),
        (&["down"], "down", 1000, true),
        (&["down #disk full"], "down (#disk full)", 1000, true),
        (&["fail#x", "ready"], "fail (#x)", 1000, true),
        (&["failed"], "failed", 1000, true),
        (&["25% stopped # by hand \n"], "25% stopped (#by hand)", 250, true),
        (&["stopped", "up"], "ready", 1000, false),
        (&["down", "", "what?", "maxconn:30"], "down", 1000, true),
        // The last one of those that exclude each other.
        (&["drain ready"], "ready", 1000, false),
        (&["up down"], "down", 1000, true),
        (&["10% 20%"], "20%", 200, false),
        // Only the first line counts, and what is behind a # is no word.
        (&["50%\ndrain"], "50%", 500, false),
        (&["50%\rdrain"], "50%", 500, false),
        (&["50% # drain"], "50%", 500, false),
        // More than the weight that the operator gave.
        (&["150%"], "ready", 1000, false),
        (&["99999999999999999999%"], "ready", 1000, false),
    ] {
        let word = after(lines);
        assert_eq!((word.to_string().as_str(), word.permille(), word.takes_down()), (shown, permille, takes_down));
    }
}

#[test]
fn what_has_no_word_that_is_known_says_nothing() {
    for line in ["", "\n", "\r\n50%", " \t,", "hello", "maxconn:30", "75", "%", "-5%", "7.5%", "#down", "downs", "+5%"]
    {
        assert_eq!(Said::read(line.as_bytes()), None, "{line:?}");
    }
    assert_eq!(Said::read(b"hello drain \xff\xfe").unwrap().to_string(), "drain");
}

#[test]
fn a_reason_neither_steers_terminals_nor_grows() {
    let line = format!("down #\u{1b}[2J\u{202e}\u{2066}\u{200b}{}", "x".repeat(500));
    let State::Down("down", reason) = after(&[&line]).state else { panic!("down") };
    assert_eq!(reason, format!("[2J{}", "x".repeat(77)));
    assert_eq!(after(&["down #\u{ff}"]).to_string(), "down (#\u{ff})");
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_what_was_read_is_read_again(line in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Some(said) = Said::read(&line) {
            prop_assert_eq!(Said::read(said.to_string().as_bytes()), Some(said));
        }
    }

    #[test]
    fn words_mean_the_same_in_any_order_and_apart_by_anything(
        words in Just(["drain", "40%", "down", "what?", "maxconn:3"]).prop_shuffle(),
        gaps in prop::collection::vec("[ \t,]{1,3}", 5),
    ) {
        let line: String = words.iter().zip(&gaps).flat_map(|(word, gap)| [*word, gap.as_str()]).collect();
        prop_assert_eq!(after(&[&line]), Word { percent: 40, mode: Mode::Drain, state: State::Down("down", String::new()) });
    }

    #[test]
    fn all_that_was_said_fits_on_one_line(lines in prop::collection::vec(
        prop_oneof![
            Just("ready"), Just("drain"), Just("maint"), Just("up"), Just("down #a, b (c)"), Just("stopped"), Just("0%"),
            Just("33% fail"), Just("maint 250%"),
        ], 0..8,
    )) {
        let word = after(&lines);
        prop_assert_eq!(after(&[&word.line()]), word);
    }
}
