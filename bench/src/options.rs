//! The command line of `prog-run`.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::ensure;
use bench_xdp::MAX_STAMPS;
use clap::Parser;

use crate::{output::Output, workload::Case};

/// Prints what a packet costs the program that `lb` loads, in ns of one core, beside baselines of the same run.
///
/// Needs root. `LB_BIN` names the `lb` to measure; otherwise it is the one beside this program.
#[derive(Clone, Debug, Parser)]
#[command(name = "prog-run", version)]
pub struct Options {
    /// Which cases to run
    #[arg(long = "case", value_enum, value_delimiter = ',', default_values_t = Case::ALL)]
    pub cases: Vec<Case>,
    /// Only these packets of the cases, such as `tcp4-ack`
    #[arg(long = "packet", value_name = "NAME", value_delimiter = ',')]
    pub packets: Vec<String>,
    /// Numbers of flows for the cases that have many; powers of two
    #[arg(long, value_delimiter = ',', default_value = "1024,131072,1048576,4194304", value_parser = flow_count)]
    pub flows: Vec<u32>,
    /// How often each program is measured, in turns with the others
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Chunks of 8192 packets that are timed in a round
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..MAX_STAMPS as i64))]
    pub chunks: u32,
    /// Seconds that a row may wait for an undisturbed core, all in all
    #[arg(long, default_value_t = 15)]
    pub patience: u64,
    /// CPU to run on; the last one if not given
    #[arg(long)]
    pub cpu: Option<usize>,
    /// A further pinned XDP program to measure in the same run, where lb has the plain config
    #[arg(long = "pin", value_name = "NAME=PATH", value_parser = pin)]
    pub pins: Vec<Pin>,
    /// What becomes of the figures
    #[command(flatten)]
    pub output: Output,
}

/// A pinned program and what to call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Name in the table.
    pub name: String,
    /// Where it is pinned.
    pub path: PathBuf,
}

/// `NAME=PATH`.
pub(crate) fn pin(text: &str) -> Result<Pin, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Pin { name: name.into(), path: path.into() }),
        _ => Err("expected NAME=PATH".into()),
    }
}

/// Each once, in order: rows are told apart by them.
pub fn each<T: Copy + Ord>(asked: &[T]) -> BTreeSet<T> {
    asked.iter().copied().collect()
}

/// Rows are told apart by the programs' names, too.
///
/// # Errors
/// If a pin is called like another or like what takes part anyhow.
pub fn ensure_distinct<'p>(own: impl IntoIterator<Item = &'p str>, pins: &'p [Pin]) -> Result<(), anyhow::Error> {
    let mut names: BTreeSet<&str> = own.into_iter().collect();
    for Pin { name, .. } in pins {
        ensure!(names.insert(name), "more than one program is called {name}: name another in --pin");
    }
    Ok(())
}

/// Sources hold 2^10 ports; 2^24 flows use addresses of one /18.
pub(crate) fn flow_count(text: &str) -> Result<u32, String> {
    match text.replace('_', "").parse::<u32>() {
        Ok(count) if count.is_power_of_two() && count <= 1 << 24 => Ok(count),
        _ => Err("expected a power of two up to 16777216".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["prog-run"], arguments].concat())
    }

    #[test]
    fn runs_everything_by_default() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.cases, Case::ALL);
        assert_eq!(options.flows, [1024, 131_072, 1_048_576, 4_194_304]);
        assert_eq!((options.rounds, options.chunks), (11, 128));
        assert!(options.pins.is_empty() && options.packets.is_empty() && options.output.json.is_none());
    }

    #[test]
    fn reads_lists_and_repeated_pins() {
        let options =
            parse(&["--case", "hit,not-a-vip", "--flows", "1,1_024", "--pin", "old=/a", "--pin", "peer=/b=c"]).unwrap();
        assert_eq!(options.cases, [Case::Hit, Case::NotAVip]);
        assert_eq!(options.flows, [1, 1024]);
        let pin = |name: &str, path: &str| Pin { name: name.into(), path: path.into() };
        assert_eq!(options.pins, [pin("old", "/a"), pin("peer", "/b=c")]);
    }

    #[test]
    fn takes_nothing_twice() {
        assert!(each(&[Case::Rotate, Case::Hit, Case::Rotate]).into_iter().eq([Case::Hit, Case::Rotate]));
        let pins = |names: &[&str]| -> Vec<Pin> {
            names.iter().map(|name| Pin { name: (*name).into(), path: "/a".into() }).collect()
        };
        assert!(ensure_distinct(["lb"], &pins(&["old", "older"])).is_ok());
        for twice in [["old", "old"], ["old", "lb"]] {
            let error = ensure_distinct(["lb"], &pins(&twice)).unwrap_err().to_string();
            assert!(error.contains(&format!("called {}", twice[1])), "{error}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for arguments in [
            ["--case", "miss"],
            ["--flows", "1000"],
            ["--flows", "0"],
            ["--flows", "33554432"],
            ["--rounds", "0"],
            ["--chunks", "1025"],
            ["--pin", "/sys/fs/bpf/x"],
            ["--pin", "=/sys/fs/bpf/x"],
        ] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
