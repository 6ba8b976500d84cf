//! A document that is posted to a web server.

use http_body_util::Full;
use hyper::{Request, Response, Uri, body::Incoming, header};
use tokio::{net::TcpStream, time::timeout};

use super::Post;
use crate::{
    client::{
        Bounded, Clients, Failed,
        http::{self, exchange},
        tls::{self, handshake},
    },
    model::{Tls, Trust},
};

pub(super) async fn post(post: &Post) -> Result<(), String> {
    match timeout(post.timeout, attempt(post)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failed::Answer(text) | Failed::Never(text))) => Err(text),
        Ok(Err(Failed::Here(error))) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {:?}", post.timeout)),
    }
}

async fn attempt(Post { url, body, .. }: &Post) -> Result<(), Failed> {
    let never = |error: &dyn std::fmt::Display| Failed::Never(format!("cannot post to this URL: {error}"));
    let uri: Uri = url.parse().map_err(|error| never(&error))?;
    let secure = uri.scheme_str() == Some("https");
    // As in `[2001:db8::1]`.
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, uri.authority().map_or(host, |authority| authority.as_str()))
        .header(header::USER_AGENT, "lb")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::from(body.clone()))
        .map_err(|error| never(&error))?;
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = Bounded::new(TcpStream::connect((host, port)).await?, http::MOST + tls::MOST);
    if !secure {
        return exchange(stream, request, judge).await;
    }
    let tls = Tls { trust: Trust::System, sni: Some(host.to_owned()) };
    // Made anew, so that certificates are those of now.
    let stream = handshake(stream, &tls, Some(b"http/1.1"), &Clients::default()).await?;
    exchange(stream, request, judge).await
}

/// By its status; the body says nothing that matters.
async fn judge(response: Response<Incoming>) -> Result<(), Failed> {
    let status = response.status();
    match status {
        _ if status.is_success() => Ok(()),
        _ if status.is_redirection() => Err(Failed::Answer(format!("{status}: redirects are not followed"))),
        _ => Err(Failed::Answer(status.to_string())),
    }
}
