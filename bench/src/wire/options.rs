//! The command line of `wire`.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::Mode;
use crate::{
    options::{Pin, flow_count, pin},
    output::Output,
};

/// Prints how many packets a second the balancer sends on over a veth pair, beside an empty XDP program and the kernel.
///
/// Needs root, and `ip` and `ethtool`. Makes two network namespaces and takes them away again. `LB_BIN` names the `lb` to
/// measure; otherwise it is the one beside this program. Exit code 1 if `lb`, in the driver, sends on less than 0.85 times
/// as many frames of 64 bytes as a program that only returns `XDP_TX`.
#[derive(Clone, Debug, Parser)]
#[command(name = "wire", version)]
pub struct Options {
    /// Lengths of frames, in bytes, without the checksum that a network card adds
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "64,512,1500", value_parser = frame_bytes)]
    pub sizes: Vec<usize>,
    /// Numbers of queues; each has a CPU of its own
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = queue_count)]
    pub queues: Vec<usize>,
    /// Where XDP programs are attached
    #[arg(long = "mode", value_enum, value_delimiter = ',', default_values_t = Mode::value_variants().to_vec())]
    pub modes: Vec<Mode>,
    /// Flows; a power of two
    #[arg(long, default_value = "1024", value_parser = flow_count)]
    pub flows: u32,
    /// How often each program has its turn
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How long each is measured in its turn, in seconds
    #[arg(long, default_value = "0.3", value_parser = seconds)]
    pub seconds: Duration,
    /// What sends; auto is pktgen where the kernel has it, else live frames
    #[arg(long, value_enum, default_value_t = Source::Auto)]
    pub generator: Source,
    /// A further pinned XDP program to measure in the same run, such as that of an older lb
    #[arg(long = "pin", value_name = "NAME=PATH", value_parser = pin)]
    pub pins: Vec<Pin>,
    /// What becomes of the figures
    #[command(flatten)]
    pub output: Output,
}

/// What sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// pktgen where the kernel has it, else live frames
    Auto,
    /// The kernel's packet generator
    Pktgen,
    /// XDP test runs over live frames (Linux 5.18)
    Live,
}

/// What an IPv4 header, a UDP header and pktgen's own mark take at least; and what fits on an Ethernet, header included.
fn frame_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if (60..=1514).contains(&bytes) => Ok(bytes),
        _ => Err("expected 60 to 1514 bytes".into()),
    }
}

fn queue_count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if count.is_power_of_two() && count <= 64 => Ok(count),
        _ => Err("expected a power of two up to 64".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    let allowed = Duration::from_millis(50)..=Duration::from_mins(1);
    seconds.filter(|seconds| allowed.contains(seconds)).ok_or_else(|| "expected 0.05 to 60 seconds".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["wire"], arguments].concat())
    }

    #[test]
    fn measures_small_and_large_frames_in_both_modes_by_default() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.sizes, options.queues), (vec![64, 512, 1500], vec![1, 2]));
        assert_eq!(options.modes, [Mode::Native, Mode::Generic]);
        assert_eq!((options.flows, options.rounds, options.seconds), (1024, 9, Duration::from_millis(300)));
        assert!(options.pins.is_empty() && options.output.json.is_none());
    }

    #[test]
    fn reads_lists() {
        let options =
            parse(&["--sizes", "60,1514", "--queues", "4", "--mode", "generic", "--seconds", "0.05"]).unwrap();
        assert_eq!((options.sizes, options.queues), (vec![60, 1514], vec![4]));
        assert_eq!((options.modes, options.seconds), (vec![Mode::Generic], Duration::from_millis(50)));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for arguments in [
            ["--sizes", "59"],
            ["--sizes", "1515"],
            ["--queues", "0"],
            ["--queues", "3"],
            ["--mode", "stack"],
            ["--flows", "1000"],
            ["--rounds", "0"],
            ["--seconds", "0.01"],
            ["--seconds", "-1"],
            ["--seconds", "61"],
            ["--generator", "trex"],
            ["--pin", "/sys/fs/bpf/x"],
        ] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
