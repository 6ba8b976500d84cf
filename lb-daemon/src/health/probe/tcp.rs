//! A TCP connection that opens.

use std::net::SocketAddr;

use super::{Failed, connect};

pub(super) async fn attempt(target: SocketAddr) -> Result<String, Failed> {
    drop(connect(target).await?);
    Ok("connected".into())
}
