//! An HTTP/1.1 request that is answered as expected. The body is read only if something is expected of it, and no further
//! than needed.

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header,
};

use super::{Failed, Reach};
use crate::{
    client::{
        Bounded, Clients,
        http::{self, exchange, explain},
        tls::{self, handshake},
    },
    model::{Body, Http, Method},
};

/// Most that is read of a body, in bytes.
const LARGEST_BODY: usize = 64 * 1024;

pub(super) async fn attempt(reach: &Reach, ask: &Http, clients: &Clients) -> Result<String, Failed> {
    let request = request(ask)?;
    let most = http::MOST + if ask.tls.is_some() { tls::MOST } else { 0 };
    let stream = Bounded::new(reach.connect().await?, most);
    let judge = async |response| judge(response, ask).await;
    match &ask.tls {
        None => exchange(stream, request, judge).await,
        Some(tls) => {
            let stream = handshake(stream, tls, Some(b"http/1.1"), clients).await?;
            Box::pin(exchange(stream, request, judge)).await
        }
    }
}

fn request(ask: &Http) -> Result<Request<Full<Bytes>>, Failed> {
    let mut request = Request::builder().method(ask.method.name()).uri(&ask.path);
    request = request.header(header::HOST, ask.host.as_deref().unwrap_or_default());
    if !ask.headers.keys().any(|name| name.eq_ignore_ascii_case("user-agent")) {
        request = request.header(header::USER_AGENT, "lb-health-check");
    }
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    // Such a request may have a body, and servers wait for one until they are told that there is none.
    if matches!(ask.method, Method::Post | Method::Put) {
        request = request.header(header::CONTENT_LENGTH, 0);
    }
    let request = request.header(header::CONNECTION, "close").body(Full::default());
    request.map_err(|error| Failed::Answer(format!("cannot ask for this path, host and headers: {error}")))
}

/// Whether an answer is as expected.
async fn judge(response: Response<Incoming>, ask: &Http) -> Result<String, Failed> {
    let status = response.status();
    let text = status.to_string();
    // A status without a name shows as `299 <unknown status code>`.
    let text = text.strip_suffix(" <unknown status code>").unwrap_or(&text).to_owned();
    if !ask.expect_status.iter().any(|&(first, last)| (first..=last).contains(&status.as_u16())) {
        // What usually is a success would look like one.
        return Err(Failed::Answer(if status.is_success() { format!("{text}, not an expected status") } else { text }));
    }
    match &ask.expect_body {
        None => Ok(text),
        Some(wanted) => match lack(response, wanted).await {
            None => Ok(text),
            Some(lack) => Err(Failed::Answer(format!("{text}, {lack}"))),
        },
    }
}

/// Reads the body as far as needed; why it is not as wanted, if so.
async fn lack(response: Response<Incoming>, wanted: &Body) -> Option<String> {
    let mut response = response.into_body();
    let mut body = Vec::new();
    let end = loop {
        let data = match response.frame().await {
            None => break "the body",
            Some(Err(error)) => return Some(format!("then a broken body: {}", explain(&error))),
            // Trailers are no part of it.
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let room = LARGEST_BODY - body.len();
        let known = body.len();
        body.extend(data.iter().take(room));
        if let Body::Text(text) = wanted
            && holds(&body, known, text.as_bytes())
        {
            return None;
        } else if data.len() > room {
            break "the first 64 KiB of the body";
        }
    };
    match wanted {
        Body::Text(_) => Some(format!("without the expected text in {end}")),
        // Only what is whole can be matched: `$` is the end.
        Body::Match(pattern) if pattern.is_in(&body) => None,
        Body::Match(_) => Some(format!("without a match of the expected pattern in {end}")),
    }
}

/// Whether a body holds a text; the first `known` bytes alone did not.
fn holds(body: &[u8], known: usize, text: &[u8]) -> bool {
    let Some(before) = text.len().checked_sub(1) else { return true };
    let fresh = body.get(known.saturating_sub(before)..).unwrap_or_default();
    fresh.windows(text.len()).any(|part| part == text)
}
