//! A TLS handshake that completes.

use rustls::ProtocolVersion;

use super::{Failed, Reach};
use crate::{
    client::{Clients, bounded, tls::handshake},
    model::Tls,
};

pub(super) async fn attempt(reach: &Reach, tls: &Tls, clients: &Clients) -> Result<String, Failed> {
    let stream = handshake(bounded(reach.connect().await?), tls, None, clients).await?;
    let (_, connection) = stream.get_ref();
    Ok(match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    }
    .into())
}
