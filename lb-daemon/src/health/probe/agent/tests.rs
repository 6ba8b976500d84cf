use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    health::{
        agent::Said,
        probe::{Clients, Outcome, Probe, Verdict, run, tests::refusing},
    },
    model::{Ask, Payload},
};

async fn agent<F: Future<Output = ()> + Send + 'static>(
    behaviour: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { behaviour(listener.accept().await.unwrap().0).await });
    address
}

async fn asked(target: SocketAddr, send: Option<&[u8]>, timeout: Duration) -> Outcome {
    let ask = Ask::Agent(send.map(|bytes| Payload(bytes.into())));
    let probe = Probe { target, carried_to: None, else_directly: false, timeout, ask };
    let outcome = run(&probe, (None, &BTreeSet::new()), &Clients::default(), None).await;
    assert!(outcome.latency < timeout + Duration::from_secs(2), "{outcome:?}");
    outcome
}

/// An agent that sends these pieces, one after the other, and then closes the connection or keeps it.
async fn saying(pieces: &[&[u8]], stays: bool) -> Outcome {
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let address = agent(async move |mut stream| {
        for piece in pieces {
            if stream.write_all(&piece).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if stays {
            std::future::pending::<()>().await;
        }
    })
    .await;
    asked(address, None, Duration::from_millis(400)).await
}

#[tokio::test]
async fn a_line_is_read_in_pieces_and_ends_as_lines_do() {
    let all: [(&[&[u8]], bool, &str); 4] = [
        (&[b"ready 75%\r\n"], true, "ready 75%"),
        (&[b"75%\n"], true, "75%"),
        (&[b"dra", b"in", b"\n and more"], true, "drain"),
        (&[b"down #gone"], false, "down #gone"),
    ];
    for (pieces, stays, said) in all {
        let outcome = saying(pieces, stays).await;
        assert_eq!((outcome.result, outcome.text.as_str()), (Verdict::Success, said));
        assert_eq!(outcome.said, Said::read(said.as_bytes()));
    }
}

#[tokio::test]
async fn what_is_not_understood_is_a_failure_that_says_nothing() {
    let endless = vec![b'x'; 1 << 20];
    let all: [(&[&[u8]], bool, Verdict, &str); 5] = [
        (&[], false, Verdict::Failure, "it closed the connection and said nothing"),
        (&[], true, Verdict::Timeout, "no answer within 400ms"),
        (&[b"drain"], true, Verdict::Timeout, "no answer within 400ms"),
        (&[b"hello\n"], true, Verdict::Failure, "it said nothing that is understood"),
        (&[&endless], true, Verdict::Failure, "it said more than 1024 bytes on a line"),
    ];
    for (pieces, stays, result, text) in all {
        let outcome = saying(pieces, stays).await;
        assert_eq!((outcome.result, outcome.text.as_str(), outcome.said), (result, text, None));
    }
    let outcome = asked(refusing().await, None, Duration::from_millis(400)).await;
    assert_eq!((outcome.result, outcome.text.as_str()), (Verdict::Failure, "connection refused"));
}

#[tokio::test]
async fn one_byte_at_a_time_does_not_outlive_the_timeout() {
    let address = agent(async move |mut stream| {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(asked(address, None, Duration::from_millis(300)).await.result, Verdict::Timeout);
}

#[tokio::test]
async fn what_is_to_be_sent_is_sent_first() {
    let address = agent(async move |mut stream| {
        let mut heard = [0; 6];
        stream.read_exact(&mut heard).await.unwrap();
        let answer: &[u8] = if heard == *b"web-1\n" { b"up\n" } else { b"down\n" };
        stream.write_all(answer).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(asked(address, Some(b"web-1\n"), Duration::from_secs(10)).await.text, "up");
}
