//! Who is at the other end of a connection.

use std::{cell::OnceCell, fmt, fs};

use tokio::net::{TcpStream, UnixStream};

/// Where accounts have their names.
const ACCOUNTS: &str = "/etc/passwd";

/// The process that opened a connection on a unix socket, as the kernel noted it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The process, unless it is in a namespace that this one does not see.
    pub pid: Option<i32>,
}

impl Peer {
    /// The user's name, if the system's own accounts have one.
    pub fn user(&self) -> Option<String> {
        Accounts::default().name(self.uid)
    }
}

/// The names of the system's own accounts, as they are when somebody first asks for one; none where they cannot be read.
#[derive(Default)]
pub(crate) struct Accounts(OnceCell<String>);

impl Accounts {
    /// The name of a user, if they have one.
    pub(crate) fn name(&self, uid: u32) -> Option<String> {
        if uid == 0 {
            return Some("root".to_owned());
        }
        name_of(uid, self.0.get_or_init(|| fs::read_to_string(ACCOUNTS).unwrap_or_default()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.user() {
            Some(name) => write!(formatter, "{name} (uid {})", self.uid),
            None => write!(formatter, "uid {}", self.uid),
        }
    }
}

/// The name of `uid` among lines of passwd(5).
fn name_of(uid: u32, accounts: &str) -> Option<String> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    accounts.lines().find_map(account)
}

/// A connection that may tell who opened it.
pub(crate) trait Origin {
    /// Who opened it, if the kernel tells.
    fn peer(&self) -> Option<Peer>;
}

impl Origin for UnixStream {
    fn peer(&self) -> Option<Peer> {
        let seen = self.peer_cred().ok()?;
        Some(Peer { uid: seen.uid(), gid: seen.gid(), pid: seen.pid() })
    }
}

impl Origin for TcpStream {
    fn peer(&self) -> Option<Peer> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_as_the_accounts_have_them() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(name_of(1000, accounts).as_deref(), Some("ada"));
        assert_eq!(name_of(1001, accounts), None);
        let peer = |uid| Peer { uid, gid: 0, pid: None };
        assert_eq!(peer(0).to_string(), "root (uid 0)");
        assert_eq!(peer(4_000_000_000).to_string(), "uid 4000000000");
    }
}
