use std::net::SocketAddr;

use domain::{
    base::{Record, Serial, Ttl},
    rdata::{A, Aaaa, Mx, Soa, Txt},
};
use proptest::prelude::*;
use tokio::net::{TcpListener, UdpSocket};

use super::{
    super::{
        Verdict,
        tests::{ask, refusing, refusing_datagrams},
    },
    *,
};
use crate::model::Ask;

const TIMEOUT: &str = "no answer within 400ms";

fn dns(transport: Transport) -> Dns {
    let query = "www.example.org".to_owned();
    let (query_type, expect_rcode) = (RecordType::A, Rcode::NoError);
    Dns { query, query_type, expect_rcode, expect_answer: None, transport }
}

fn expecting(query_type: RecordType, answer: &str) -> Dns {
    Dns { query_type, expect_answer: Some(answer.into()), ..dns(Transport::Udp) }
}

/// Answers of a server: what it makes of a question.
type Answers = fn(&[u8]) -> Vec<Vec<u8>>;

async fn by_datagrams(answers: Answers) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            for answer in answers(&buffer[..length]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    address
}

/// Each answer is sent with its length before it, byte by byte if it is short.
async fn by_connections(answers: Answers) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let length = stream.read_u16().await.unwrap();
            let mut question = vec![0; length.into()];
            stream.read_exact(&mut question).await.unwrap();
            for answer in answers(&question) {
                let length = u16::try_from(answer.len()).unwrap();
                let whole = [&length.to_be_bytes(), answer.as_slice()].concat();
                for part in whole.chunks(if whole.len() < 200 { 1 } else { whole.len() }) {
                    // The probe may know enough before all is sent.
                    let _ = stream.write_all(part).await;
                }
            }
        }
    });
    address
}

/// The answer with this code and records of all kinds.
fn answer(question: &[u8], code: iana::Rcode) -> Vec<u8> {
    let question = Message::from_octets(question).unwrap();
    let mut message = MessageBuilder::new_vec().start_answer(&question, code).unwrap();
    let owner: Name<Vec<u8>> = "www.example.org".parse().unwrap();
    let name = |text: &str| -> Name<Vec<u8>> { text.parse().unwrap() };
    let ttl = Ttl::from_secs(60);
    if code == iana::Rcode::NOERROR {
        message.push((&owner, ttl, A::from_octets(192, 0, 2, 9))).unwrap();
        message.push((&owner, ttl, A::from_octets(192, 0, 2, 1))).unwrap();
        message.push((&owner, ttl, Aaaa::new("2001:db8::1".parse().unwrap()))).unwrap();
        message.push((&owner, ttl, Mx::new(10, name("Mail.example.org")))).unwrap();
        message.push((&owner, ttl, Txt::<Vec<u8>>::build_from_slice(b"v=spf1 -all").unwrap())).unwrap();
        let (serial, ttl) = (Serial(7), Ttl::from_secs(1));
        let soa = Soa::new(name("ns.example.org"), name("root.example.org"), serial, ttl, ttl, ttl, ttl);
        message.push(Record::new(owner, iana::Class::IN, ttl, soa)).unwrap();
    }
    message.finish()
}

fn good(question: &[u8]) -> Vec<Vec<u8>> {
    vec![answer(question, iana::Rcode::NOERROR)]
}

#[tokio::test]
async fn the_code_has_to_be_the_expected_one() {
    let unknown: Answers = |question| vec![answer(question, iana::Rcode::NXDOMAIN)];
    let refusing: Answers = |question| {
        // As some do: without the question.
        let id = &question[..2];
        vec![[id, &[0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0]].concat()]
    };
    for (answers, code, wanted) in [
        (good as Answers, Rcode::NoError, (Verdict::Success, "NOERROR")),
        (good, Rcode::NxDomain, (Verdict::Failure, "NOERROR, not NXDOMAIN")),
        (unknown, Rcode::NxDomain, (Verdict::Success, "NXDOMAIN")),
        (unknown, Rcode::NoError, (Verdict::Failure, "NXDOMAIN, not NOERROR")),
        (refusing, Rcode::Refused, (Verdict::Success, "REFUSED")),
        (refusing, Rcode::NoError, (Verdict::Failure, "REFUSED, not NOERROR")),
    ] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let address = match transport {
                Transport::Udp => by_datagrams(answers).await,
                Transport::Tcp => by_connections(answers).await,
            };
            let (result, text) = ask(address, Ask::Dns(Dns { expect_rcode: code, ..dns(transport) })).await;
            assert_eq!((result, text.as_str()), wanted, "{transport}");
        }
    }
}

#[tokio::test]
async fn one_of_the_answers_has_to_be_the_expected_one() {
    use RecordType::{A, Aaaa, Mx, Ns, Soa, Txt};
    let address = by_datagrams(good).await;
    for (what, expected, found) in [
        (A, "192.0.2.1", true),
        (A, "192.0.2.2", false),
        (A, "2001:db8::2", false),
        (Aaaa, "2001:DB8:0::1", true),
        (Mx, "10 mail.example.org", true),
        (Mx, "10 MAIL.example.org.", true),
        (Mx, "20 mail.example.org", false),
        (Txt, "v=spf1 -all", true),
        (Txt, "v=SPF1 -all", false),
        (Soa, "ns.example.org root.example.org 7 1 1 1 1", true),
        (Ns, "ns.example.org", false),
    ] {
        let (result, text) = ask(address, Ask::Dns(expecting(what, expected))).await;
        assert_eq!(result == Verdict::Success, found, "{what} {expected}: {text}");
        assert_eq!(text, if found { "NOERROR" } else { "NOERROR, without the expected answer" });
    }
}

#[tokio::test]
async fn asks_for_what_was_configured_under_another_number_each_time() {
    let echoing: Answers = |question| {
        let asked = Message::from_octets(question).unwrap();
        let one = asked.sole_question().unwrap();
        assert_eq!((one.qname().to_string().as_str(), one.qtype()), ("www.example.org", Rtype::AAAA));
        assert!(asked.header().rd() && !asked.header().qr());
        vec![answer(question, iana::Rcode::NOERROR)]
    };
    let address = by_datagrams(echoing).await;
    assert_eq!(ask(address, Ask::Dns(expecting(RecordType::Aaaa, "2001:db8::1"))).await.0, Verdict::Success);
    let numbers: Vec<u16> = (0..8).map(|_| question(&dns(Transport::Udp)).unwrap().header().id()).collect();
    assert!(numbers.iter().any(|number| *number != numbers[0]), "{numbers:?}");
}

#[tokio::test]
async fn a_truncated_answer_is_told_where_it_lacks_the_expected_one() {
    let truncated: Answers = |question| {
        let mut bytes = answer(question, iana::Rcode::NOERROR);
        bytes[2] |= 2;
        vec![bytes]
    };
    let address = by_datagrams(truncated).await;
    assert_eq!(ask(address, Ask::Dns(dns(Transport::Udp))).await.0, Verdict::Success);
    let (result, text) = ask(address, Ask::Dns(expecting(RecordType::A, "192.0.2.77"))).await;
    assert_eq!(result, Verdict::Failure);
    assert!(text.contains("truncated") && text.contains("transport = \"tcp\""), "{text}");
}

/// Messages that are no answer to the question.
fn strange(question: &[u8]) -> Vec<Vec<u8>> {
    let right = answer(question, iana::Rcode::NOERROR);
    let changed = |at: usize, by: u8| {
        let mut bytes = right.clone();
        bytes[at] ^= by;
        bytes
    };
    // Another number, not an answer, another name, another type; nothing, too little, and the question itself.
    let mut all = vec![changed(0, 1), changed(2, 0x80), changed(14, 1), changed(30, 1)];
    all.extend([Vec::new(), right[..11].to_vec(), question.to_vec()]);
    all
}

#[tokio::test]
async fn what_answers_another_question_is_passed_over_until_there_is_too_much_of_it() {
    let then_right: Answers = |question| [strange(question), good(question)].concat();
    let address = by_datagrams(then_right).await;
    assert_eq!(ask(address, Ask::Dns(dns(Transport::Udp))).await, (Verdict::Success, "NOERROR".into()));
    assert_eq!(
        ask(by_datagrams(strange).await, Ask::Dns(dns(Transport::Udp))).await,
        (Verdict::Timeout, TIMEOUT.into())
    );
    let flooding: Answers = |question| vec![strange(question).remove(0); 500];
    let (result, text) = ask(by_datagrams(flooding).await, Ask::Dns(dns(Transport::Udp))).await;
    assert_eq!((result, text.as_str()), (Verdict::Failure, "only datagrams that don't answer the question"));
    let (result, text) = ask(by_connections(strange).await, Ask::Dns(dns(Transport::Tcp))).await;
    assert_eq!((result, text.as_str()), (Verdict::Failure, "what does not answer the question"));
}

#[tokio::test]
async fn names_that_point_at_themselves_and_each_other_are_told_from_answers() {
    let looping: Answers = |question| {
        // The header and question of the right answer, then records whose names are pointers in a circle.
        let mut bytes = question.to_vec();
        bytes[2] |= 0x80;
        bytes[6..8].copy_from_slice(&u16::MAX.to_be_bytes());
        while bytes.len() < 3_000 {
            let next = u16::try_from(bytes.len() + 2).unwrap();
            bytes.extend((0xc000 | next).to_be_bytes());
            bytes.extend((0xc000 | (next - 2)).to_be_bytes());
        }
        vec![bytes]
    };
    let expected = ask(by_datagrams(looping).await, Ask::Dns(expecting(RecordType::A, "192.0.2.1"))).await;
    assert_eq!(expected, (Verdict::Failure, "an answer that cannot be read".into()));
}

#[tokio::test]
async fn a_closed_port_and_a_server_that_says_nothing() {
    let refused = (Verdict::Failure, "connection refused".to_owned());
    assert_eq!(ask(refusing_datagrams("127.0.0.1:0").await, Ask::Dns(dns(Transport::Udp))).await, refused);
    assert_eq!(ask(refusing().await, Ask::Dns(dns(Transport::Tcp))).await, refused);
    let silent: Answers = |_| Vec::new();
    let found = ask(by_datagrams(silent).await, Ask::Dns(dns(Transport::Udp))).await;
    assert_eq!(found, (Verdict::Timeout, TIMEOUT.into()));
    let closing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closing.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = closing.accept().await.unwrap();
            let _ = stream.read(&mut [0; 512]).await;
            // A length, and less than that.
            let _ = stream.write_all(&[0xff, 0xff, 1, 2, 3]).await;
        }
    });
    let found = ask(address, Ask::Dns(dns(Transport::Tcp))).await;
    assert_eq!(found, (Verdict::Failure, "closed without an answer".into()));
}

proptest! {
    #[test]
    fn nothing_that_a_server_sends_makes_it_panic(tail in prop::collection::vec(any::<u8>(), 0..600), start in 0..40_usize) {
        let ask = expecting(RecordType::A, "192.0.2.1");
        let question = question(&ask).unwrap();
        let right = answer(question.as_slice(), iana::Rcode::NOERROR);
        let bytes = [&right[..start.min(right.len())], &tail].concat();
        if let Some(answer) = answer_to(&question, &bytes) {
            let _ = weigh(&answer, &ask);
        }
    }

    #[test]
    fn a_right_answer_with_a_few_other_bytes_is_one_or_is_not(at in 0..200_usize, by in 1..=255_u8) {
        let ask = expecting(RecordType::Soa, "x");
        let question = question(&ask).unwrap();
        let mut bytes = answer(question.as_slice(), iana::Rcode::NOERROR);
        let length = bytes.len();
        bytes[at % length] ^= by;
        if let Some(answer) = answer_to(&question, &bytes) {
            prop_assert!(weigh(&answer, &ask).is_err());
        }
    }
}
