//! The one way out for what a command has to say: a table for people, JSON for programs.
//!
//! A reader that goes away early (`lb status | head -1`) has what it wants, so a broken pipe is success.

use std::{
    env,
    io::{self, ErrorKind, Write},
};

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::Output;

/// Prints `value` as JSON or, for people, what `text` makes of it.
///
/// # Errors
/// When stdout cannot be written for another reason than that its reader is gone.
pub fn print<T: Serialize>(output: Output, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), anyhow::Error> {
    let out = match output {
        Output::Table | Output::Wide => text(value),
        Output::Json => serde_json::to_string_pretty(value).context("cannot turn the result into JSON")?,
    };
    write(&mut io::stdout().lock(), &out).context("cannot write to stdout")
}

/// A table with a line of headings, columns two spaces apart and nothing drawn: easy to read, `grep` and `awk`.
/// Columns whose headings begin with `>` are aligned to the right, as numbers are; the mark is not printed.
pub fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    columns(&headings, rows)
}

/// The same for tables whose columns are chosen when they are printed, as `-o wide` has more of them.
pub fn columns<R: IntoIterator<Item = String>>(headings: &[&str], rows: impl IntoIterator<Item = R>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
    for row in rows {
        table.add_row(row);
    }
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if heading.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    lines.concat()
}

/// Prints text that has no other form, such as a script.
///
/// # Errors
/// When stdout cannot be written for another reason than that its reader is gone.
pub fn print_text(text: &str) -> Result<(), anyhow::Error> {
    write(&mut io::stdout().lock(), text).context("cannot write to stdout")
}

/// Prints one of many texts. Tells whether anybody reads on.
///
/// # Errors
/// When stdout cannot be written for another reason than that its reader is gone.
pub fn print_on(text: &str) -> Result<bool, anyhow::Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("cannot write to stdout"),
    }
}

/// Whether to colour what goes to a stream; see <https://no-color.org>.
pub fn colours(terminal: bool) -> bool {
    terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes `text` as lines.
fn write(stream: &mut impl Write, text: &str) -> io::Result<()> {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.write_all(end.as_bytes()))
        .and_then(|()| stream.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream whose every write fails in one way.
    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn takes_a_broken_pipe_for_success() {
        assert!(write(&mut Failing(ErrorKind::BrokenPipe), "text").is_ok());
        assert!(write(&mut Failing(ErrorKind::StorageFull), "text").is_err());
    }

    #[test]
    fn ends_output_with_one_line_break() {
        for (text, written) in [("a", "a\n"), ("a\n", "a\n"), ("", "")] {
            let mut stream = Vec::new();
            write(&mut stream, text).unwrap();
            assert_eq!(stream, written.as_bytes());
        }
    }

    #[test]
    fn aligns_numbers_to_the_right_and_leaves_no_trailing_space() {
        let rows = [["web-1".into(), "7".into(), "up".into()], ["web-22".into(), "1234".into(), "down".into()]];
        assert_eq!(
            table(["BACKEND", ">WEIGHT", "STATE"], rows),
            "BACKEND  WEIGHT  STATE\nweb-1         7  up\nweb-22     1234  down\n"
        );
    }
}
