//! Certificates for tests and benchmarks: authorities, and servers that they vouch for. A crate of its own since the unit
//! tests of the daemon need it as well as those that are above the daemon.

use std::{ops::RangeInclusive, sync::Arc};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ALL_VERSIONS, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Years in which a certificate is valid that is to be so.
pub const VALID: RangeInclusive<i32> = 2000..=2100;

/// Whoever signs certificates of servers.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    /// One that nobody knows yet.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn new() -> Result<Self> {
        Self::named(&[])
    }

    /// One whose own certificate is for these names, as that of a server would be.
    ///
    /// # Errors
    /// As of [`Authority::new`], and when one of these is no name.
    pub fn named(names: &[&str]) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = valid(names, VALID)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Others of the same name would be taken for it, and their signatures for broken ones.
        params.distinguished_name.push(DnType::CommonName, key.public_key_pem());
        let certificate = params.self_signed(&key)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Its certificate, as files have it.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Its certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// Its certificate as that of a server, which it should not be.
    pub fn as_server(&self) -> Signed {
        Signed::of(&self.certificate, self.issuer.key())
    }

    /// A certificate for a server of these names or addresses.
    ///
    /// # Errors
    /// As of [`Authority::named`].
    pub fn sign(&self, names: &[&str]) -> Result<Signed> {
        self.sign_for(names, VALID)
    }

    /// The same, valid in these years alone.
    ///
    /// # Errors
    /// As of [`Authority::named`].
    pub fn sign_for(&self, names: &[&str], years: RangeInclusive<i32>) -> Result<Signed> {
        let key = KeyPair::generate()?;
        Ok(Signed::of(&valid(names, years)?.signed_by(&key, &self.issuer)?, &key))
    }
}

fn valid(names: &[&str], years: RangeInclusive<i32>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.iter().copied().map(String::from).collect::<Vec<_>>())?;
    (params.not_before, params.not_after) = (date_time_ymd(*years.start(), 1, 1), date_time_ymd(*years.end(), 1, 1));
    Ok(params)
}

/// A server's certificate, and its key.
#[derive(Clone, Debug)]
pub struct Signed {
    /// What the server sends of certificates, its own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key, as files have it.
    pub key: String,
    certificate: String,
}

impl Signed {
    fn of(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self { chain: vec![certificate.der().clone()], key: key.serialize_pem(), certificate: certificate.pem() }
    }

    /// Certificate and key, as files have them.
    pub fn pem(&self) -> String {
        [self.certificate.as_str(), &self.key].concat()
    }

    /// A server with this certificate.
    ///
    /// # Errors
    /// When rustls does not take it.
    pub fn server(self) -> Result<ServerConfig> {
        self.server_of(ALL_VERSIONS)
    }

    /// The same of these versions of TLS.
    ///
    /// # Errors
    /// When rustls does not take it.
    pub fn server_of(self, versions: &[&'static SupportedProtocolVersion]) -> Result<ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions)?.with_no_client_auth();
        Ok(builder.with_single_cert(self.chain, key)?)
    }
}
