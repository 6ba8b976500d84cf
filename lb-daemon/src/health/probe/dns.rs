//! A question to a name server, by a datagram or over a connection.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

use domain::{
    base::{Message, MessageBuilder, Name, ParsedName, Rtype, iana},
    rdata::AllRecordData,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Failed, Reach};
use crate::model::{Dns, Rcode, RecordType, Transport};

/// Most bytes of an answer by a datagram; without EDNS, which is not asked for, a server sends 512.
const LARGEST: usize = 4096;

/// Datagrams that are no answer to the question; after so many there will be none.
const STRANGERS: usize = 16;

/// What a question is written to: the bytes of a message.
type Question = Message<Vec<u8>>;

pub(super) async fn attempt(reach: &Reach, ask: &Dns) -> Result<String, Failed> {
    let question = question(ask)?;
    match ask.transport {
        Transport::Udp => by_datagram(reach, ask, &question).await,
        Transport::Tcp => by_connection(reach, ask, &question).await,
    }
}

/// The question, under a number that nobody can foresee.
fn question(ask: &Dns) -> Result<Question, Failed> {
    let wrong = |error: &dyn std::fmt::Display| Failed::Answer(format!("cannot ask for {}: {error}", ask.query));
    let name: Name<Vec<u8>> = ask.query.parse().map_err(|error: domain::base::name::FromStrError| wrong(&error))?;
    let mut message = MessageBuilder::new_vec();
    let [high, low, ..] = RandomState::new().hash_one(0).to_be_bytes();
    message.header_mut().set_id(u16::from_be_bytes([high, low]));
    message.header_mut().set_rd(true);
    let mut message = message.question();
    message.push((&name, type_of(ask.query_type))).map_err(|error| wrong(&error))?;
    Ok(message.into_message())
}

async fn by_datagram(reach: &Reach, ask: &Dns, question: &Question) -> Result<String, Failed> {
    let socket = reach.datagrams()?;
    socket.send(question.as_slice()).await?;
    let mut buffer = [0; LARGEST];
    for _ in 0..STRANGERS {
        let length = socket.recv(&mut buffer).await?;
        // One that was meant for another question may be late, or forged: the right one may still come.
        if let Some(answer) = answer_to(question, &buffer[..length]) {
            return weigh(&answer, ask);
        }
    }
    Err(Failed::Answer("only datagrams that don't answer the question".into()))
}

async fn by_connection(reach: &Reach, ask: &Dns, question: &Question) -> Result<String, Failed> {
    let mut stream = reach.connect().await?;
    let bytes = question.as_slice();
    let length = u16::try_from(bytes.len()).map_err(|_| Failed::Answer("a question that is too long".into()))?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let closed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Failed::Answer("closed without an answer".into()),
        _ => error.into(),
    };
    let length = stream.read_u16().await.map_err(closed)?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await.map_err(closed)?;
    let answer = answer_to(question, &buffer);
    weigh(&answer.ok_or_else(|| Failed::Answer("what does not answer the question".into()))?, ask)
}

/// `bytes` as an answer to the question, if they are one. A server that refuses may leave out the question.
fn answer_to<'a>(question: &Question, bytes: &'a [u8]) -> Option<Message<&'a [u8]>> {
    let message = Message::from_octets(bytes).ok()?;
    let (header, asked) = (message.header(), question.header());
    let bare = header.qr()
        && header.id() == asked.id()
        && header.rcode() != iana::Rcode::NOERROR
        && message.header_counts().qdcount() == 0;
    (bare || message.is_answer(question)).then_some(message)
}

/// Whether the answer is as expected.
fn weigh(answer: &Message<&[u8]>, ask: &Dns) -> Result<String, Failed> {
    let said = answer.header().rcode();
    if said != code_of(ask.expect_rcode) {
        return Err(Failed::Answer(format!("{said}, not {}", ask.expect_rcode)));
    }
    let Some(expected) = &ask.expect_answer else { return Ok(said.to_string()) };
    let expected = Expected::of(expected);
    let unreadable = |_| Failed::Answer("an answer that cannot be read".into());
    let records = answer.answer().map_err(unreadable)?;
    for record in records.limit_to_in::<AllRecordData<_, _>>() {
        if expected.is(record.map_err(unreadable)?.data()) {
            return Ok(said.to_string());
        }
    }
    let lacking = if answer.header().tc() {
        "truncated and without the expected answer; `transport = \"tcp\"` gets all of it"
    } else {
        "without the expected answer"
    };
    Err(Failed::Answer(format!("{said}, {lacking}")))
}

/// What one of the answers must have.
enum Expected<'a> {
    Address(IpAddr),
    Text(&'a str),
}

impl<'a> Expected<'a> {
    fn of(text: &'a str) -> Self {
        text.parse().map_or(Self::Text(text), Self::Address)
    }

    fn is(&self, data: &AllRecordData<&[u8], ParsedName<&[u8]>>) -> bool {
        match (self, data) {
            (Self::Address(wanted), AllRecordData::A(found)) => *wanted == IpAddr::V4(found.addr()),
            (Self::Address(wanted), AllRecordData::Aaaa(found)) => *wanted == IpAddr::V6(found.addr()),
            (Self::Text(wanted), AllRecordData::Txt(found)) => found.text::<Vec<u8>>() == wanted.as_bytes(),
            (Self::Text(wanted), other) => plain(&other.to_string()) == plain(wanted),
            (Self::Address(_), _) => false,
        }
    }
}

/// A record's text without what may be written in two ways: capitals, and the dot at the end of names.
fn plain(text: &str) -> Vec<String> {
    text.split_whitespace().map(|word| word.strip_suffix('.').unwrap_or(word).to_ascii_lowercase()).collect()
}

fn type_of(wanted: RecordType) -> Rtype {
    match wanted {
        RecordType::A => Rtype::A,
        RecordType::Aaaa => Rtype::AAAA,
        RecordType::Caa => Rtype::CAA,
        RecordType::Cname => Rtype::CNAME,
        RecordType::Mx => Rtype::MX,
        RecordType::Ns => Rtype::NS,
        RecordType::Ptr => Rtype::PTR,
        RecordType::Soa => Rtype::SOA,
        RecordType::Srv => Rtype::SRV,
        RecordType::Txt => Rtype::TXT,
    }
}

fn code_of(wanted: Rcode) -> iana::Rcode {
    match wanted {
        Rcode::NoError => iana::Rcode::NOERROR,
        Rcode::FormErr => iana::Rcode::FORMERR,
        Rcode::ServFail => iana::Rcode::SERVFAIL,
        Rcode::NxDomain => iana::Rcode::NXDOMAIN,
        Rcode::NotImp => iana::Rcode::NOTIMP,
        Rcode::Refused => iana::Rcode::REFUSED,
    }
}

#[cfg(test)]
mod tests;
