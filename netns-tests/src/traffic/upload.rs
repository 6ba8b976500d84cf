//! A long upload, and what its sender learnt of the way.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, ensure};

use super::http::Connection;
use crate::{host::server::Pattern, netns::Namespace};

/// What came of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Who took it.
    pub backend: String,
    /// Largest packet that the sender sends on this way, in bytes.
    pub mtu: u32,
}

/// Uploads that many bytes, each of which the server compares with what it should be.
///
/// # Errors
/// When the connection breaks or a byte came wrong.
pub fn upload(namespace: &Namespace, to: SocketAddr, bytes: usize) -> Result<Upload> {
    let mut connection = Connection::open(namespace, to)?;
    let answer = connection.post("/upload", &Pattern::bytes(bytes))?;
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(Upload { backend: String::from_utf8(answer.body)?, mtu: path_mtu(connection.stream())? })
}

/// The path MTU that the kernel knows for a connection.
fn path_mtu(stream: &TcpStream) -> Result<u32> {
    let (level, name) = match stream.peer_addr()? {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut mtu: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>())?;
    // SAFETY: the option's value is one `int`, which the kernel writes, and no more than `length` bytes.
    let result = unsafe { libc::getsockopt(stream.as_raw_fd(), level, name, (&raw mut mtu).cast(), &raw mut length) };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("cannot ask for the path MTU");
    }
    Ok(u32::try_from(mtu)?)
}
