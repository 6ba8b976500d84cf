//! Packets of a capture file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, bail};
use lb_xdp::wire::eth;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader, traits::PcapReaderIterator};
use serde::Serialize;

use super::{Asker, text};
use crate::{
    api::{
        answers::of_frame,
        types::{AskedPacket, ExplainRequest, Explanation},
    },
    cli::{Exit, Output, output},
    explain::LONGEST,
};

/// Bytes of the file that are looked at at once; the largest packet of a capture is a quarter of it.
const WINDOW: usize = 1 << 20;
/// Bytes of packets that are asked about at once.
const BATCH: usize = 1 << 20;
/// In front of packets that were captured without one.
const HEADER: [u8; 12] = [0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01];

/// A packet of the file.
struct Captured {
    number: u64,
    /// The frame; what the capture cut off is zero.
    frame: Vec<u8>,
    /// Bytes that the capture kept, if it cut some off.
    kept: Option<usize>,
}

/// A frame, and how many bytes of it the capture kept, if it cut some off.
type Frame = (Vec<u8>, Option<usize>);

/// A packet of the file as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    /// Its place in the file, from 1.
    number: u64,
    /// Bytes that the capture kept of it, if it cut some off; the rest is taken for zeros.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<usize>,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

/// Explains each packet of a file, in batches.
pub(super) fn run(path: &Path, asker: &mut Asker) -> Result<Exit, anyhow::Error> {
    let failed = || format!("cannot read the capture {}", path.display());
    let file: Box<dyn Read + Send> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path).with_context(failed)?) };
    let mut batch = Vec::new();
    let mut goes_on = Ok(true);
    let read = each(file, |captured| {
        batch.push(captured);
        let bytes: usize = batch.iter().map(|one| one.frame.len()).sum();
        if batch.len() == ExplainRequest::MOST || bytes >= BATCH {
            goes_on = explain(&batch, asker);
            batch.clear();
        }
        matches!(goes_on, Ok(true))
    });
    // What came before a fault in the file is explained all the same.
    if goes_on? && !batch.is_empty() {
        explain(&batch, asker)?;
    }
    read.with_context(failed)?;
    Ok(Exit::Done)
}

/// Explains a batch; whether somebody still reads.
fn explain(batch: &[Captured], asker: &mut Asker) -> Result<bool, anyhow::Error> {
    let packets: Vec<AskedPacket> = batch.iter().map(|one| of_frame(&one.frame)).collect();
    let (global, explained) = (asker.global, asker.ask(packets)?);
    for (captured, explanation) in batch.iter().zip(&explained) {
        let Captured { number, kept, .. } = *captured;
        let line = match global.output {
            Output::Json => serde_json::to_string(&Line { number, kept, explanation })?,
            Output::Table | Output::Wide if global.verbose > 0 => {
                let cut = kept.map_or_else(String::new, |kept| format!(", of which the capture kept {kept} bytes"));
                format!("packet {number}{cut}\n{}", text::whole(explanation, None, true))
            }
            Output::Table | Output::Wide => text::line(number, kept, explanation),
        };
        if !output::print_on(&format!("{line}\n"))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Hands on each packet of a file, until `take` wants no more.
fn each(file: impl Read + Send, mut take: impl FnMut(Captured) -> bool) -> Result<(), anyhow::Error> {
    let mut reader = match create_reader(WINDOW, file) {
        Ok(reader) => reader,
        Err(PcapError::Eof) => bail!("the file is empty"),
        Err(_) => bail!("it is neither a pcap nor a pcapng file"),
    };
    let mut links = Vec::new();
    let mut number = 0;
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                let packet = packet(&block, &mut links)?;
                reader.consume(offset);
                let Some((frame, kept)) = packet else { continue };
                number += 1;
                if !take(Captured { number, frame, kept }) {
                    return Ok(());
                }
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => refill(&mut *reader, number)?,
            Err(_) => bail!("what follows packet {number} cannot be read"),
        }
    }
}

fn refill(reader: &mut dyn PcapReaderIterator, number: u64) -> Result<(), anyhow::Error> {
    let before = reader.data().len();
    let refilled = reader.refill().is_ok();
    let stuck = reader.data().len() == before && before > 0;
    if !refilled || stuck {
        bail!("it breaks off after packet {number}, or the next one is too large");
    }
    Ok(())
}

/// The frame of a block that holds one, and how much of it was kept, where not all was. `links` are the types of the
/// interfaces so far.
fn packet(block: &PcapBlockOwned, links: &mut Vec<Linktype>) -> Result<Option<Frame>, anyhow::Error> {
    let (link, data, length) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            *links = vec![header.network];
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            links.clear();
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            links.push(interface.linktype);
            return Ok(None);
        }
        PcapBlockOwned::Legacy(packet) => (links.first(), packet.data, packet.origlen),
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let data = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
            (links.get(packet.if_id as usize), data, packet.origlen)
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            let data = packet.data.get(..packet.origlen as usize).unwrap_or(packet.data);
            (links.first(), data, packet.origlen)
        }
        PcapBlockOwned::NG(_) => return Ok(None),
    };
    let mut frame = match link {
        Some(&Linktype::ETHERNET) => data.to_vec(),
        Some(&(Linktype::RAW | Linktype::IPV4 | Linktype::IPV6)) => {
            let ether_type = if data.first().is_some_and(|first| first >> 4 == 6) { eth::IPV6 } else { eth::IPV4 };
            [&HEADER[..], &ether_type, data].concat()
        }
        Some(other) => bail!("its link type {} is neither Ethernet nor raw IP", other.0),
        None => bail!("a packet comes before the description of its interface"),
    };
    let kept = data.len();
    let missing = (length as usize).saturating_sub(kept);
    frame.resize((frame.len() + missing).min(LONGEST), 0);
    Ok(Some((frame, (missing > 0).then_some(kept))))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::net::UnixListener,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        thread,
    };

    use super::*;
    use crate::cli::Global;

    /// A pcap file with these packets: what was kept, and the whole length.
    fn pcap(link: u32, packets: &[(&[u8], u32)]) -> Vec<u8> {
        let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        file.extend([2, 0, 4, 0]);
        for word in [0, 0, 262_144, link] {
            file.extend(u32::to_le_bytes(word));
        }
        for (data, length) in packets {
            for word in [1, 2, u32::try_from(data.len()).unwrap(), *length] {
                file.extend(word.to_le_bytes());
            }
            file.extend(*data);
        }
        file
    }

    fn read(file: &[u8]) -> (Vec<Frame>, Option<String>) {
        let mut found = Vec::new();
        let outcome = each(file, |captured| {
            assert_eq!(captured.number, found.len() as u64 + 1);
            found.push((captured.frame, captured.kept));
            true
        });
        (found, outcome.err().map(|error| error.to_string()))
    }

    #[test]
    fn what_the_capture_cut_off_is_filled_up() {
        let file = pcap(1, &[(&[7; 60], 60), (&[8; 40], 1514)]);
        let (found, error) = read(&file);
        assert_eq!(error, None);
        assert_eq!(found[0], (vec![7; 60], None));
        assert_eq!((found[1].0.len(), found[1].0[39], found[1].0[40], found[1].1), (1514, 8, 0, Some(40)));
    }

    #[test]
    fn bare_packets_get_a_frame() {
        let (found, _) = read(&pcap(101, &[(&[0x45; 40], 40), (&[0x60; 40], 40)]));
        assert_eq!((&found[0].0[12..14], &found[1].0[12..14]), (&[8, 0][..], &[0x86, 0xdd][..]));
    }

    #[test]
    fn a_file_that_breaks_off_is_read_as_far_as_it_goes() {
        let file = pcap(1, &[(&[7; 60], 60), (&[8; 60], 60)]);
        let (found, error) = read(&file[..file.len() - 1]);
        assert_eq!(
            (found.len(), error.unwrap()),
            (1, "it breaks off after packet 1, or the next one is too large".into())
        );
        for (file, complaint) in [
            (b"GIF89a, not a capture".to_vec(), "neither a pcap nor a pcapng"),
            (Vec::new(), "empty"),
            (pcap(113, &[(&[0; 60], 60)]), "link type 113"),
        ] {
            let (_, error) = read(&file);
            assert!(error.as_ref().is_some_and(|error| error.contains(complaint)), "{error:?}");
        }
    }

    #[test]
    fn a_batch_that_is_refused_is_asked_about_once() {
        let folder = tempfile::tempdir().unwrap();
        let (file, socket) = (folder.path().join("pcap"), folder.path().join("socket"));
        fs::write(&file, pcap(1, &vec![(&[7; 60][..], 60); ExplainRequest::MOST + 1])).unwrap();
        let daemon = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        // Hangs up on everybody.
        thread::spawn(move || {
            for caller in daemon.incoming() {
                count.fetch_add(1, Relaxed);
                drop(caller);
            }
        });
        let pin_path = folder.path().join("pins");
        let global = Global { pin_path, api: Some(socket), output: Output::Json, verbose: 0 };
        let error = run(&file, &mut Asker { global: &global, interface: None, tables: None }).unwrap_err();
        assert_eq!(asked.load(Relaxed), 1);
        assert!(!error.to_string().contains("cannot read"), "{error}");
    }
}
