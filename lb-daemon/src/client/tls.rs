//! TLS handshakes, and why one did not complete.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{sync::OnceCell, task::spawn_blocking};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Bounded, Failed};
use crate::model::{Tls, Trust};

/// Most that is read of a handshake, in bytes: its largest message, and what is around it.
pub(crate) const MOST: usize = 72 * 1024;

/// A protocol that is asked for in the handshake (ALPN).
pub(crate) type Protocol = Option<&'static [u8]>;

/// Speaks TLS over a connection. Dropping what it returns resets the connection, as it would without TLS.
pub(crate) async fn handshake(
    stream: Bounded,
    tls: &Tls,
    protocol: Protocol,
    clients: &Clients,
) -> Result<TlsStream<Bounded>, Failed> {
    let name = tls.sni.clone().unwrap_or_default();
    let name = ServerName::try_from(name).map_err(|_| Failed::Answer("no name to ask for".into()))?;
    let client = clients.client(&tls.trust, protocol).await?;
    TlsConnector::from(client).connect(name, stream).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Failed::Answer("closed during the TLS handshake".into()),
        _ => Failed::from(error),
    })
}

/// What handshakes are made with: made once for all that trust the same and ask for the same protocol, when the first of
/// them needs it.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    made: Mutex<BTreeMap<(Trust, Protocol), Arc<ClientConfig>>>,
    system: OnceCell<Result<Arc<RootCertStore>, String>>,
}

impl Clients {
    pub(crate) async fn client(&self, trust: &Trust, protocol: Protocol) -> Result<Arc<ClientConfig>, Failed> {
        let key = (trust.clone(), protocol);
        // Nobody panics while holding the lock.
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made().get(&key) {
            return Ok(Arc::clone(client));
        }
        let roots = match trust {
            Trust::Anybody => None,
            Trust::System => Some(self.system().await?),
            Trust::Authorities(authorities) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(authorities.certificates.iter().map(|one| one.as_slice().into()));
                Some(Arc::new(roots))
            }
        };
        let client = Arc::new(client(roots, protocol).map_err(|error| Failed::Never(error.to_string()))?);
        Ok(Arc::clone(made().entry(key).or_insert(client)))
    }

    async fn system(&self) -> Result<Arc<RootCertStore>, Failed> {
        let read = || async { spawn_blocking(system).await.unwrap_or_else(|error| Err(error.to_string())) };
        self.system.get_or_init(read).await.clone().map_err(Failed::Never)
    }
}

/// `None` is to trust anybody.
fn client(roots: Option<Arc<RootCertStore>>, protocol: Protocol) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let mut client = match roots {
        Some(roots) => builder.with_root_certificates(roots),
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Blind(provider))),
    }
    .with_no_client_auth();
    client.alpn_protocols = protocol.into_iter().map(Into::into).collect();
    // Each connection is to see the certificate, and backends behind one name do not know each other's sessions.
    client.resumption = Resumption::disabled();
    Ok(client)
}

/// The file with certificates of the authorities that this system trusts, if there is one: the one that OpenSSL takes, which
/// the environment may name.
pub(crate) fn system_file() -> Option<PathBuf> {
    openssl_probe::probe().cert_file
}

fn system() -> Result<Arc<RootCertStore>, String> {
    let hint = "install the package ca-certificates, or name a file by SSL_CERT_FILE, for checks by `ca_file`";
    let file = system_file().ok_or_else(|| format!("this system has no CA certificates: {hint}"))?;
    let roots = read(&file).map_err(|error| format!("cannot read {}: {error}; {hint}", file.display()))?;
    if roots.is_empty() { Err(format!("{} has no CA certificates: {hint}", file.display())) } else { Ok(roots.into()) }
}

/// The certificates of a file that can be understood.
fn read(file: &Path) -> Result<RootCertStore, rustls::pki_types::pem::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_file_iter(file)?.filter_map(Result::ok));
    Ok(roots)
}

/// Trusts anybody.
#[derive(Debug)]
struct Blind(Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What TLS says was wrong, if it was TLS that ended a connection.
pub(super) fn reason(error: &io::Error) -> Option<String> {
    let error: &Error = error.get_ref()?.downcast_ref()?;
    Some(match error {
        Error::InvalidCertificate(why) => certificate(why),
        Error::AlertReceived(alert) => format!("refused by the server: {}", alert_words(*alert)),
        Error::NoApplicationProtocol => "the server speaks none of the protocols that were asked for".into(),
        Error::PeerIncompatible(_) => "no TLS version or cipher in common".into(),
        Error::InvalidMessage(_) => "an answer that is not TLS".into(),
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::DecryptError
        | Error::PeerSentOversizedRecord => "an answer that breaks the rules of TLS".into(),
        other => other.to_string(),
    })
}

fn certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate not valid yet".into()
        }
        CertificateError::Revoked => "certificate revoked".into(),
        CertificateError::UnknownIssuer => "certificate from an unknown issuer".into(),
        CertificateError::BadSignature => "certificate with a bad signature".into(),
        CertificateError::BadEncoding => "certificate that cannot be read".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate that is not for servers".into()
        }
        CertificateError::NotValidForName => "certificate not valid for this name".into(),
        CertificateError::NotValidForNameContext { expected, .. } => {
            format!("certificate not valid for name {}", expected.to_str())
        }
        // webpki's own error, whose type is not handed on.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "self-signed certificate, or one of an authority".into()
        }
        other => format!("certificate refused: {other}"),
    }
}

/// `HandshakeFailure` as `handshake failure`.
fn alert_words(alert: AlertDescription) -> String {
    let mut words = String::new();
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
