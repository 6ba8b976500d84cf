use std::{net::SocketAddr, time::Duration};

use tokio::{net::UdpSocket, time::sleep};

use super::{
    super::{
        Verdict,
        tests::{ask, refusing_datagrams},
    },
    *,
};
use crate::model::Ask;

const TIMEOUT: &str = "no answer within 400ms";

fn udp(expect: Option<&[u8]>) -> Ask {
    Ask::Udp(Udp { send: Payload(b"ping".into()), expect: expect.map(|bytes| Payload(bytes.into())) })
}

/// A server on loopback that sends this back, if anything, for each datagram that says what was configured.
async fn answering(address: &str, answer: Option<&[u8]>) -> SocketAddr {
    let answer = answer.map(<[u8]>::to_vec);
    let socket = UdpSocket::bind(address).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"ping");
            if let Some(answer) = &answer {
                socket.send_to(answer, from).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn the_answer_has_to_begin_as_expected() {
    for (answer, expected, wanted) in [
        (&b"pong 17"[..], Some(&b"pong"[..]), (Verdict::Success, "answered")),
        (b"pong", Some(b"pong 17"), (Verdict::Failure, "an answer that does not begin as expected")),
        (b"what?", Some(b"pong"), (Verdict::Failure, "an answer that does not begin as expected")),
        (b"", Some(b"pong"), (Verdict::Failure, "an answer that does not begin as expected")),
        (b"\xff\x00\xfe", Some(b"\xff\x00"), (Verdict::Success, "answered")),
        (b"what?", None, (Verdict::Success, "answered")),
        (&[7; 9_000], Some(&[7; 1024]), (Verdict::Success, "answered")),
    ] {
        let (result, text) = ask(answering("127.0.0.1:0", Some(answer)).await, udp(expected)).await;
        assert_eq!((result, text.as_str()), wanted);
    }
    let (result, _) = ask(answering("[::1]:0", Some(b"pong")).await, udp(Some(b"pong"))).await;
    assert_eq!(result, Verdict::Success);
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_down_whatever_is_expected() {
    for expect in [None, Some(&b"pong"[..])] {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let found = ask(refusing_datagrams(address).await, udp(expect)).await;
            assert_eq!(found, (Verdict::Failure, "connection refused".into()));
        }
    }
}

#[tokio::test]
async fn silence_is_well_only_if_no_answer_is_expected() {
    let address = answering("127.0.0.1:0", None).await;
    assert_eq!(ask(address, udp(None)).await, (Verdict::Success, "sent, and no error came back".into()));
    assert_eq!(ask(address, udp(Some(b"pong"))).await, (Verdict::Timeout, TIMEOUT.into()));
}

#[tokio::test]
async fn answers_from_other_addresses_are_not_heard() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let (asked, flooded) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (_, from) = server.recv_from(&mut [0; 64]).await.unwrap();
        asked.send(from).unwrap();
        // Holds the port.
        sleep(Duration::from_secs(9)).await;
    });
    let flood = tokio::spawn(async move {
        let from = flooded.await.unwrap();
        let others = [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.2:0").await.unwrap()];
        let mut sent = 0;
        for _ in 0..5_000 {
            for other in &others {
                sent += u32::from(other.send_to(b"pong", from).await.is_ok());
            }
        }
        sent
    });
    assert_eq!(ask(address, udp(Some(b"pong"))).await, (Verdict::Timeout, TIMEOUT.into()));
    assert!(flood.await.unwrap() > 5_000);
}
