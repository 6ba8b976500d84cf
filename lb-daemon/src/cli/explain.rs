//! `lb explain`: what would become of a packet, and why.

use std::path::PathBuf;

use serde::Serialize;

use super::{Exit, Global, Misuse, ask, output, pins};
use crate::{
    api::types::{AskedPacket, ExplainRequest, Explained, Explanation},
    explain::tuple::{MID_FLOW, OPENING, Tuple, TupleError, flag_letters, flags},
};

mod capture;
mod text;

/// Show what would become of a packet and why, on the tables as they are; nothing is counted or remembered
#[derive(Debug, clap::Args)]
#[command(after_help = "A TUPLE is protocol, client and VIP: `tcp 198.51.100.7:51000 192.0.2.10:443`,\n\
                        `udp [2001:db8::7]:51000 [2001:db8::10]:53` or `icmp 198.51.100.7 192.0.2.10`.\n\
                        Without a daemon it needs root, and shows addresses in place of names.")]
pub struct Args {
    /// Protocol, client and VIP
    #[arg(value_name = "TUPLE", num_args = 1..=3, required_unless_present = "pcap", conflicts_with = "pcap")]
    tuple: Vec<String>,
    /// TCP flags of the packet, as `S`, `SA`, `F` or `R` [default: `A`, and what becomes of a `S` in a line]
    #[arg(long, value_name = "FLAGS", conflicts_with = "pcap")]
    flags: Option<String>,
    /// VLAN that the packet comes in; twice for the outer one and the inner one
    #[arg(long = "vlan", value_name = "NUMBER", conflicts_with = "pcap")]
    vlans: Vec<u16>,
    /// Interface that the packet comes in by [default: the first that the program is attached to]
    #[arg(long, value_name = "INTERFACE")]
    interface: Option<String>,
    /// Explain each packet of a capture file (pcap or pcapng; `-` is stdin), each by itself; `-v` shows all steps
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

/// What is told of a tuple.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    explanation: Explanation,
    /// The same for the packet that opens the connection, of TCP without `--flags`.
    #[serde(skip_serializing_if = "Option::is_none")]
    opening: Option<Explanation>,
}

/// Explains packets.
///
/// # Errors
/// When the tuple makes no sense, no daemon answers and nothing is pinned, the file cannot be read, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let mut asker = Asker { global, interface: args.interface.clone(), tables: None };
    if let Some(path) = &args.pcap {
        return capture::run(path, &mut asker);
    }
    let packets = packets(args).map_err(Misuse::Tuple)?;
    let mut explained = asker.ask(packets)?.into_iter();
    let Some(explanation) = explained.next() else { anyhow::bail!("the daemon's answer explains no packet") };
    let told = Told { explanation, opening: explained.next() };
    output::print(global.output, &told, |told| {
        text::whole(&told.explanation, told.opening.as_ref(), global.verbose > 0)
    })?;
    Ok(Exit::Done)
}

/// The packets that a tuple asks about.
fn packets(args: &Args) -> Result<Vec<AskedPacket>, TupleError> {
    let tuple: Tuple = args.tuple.join(" ").parse()?;
    let asked = |flags: Option<String>| AskedPacket {
        tuple: Some(tuple.to_string()),
        flags,
        vlans: args.vlans.clone(),
        frame: None,
    };
    let is_tcp = tuple.protocol == lb_common::layout::vip::TCP;
    // Complains here of what there can be no packet of.
    tuple.frame(args.flags.as_deref().map_or(Ok(MID_FLOW), flags)?, &args.vlans)?;
    match &args.flags {
        Some(_) if !is_tcp => Err(TupleError::NoFlags),
        Some(given) => Ok(vec![asked(Some(given.clone()))]),
        None if is_tcp => Ok([MID_FLOW, OPENING].map(|flags| asked(Some(flag_letters(flags)))).into()),
        None => Ok(vec![asked(None)]),
    }
}

/// Asks the daemon, and the tables from when on none answers.
struct Asker<'a> {
    global: &'a Global,
    interface: Option<String>,
    tables: Option<pins::Tables>,
}

impl Asker<'_> {
    fn ask(&mut self, packets: Vec<AskedPacket>) -> Result<Vec<Explanation>, anyhow::Error> {
        let request = ExplainRequest { interface: self.interface.clone(), packets };
        if self.tables.is_none() {
            let answer: Result<Explained, anyhow::Error> = ask::post(self.global, "/v1/explain", &request);
            match answer {
                Err(error) if ask::found_no_daemon(&error) => {
                    self.tables = Some(pins::in_place_of_daemon(self.global, &error)?);
                    pins::say_unmanaged(self.global);
                }
                answer => return Ok(answer?.packets),
            }
        }
        let Some(tables) = &self.tables else { return Ok(Vec::new()) };
        Ok(tables.answer(self.global, |ground| ground.explain(&request))?.packets)
    }
}
