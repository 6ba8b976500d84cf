//! Access lists: may this source send to this VIP?

use lb_common::{
    layout::{
        prefix::{AclRule, SourceKey},
        vip::Vip,
    },
    verdict::Verdict,
};

use crate::path::Tables;

/// Lets a source in unless the list of all VIPs or the VIP's own keeps it out.
///
/// # Errors
/// [`Verdict::Denied`].
#[inline(always)]
pub fn check<T: Tables>(source: [u64; 2], vip: &Vip, tables: &T) -> Result<(), Verdict> {
    let scopes = [(Vip::ACL_GLOBAL, 0), (Vip::ACL, vip.id)];
    for (flag, scope) in scopes {
        let denies = |key| tables.acl(&key) == Some(AclRule::Deny as u32);
        if vip.flags & flag != 0 && denies(SourceKey::from_words(scope, source)) {
            return Err(Verdict::Denied);
        }
    }
    Ok(())
}
