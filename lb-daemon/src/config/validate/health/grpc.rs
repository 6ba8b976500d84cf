//! Keys of gRPC checks.

use super::{kind::Kind, tls};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::Spanned,
        quantity::{Wrong, wrong},
        raw::Section,
    },
    model::{Grpc, Tls},
};

/// The keys that this reads. Those of TLS, and `host`, are other checks' too.
pub(super) const KEYS: &[&str] = &["service", "tls"];

/// Longest name of a service, in bytes.
const LONGEST: usize = 255;

/// What these keys say: that TLS is spoken, but not how.
pub(super) fn grpc(section: &Section<'_>) -> Grpc {
    let service = section.parsed("service", service).map(Spanned::into_inner).unwrap_or_default();
    let encrypted = section.boolean("tls").is_some_and(Spanned::into_inner);
    Grpc { service, host: None, tls: encrypted.then(Tls::default) }
}

/// Complains about keys of TLS in a gRPC check that does not speak it. What lies below its type was meant for another one.
pub(super) fn in_plaintext(section: &Section<'_>, kind: Option<Kind>, asked: &Grpc) {
    if kind != Some(Kind::Grpc) || asked.tls.is_some() {
        return;
    }
    for key in tls::KEYS.iter().filter(|key| section.depth(key) <= section.depth("type")) {
        let Some((place, _)) = section.entry(key) else { continue };
        let message = format!("`{key}` in a gRPC check without TLS");
        let complaint = Complaint::new(Code::Conflict, place.span(), message);
        section.complain(complaint.hint(format!("add `tls = true`, or remove `{key}`")));
    }
}

/// A name as servers register it.
fn service(text: &str) -> Result<String, Wrong> {
    if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let hint = "write its full name, such as \"shop.v1.Cart\"; \"\" is the server as a whole";
        return Err(wrong("not the name of a service", hint));
    }
    Ok(text.to_owned())
}
