//! Long connections to a VIP that must all stay with the backend that took them.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use super::http::Connection;
use crate::netns::Namespace;

/// Open connections, each with the name of its backend.
#[derive(Debug)]
pub struct Sessions {
    open: Vec<(Connection, String)>,
}

impl Sessions {
    /// Opens `number` connections, to each of the addresses in turn.
    ///
    /// # Errors
    /// When one is not answered.
    pub fn open(namespace: &Namespace, to: &[SocketAddr], number: usize) -> Result<Self> {
        let open = |to: &SocketAddr| {
            let mut connection = Connection::open(namespace, *to)?;
            let backend = connection.ask()?;
            Ok((connection, backend))
        };
        Ok(Self { open: to.iter().cycle().take(number).map(open).collect::<Result<_>>()? })
    }

    /// Asks on every connection whether it is still where it was.
    ///
    /// # Errors
    /// When one broke or another backend answers.
    pub fn all_stay(&mut self) -> Result<()> {
        for (connection, backend) in &mut self.open {
            let now = connection.ask().with_context(|| format!("a connection to {backend} broke"))?;
            ensure!(now == *backend, "a connection went from {backend} to {now}");
        }
        Ok(())
    }

    /// Connections that this backend has.
    pub fn of(&self, name: &str) -> usize {
        self.open.iter().filter(|(_, backend)| backend == name).count()
    }

    /// Closes the connections that this backend has.
    pub fn forget(&mut self, name: &str) {
        self.open.retain(|(_, backend)| backend != name);
    }

    /// Connections in all.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
