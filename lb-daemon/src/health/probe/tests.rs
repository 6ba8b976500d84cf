use std::io;

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
};

use super::*;
use crate::{
    client::system_file,
    model::{Http, Protocol, Service},
};

mod grpc;
mod http;
mod tls;

/// Most that a server may have sent of what nobody reads, in bytes: what lies in the sockets' buffers, and more.
const BUFFERS: u64 = 10 << 20;

/// A server on loopback that does this with its first connection.
async fn server<F: Future<Output = ()> + Send + 'static>(
    behaviour: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        behaviour(stream).await;
    });
    address
}

/// A port that nobody listens on.
pub(super) async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A port that nobody receives datagrams on.
pub(super) async fn refusing_datagrams(address: &str) -> SocketAddr {
    UdpSocket::bind(address).await.unwrap().local_addr().unwrap()
}

pub(super) async fn ask(target: SocketAddr, ask: Ask) -> (Verdict, String) {
    ask_within(Duration::from_millis(400), target, ask).await
}

/// As [`ask`], of what may take longer on a busy machine.
async fn ask_patiently(target: SocketAddr, ask: Ask) -> (Verdict, String) {
    ask_within(Duration::from_secs(10), target, ask).await
}

async fn ask_within(timeout: Duration, target: SocketAddr, ask: Ask) -> (Verdict, String) {
    let probe = Probe { target, carried_to: None, else_directly: false, timeout, ask };
    let outcome = run(&probe, (None, &BTreeSet::new()), &Clients::default(), None).await;
    assert!(outcome.latency < timeout + Duration::from_secs(2), "{outcome:?}");
    (outcome.result, outcome.text)
}

#[tokio::test]
async fn where_the_vip_cannot_be_asked_the_backend_is_unless_the_vip_alone_will_do() {
    // The kernel accepts for it.
    let listener = TcpListener::bind("127.0.0.9:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let service = Service::of("127.0.0.1".parse().unwrap(), 80, Protocol::Tcp);
    let carried_to = Some(Member { service, backend: server.ip() });
    let target = SocketAddr::new(service.address, server.port());
    for (way, reason) in [
        (Way::Carried { mark: 0x1b00_0001, source: None }, "127.0.0.1 is an address of this host"),
        (Way::Closed, "`lb status`"),
    ] {
        for (else_directly, result, wanted) in [
            (true, Verdict::Success, "connected, asked directly: "),
            (false, Verdict::Impossible, "or set `probe = \"direct\"`"),
        ] {
            let probe = Probe { target, carried_to, else_directly, timeout: Duration::from_secs(10), ask: Ask::Tcp };
            let outcome = run(&probe, (Some(way), &BTreeSet::new()), &Clients::default(), None).await;
            assert_eq!(outcome.result, result, "{outcome:?}");
            assert!(outcome.text.contains(reason) && outcome.text.contains(wanted), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn tcp_succeeds_when_the_connection_opens_and_resets_it() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let address = server(async move |mut stream| {
        let end = stream.read_u8().await.unwrap_err();
        sender.send(end.kind()).unwrap();
    })
    .await;
    assert_eq!(ask(address, Ask::Tcp).await, (Verdict::Success, "connected".into()));
    assert_eq!(receiver.await.unwrap(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    for how in [Ask::Tcp, Ask::Http(Http::default())] {
        assert_eq!(ask(refusing().await, how).await, (Verdict::Failure, "connection refused".into()));
    }
}

#[tokio::test]
async fn a_full_backlog_times_out() {
    // Backlog 0 keeps one connection; further handshakes stay unanswered as long as nobody accepts.
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _filling = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(address, Ask::Tcp).await, (Verdict::Timeout, "no answer within 400ms".into()));
}

#[tokio::test]
async fn no_port_is_a_failure_with_its_reason() {
    let (result, text) = ask("127.0.0.1:0".parse().unwrap(), Ask::Tcp).await;
    assert_eq!(result, Verdict::Failure);
    assert!(text.contains("no port to probe"), "{text}");
}
