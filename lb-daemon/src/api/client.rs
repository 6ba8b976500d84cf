//! Asks the daemon, for the command line.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, time::timeout};

use super::types::Problem;

/// A daemon that takes longer is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(35);
/// Largest answer that is read, in bytes; a thousand backends take less than one megabyte.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon.
    #[error("no daemon answers on {}", socket.display())]
    NoDaemon {
        /// Where it was looked for.
        socket: PathBuf,
        /// Why the connection failed.
        #[source]
        source: io::Error,
    },
    /// The caller may not open the socket.
    #[error("may not ask the daemon on {}; the socket is for its owner and group", socket.display())]
    Forbidden {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The daemon refused, and says why.
    #[error("{0}")]
    Refused(Problem),
    /// The daemon did not answer in time.
    #[error("the daemon on {} does not answer", .0.display())]
    Stuck(PathBuf),
    /// What came was no HTTP.
    #[error("the daemon's answer broke off")]
    Http(#[from] hyper::Error),
    /// The body was too long or broke off.
    #[error("the daemon's answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// What came was not what was expected.
    #[error("the daemon's answer is not understood; is it of another version?")]
    Json(#[from] serde_json::Error),
}

/// The way to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Asks on `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for a resource.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T, ClientError> {
        self.ask(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let answer = timeout(PATIENCE, self.exchange(method, path, body)).await;
        let (status, body) = answer.map_err(|_| ClientError::Stuck(self.socket.clone()))??;
        if status.is_success() {
            return Ok(serde_json::from_slice(&body)?);
        }
        let plain = || Problem::new(format!("the daemon answers {status}"));
        Err(ClientError::Refused(serde_json::from_slice(&body).unwrap_or_else(|_| plain())))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.no_connection(source))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| ClientError::Body(Box::new(error)))?;
        let headers = request.headers_mut();
        headers.insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("lb"));
        headers.insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(ClientError::Body)?.to_bytes();
        driver.abort();
        Ok((head.status, body))
    }

    fn no_connection(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { socket, source },
            _ => ClientError::NoDaemon { socket, source },
        }
    }
}
