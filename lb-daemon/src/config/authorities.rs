//! Certificates of authorities, in files of their own: PEM, as everybody hands them out.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use sha2::{Digest, Sha256};

use super::{
    diagnostic::{Code, Complaint},
    place::At,
    raw::Section,
};
use crate::model::Authorities;

const BEGIN: &str = "-----BEGIN ";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The certificates in the file that `key` names, which is the text of that number; complains if there is none, or one that
/// no authority can have.
pub(super) fn of(section: &Section<'_>, key: &'static str, text: &str, number: usize) -> Option<Authorities> {
    let file = section.string(key)?;
    let mut certificates: Vec<Vec<u8>> = Vec::new();
    let mut whole = true;
    for (start, _) in text.match_indices(BEGIN) {
        let rest = text.get(start..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let at = At::new(number, &(start..start + line.len()));
        let refuse = |what: String, hint: &str| {
            section.complain(Complaint::new(Code::InvalidValue, at, what).hint(hint));
        };
        // What a configuration is made of is kept, and shown to those who may read it.
        if line.contains("PRIVATE KEY") {
            let what = format!("`{key}` names a file with a private key");
            refuse(what, "name one that has certificates alone; whoever reads the configuration reads this file too");
            whole = false;
        } else if line.trim_end() == CERTIFICATE {
            match certificate(rest) {
                Ok(certificate) => certificates.push(certificate),
                Err(why) => {
                    let hint =
                        "replace it by the authority's certificate, as `openssl x509 -in FILE -text` can show it";
                    refuse(format!("`{key}` names a file with a certificate that cannot be read: {why}"), hint);
                    whole = false;
                }
            }
        }
    }
    if whole && certificates.is_empty() {
        let complaint = Complaint::new(Code::InvalidValue, file.span(), format!("`{key}` has no certificate"));
        let complaint = complaint.label(format!("no line is `{CERTIFICATE}`"));
        section.complain(complaint.hint("name a file with certificates of authorities in PEM form"));
    }
    if !whole || certificates.is_empty() {
        return None;
    }
    let mut digest = Sha256::new();
    for certificate in &certificates {
        digest.update(certificate);
    }
    let file = (*file.get_ref()).to_owned();
    Some(Authorities { file, digest: digest.finalize().into(), certificates: certificates.into() })
}

/// The first certificate of a text, if an authority can have it.
fn certificate(text: &str) -> Result<Vec<u8>, String> {
    let found = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| "it is cut off, or not in base64")?;
    RootCertStore::empty().add(found.clone()).map_err(|_| "it is not an X.509 certificate")?;
    Ok(found.as_ref().to_vec())
}
