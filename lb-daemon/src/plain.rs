//! Texts of others, made fit to be shown: to terminals, in logs, in JSON that a page may show.

/// What is visible of a text. What moves on, steers or ends a line is a space each; what cannot be seen is left out, and with
/// it what turns the direction of the text around it.
pub(crate) fn plain(text: &str) -> String {
    let shown = text.chars().filter_map(|c| match c {
        _ if c.is_whitespace() || c.is_control() => Some(' '),
        _ => is_visible(c).then_some(c),
    });
    shown.collect::<String>().trim().to_owned()
}

fn is_visible(c: char) -> bool {
    // Letters and marks that take part in a text, and show nothing by themselves.
    let is_empty = matches!(c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}');
    // The standard library knows all else that does not print. Behind a letter it takes marks as they are.
    !is_empty && (matches!(c, '"' | '\'' | '\\') || ['a', c].iter().collect::<String>().escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_visible_stays() {
        for text in [
            "queue is full",
            "\"it's\" C:\\x",
            "gr\u{fc}\u{df}e",
            "e\u{301}",
            "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}",
            "\u{65e5}\u{672c}",
            "\u{5e9}\u{5dc}",
            "\u{1f600}",
            "\u{fffd}",
        ] {
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn what_breaks_a_line_or_steers_a_terminal_is_a_space() {
        for c in
            ['\t', '\r', '\n', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}', '\u{a0}', '\u{2028}', '\u{2029}', '\u{3000}']
        {
            assert_eq!(plain(&format!("a{c}b{c}")), "a b", "{c:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_left_out() {
        let turning =
            ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').chain(['\u{61c}', '\u{200e}', '\u{200f}']);
        let empty =
            ['\u{ad}', '\u{34f}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{2064}', '\u{3164}', '\u{feff}'];
        let others = ['\u{fe0f}', '\u{fff9}', '\u{e000}', '\u{e0001}', '\u{e0041}', '\u{e0100}'];
        for c in turning.chain(empty).chain(others) {
            assert_eq!(plain(&format!("a{c}b{c}")), "ab", "{c:?}");
        }
    }
}
