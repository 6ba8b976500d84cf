//! What a gRPC check asks.

use super::Tls;

/// A question about a service, by the protocol that gRPC has for health.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grpc {
    /// Full name of the service; empty is the server as a whole.
    pub service: String,
    /// Who is asked (`:authority`); `None` is the VIP's address.
    pub host: Option<String>,
    /// How it is asked over TLS: `tls = true`
    pub tls: Option<Tls>,
}
