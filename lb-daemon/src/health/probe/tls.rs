//! A TLS handshake that completes.

use rustls::ProtocolVersion;

use super::{Failed, Reach};
use crate::{
    client::{
        Bounded, Clients,
        tls::{self, handshake},
    },
    model::Tls,
};

pub(super) async fn attempt(reach: &Reach, ask: &Tls, clients: &Clients) -> Result<String, Failed> {
    let stream = handshake(Bounded::new(reach.connect().await?, tls::MOST), ask, None, clients).await?;
    let (_, connection) = stream.get_ref();
    Ok(match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    }
    .into())
}
