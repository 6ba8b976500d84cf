//! Certificates of the test's own authority, and of another one, as files.

use std::{fs, path::Path};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// Whom the server's certificate is for.
pub(crate) const NAME: &str = "www.lab.example";

/// Writes `authority.pem`, and certificates `good`, `stranger`, `misnamed` and `expired`, each with its key, as `NAME.pem`.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let (known, unknown) = (authority("known")?, authority("unknown")?);
    fs::write(folder.join("authority.pem"), &known.pem)?;
    for (file, by, name, until) in [
        ("good", &known, NAME, 2100),
        ("stranger", &unknown, NAME, 2100),
        ("misnamed", &known, "other.lab.example", 2100),
        ("expired", &known, NAME, 2020),
    ] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.not_before = date_time_ymd(2010, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &by.issuer)?;
        fs::write(folder.join(format!("{file}.pem")), [certificate.pem(), key.serialize_pem()].concat())?;
    }
    Ok(())
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(name: &str) -> Result<Authority> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.self_signed(&key)?.pem();
    Ok(Authority { issuer: Issuer::new(params, key), pem })
}
