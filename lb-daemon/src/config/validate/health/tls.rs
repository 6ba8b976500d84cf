//! Keys of checks that speak TLS.

use rustls::pki_types::ServerName;

use crate::{
    config::{
        diagnostic::{Code, Complaint},
        lists::Lists,
        place::Spanned,
        quantity::{Wrong, wrong},
        raw::Section,
    },
    model::{Tls, Trust},
};

/// The keys that this reads.
pub(super) const KEYS: &[&str] = &["verify", "sni", "ca_file"];

pub(super) fn tls(section: &Section<'_>, lists: &Lists<'_>) -> Tls {
    let verify = section.boolean("verify");
    let sni = section.parsed("sni", name).map(Spanned::into_inner);
    let file = section.string("ca_file");
    let authorities = lists.authorities(section, "ca_file");
    let blind = verify.filter(|verify| !verify.get_ref());
    // A template's `ca_file` may be there for others, which verify.
    if let (Some(verify), Some(file)) = (&blind, file)
        && section.depth("verify") >= section.depth("ca_file")
    {
        let complaint = Complaint::new(Code::Conflict, file.span(), "`ca_file` with `verify = false`");
        let complaint = complaint.label("no certificate is looked at").also(verify.span(), "`verify` is here");
        section.complain(complaint.hint("remove `verify`, or remove `ca_file`"));
    }
    let trust = match (blind, authorities) {
        (Some(_), _) => Trust::Anybody,
        (None, Some(authorities)) => Trust::Authorities(authorities),
        (None, None) => Trust::System,
    };
    Tls { trust, sni }
}

/// A host name or an address, without a port.
fn name(text: &str) -> Result<String, Wrong> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(wrong("not a host name", "write the name in the certificate, such as \"www.example.org\"")),
    }
}
