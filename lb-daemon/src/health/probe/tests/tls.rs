//! TLS, with an authority of the test's own.

use std::{future::pending, ops::RangeInclusive, sync::Arc};

use certificates::{Authority, Signed, VALID};
use rustls::{ServerConfig, server::Acceptor, version::TLS12};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use super::*;
use crate::model::{Authorities, Body, Tls, Trust};

const NAME: &str = "www.example.org";
const ADDRESS: &str = "192.0.2.10";

/// An authority that nobody knows yet.
pub(super) fn new_authority() -> Authority {
    Authority::new().unwrap()
}

/// Who trusts this authority alone.
fn trust(authority: &Authority) -> Trust {
    let certificates = [authority.der().to_vec()].into();
    let digest = Sha256::digest(authority.der()).into();
    Trust::Authorities(Authorities { file: "ca.pem".into(), digest, certificates })
}

/// To connect to servers of this authority.
pub(super) fn trusting(authority: &Authority) -> Tls {
    Tls { trust: trust(authority), sni: Some(NAME.into()) }
}

fn signed(authority: &Authority, years: RangeInclusive<i32>) -> Signed {
    authority.sign_for(&[NAME, ADDRESS], years).unwrap()
}

/// A server with a certificate of this authority.
pub(super) fn certified(authority: &Authority) -> ServerConfig {
    signed(authority, VALID).server().unwrap()
}

/// A server that does this with its first connection, if its handshake completes.
pub(super) async fn tls_server<F: Future<Output = ()> + Send + 'static>(
    config: ServerConfig,
    behaviour: impl FnOnce(TlsStream<TcpStream>) -> F + Send + 'static,
) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    server(async move |stream| {
        if let Ok(stream) = acceptor.accept(stream).await {
            behaviour(stream).await;
        }
    })
    .await
}

async fn silent(config: ServerConfig) -> SocketAddr {
    tls_server(config, |stream| async {
        let _open = stream;
        pending::<()>().await;
    })
    .await
}

fn failure(text: &str) -> (Verdict, String) {
    (Verdict::Failure, text.into())
}

#[tokio::test]
async fn tls_succeeds_when_the_handshake_completes() {
    let authority = new_authority();
    for name in [NAME, ADDRESS] {
        let tls = Tls { sni: Some(name.into()), ..trusting(&authority) };
        let found = ask_patiently(silent(certified(&authority)).await, Ask::Tls(tls)).await;
        assert_eq!(found, (Verdict::Success, "TLS 1.3".into()), "{name}");
    }
    let older = signed(&authority, VALID).server_of(&[&TLS12]).unwrap();
    let found = ask_patiently(silent(older).await, Ask::Tls(trusting(&authority))).await;
    assert_eq!(found, (Verdict::Success, "TLS 1.2".into()));
}

#[tokio::test]
async fn probes_that_trust_the_same_share_what_handshakes_are_made_with() {
    let (clients, one, other) = (Clients::default(), new_authority(), new_authority());
    let first = clients.client(&trust(&one), None).await.unwrap();
    for (trust, protocol, same) in [
        (trust(&one), None, true),
        (trust(&one), Some(&b"h2"[..]), false),
        (trust(&other), None, false),
        (Trust::Anybody, None, false),
    ] {
        let next = clients.client(&trust, protocol).await.unwrap();
        assert_eq!(Arc::ptr_eq(&first, &next), same, "{trust:?} {protocol:?}");
    }
}

#[tokio::test]
async fn tls_asks_for_the_name_even_if_it_trusts_anybody() {
    for trust in [Trust::Anybody, trust(&new_authority())] {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let address = server(async move |stream| {
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.unwrap();
            sender.send(hello.client_hello().server_name().map(str::to_owned)).unwrap();
        })
        .await;
        let (result, _) = ask_patiently(address, Ask::Tls(Tls { trust, sni: Some(NAME.into()) })).await;
        assert_eq!(result, Verdict::Failure);
        assert_eq!(receiver.await.unwrap().as_deref(), Some(NAME));
    }
}

#[tokio::test]
async fn tls_says_what_is_wrong_with_a_certificate_unless_it_trusts_anybody() {
    let authority = new_authority();
    let other = Tls { trust: trust(&new_authority()), ..trusting(&authority) };
    let named = |sni: &str| Tls { sni: Some(sni.into()), ..trusting(&authority) };
    let own = {
        let own = Authority::named(&[NAME]).unwrap();
        (own.as_server().server().unwrap(), trusting(&own), "self-signed certificate, or one of an authority")
    };
    let expired = signed(&authority, 2000..=2020).server().unwrap();
    let not_yet = signed(&authority, 4000..=4001).server().unwrap();
    for (server, tls, text) in [
        (expired, trusting(&authority), "certificate expired"),
        (not_yet, trusting(&authority), "certificate not valid yet"),
        (certified(&authority), named("example.org"), "certificate not valid for name example.org"),
        (certified(&authority), named("192.0.2.11"), "certificate not valid for name 192.0.2.11"),
        (certified(&authority), other, "certificate from an unknown issuer"),
        own,
    ] {
        let found = ask_patiently(silent(server.clone()).await, Ask::Tls(tls.clone())).await;
        assert_eq!(found, failure(text));
        let blind = Tls { trust: Trust::Anybody, ..tls };
        let (result, told) = ask_patiently(silent(server).await, Ask::Tls(blind)).await;
        assert_eq!(result, Verdict::Success, "{text}: {told}");
    }
}

#[tokio::test]
async fn without_a_file_the_systems_authorities_are_asked() {
    let authority = new_authority();
    let tls = Tls { trust: Trust::System, ..trusting(&authority) };
    let found = ask_patiently(silent(certified(&authority)).await, Ask::Tls(tls)).await;
    if system_file().is_some() {
        assert_eq!(found, failure("certificate from an unknown issuer"));
    } else {
        assert!(found.0 == Verdict::Impossible && found.1.contains("install the package ca-certificates"), "{found:?}");
    }
}

#[tokio::test]
async fn tls_fails_on_what_is_not_tls() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[0; 100], &[0xff; 10_000]] {
        let address = server(async move |mut stream| {
            let _ = stream.write_all(garbage).await;
            pending::<()>().await;
        })
        .await;
        let found = ask_patiently(address, Ask::Tls(trusting(&new_authority()))).await;
        assert_eq!(found, failure("an answer that is not TLS"));
    }
}

#[tokio::test]
async fn tls_fails_when_the_server_goes_in_the_handshake() {
    let address = server(async |mut stream| {
        stream.read_u8().await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_eq!(ask_patiently(address, Ask::Tls(trusting(&new_authority()))).await, failure("connection reset"));
    let address = server(async |mut stream| {
        // All that was sent is read, so that closing does not reset.
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.unwrap();
        let mut rest = vec![0; usize::from(u16::from_be_bytes([hello[3], hello[4]]))];
        stream.read_exact(&mut rest).await.unwrap();
    })
    .await;
    let found = ask_patiently(address, Ask::Tls(trusting(&new_authority()))).await;
    assert_eq!(found, failure("closed during the TLS handshake"));
}

#[tokio::test]
async fn tls_times_out_when_the_server_hangs_or_drips() {
    let record = [0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc];
    for start in [0, 9] {
        let address = server(async move |mut stream| {
            stream.write_all(&record[..start]).await.unwrap();
            while start > 0 && stream.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            pending::<()>().await;
        })
        .await;
        let found = ask(address, Ask::Tls(trusting(&new_authority()))).await;
        assert_eq!(found, (Verdict::Timeout, "no answer within 400ms".into()));
    }
}

#[tokio::test]
async fn tls_reads_no_endless_handshake() {
    // A message of the handshake that says it is 16 MiB long, in records of the largest size.
    let mut record = vec![0x16, 3, 3, 0x40, 0];
    record.extend([2, 0xff, 0xff, 0xff]);
    record.resize(5 + 0x4000, 0);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let address = server(async move |mut stream| {
        let mut sent = 0;
        while stream.write_all(&record).await.is_ok() {
            sent += record.len() as u64;
            record.splice(5..9, [0; 4]);
        }
        sender.send(sent).unwrap();
    })
    .await;
    let (result, text) = ask_patiently(address, Ask::Tls(trusting(&new_authority()))).await;
    assert_eq!(result, Verdict::Failure, "{text}");
    let sent = receiver.await.unwrap();
    assert!(sent < BUFFERS, "{sent} bytes: {text}");
}

#[tokio::test]
async fn https_is_http_behind_a_handshake() {
    let authority = new_authority();
    for (answer, wanted) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready", (Verdict::Success, "200 OK".into())),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", failure("503 Service Unavailable")),
        ("HTTP/1.1 200 OK\r\n\r\nbroken", failure("200 OK, without the expected text in the body")),
        ("SSH-2.0-OpenSSH_9.2\r\n", failure("an answer that is not HTTP: invalid HTTP version parsed")),
    ] {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let address = tls_server(certified(&authority), async move |mut stream| {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            sender.send(String::from_utf8(head).unwrap()).unwrap();
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        })
        .await;
        let expect_body = Some(Body::Text("ready".into()));
        let asked = Http { host: Some(NAME.into()), expect_body, tls: Some(trusting(&authority)), ..Http::default() };
        assert_eq!(ask_patiently(address, Ask::Http(asked)).await, wanted, "{answer}");
        assert!(receiver.await.unwrap().contains("host: www.example.org\r\n"));
    }
}

#[tokio::test]
async fn https_tells_of_the_certificate_and_of_the_servers_protocols() {
    let authority = new_authority();
    let asked = |tls| Ask::Http(Http { host: Some(NAME.into()), tls: Some(tls), ..Http::default() });
    let other = Tls { trust: trust(&new_authority()), ..trusting(&authority) };
    let found = ask_patiently(silent(certified(&authority)).await, asked(other)).await;
    assert_eq!(found, failure("certificate from an unknown issuer"));
    let mut server = certified(&authority);
    server.alpn_protocols = vec![b"h2".to_vec()];
    let found = ask_patiently(silent(server).await, asked(trusting(&authority))).await;
    assert_eq!(found, failure("refused by the server: no application protocol"));
}

#[tokio::test]
async fn https_times_out_when_the_server_hangs_behind_its_handshake() {
    let authority = new_authority();
    let asked = Http { tls: Some(trusting(&authority)), ..Http::default() };
    let found = ask_within(Duration::from_secs(2), silent(certified(&authority)).await, Ask::Http(asked)).await;
    assert_eq!(found, (Verdict::Timeout, "no answer within 2s".into()));
}
