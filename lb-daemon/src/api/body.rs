//! Bodies of requests: JSON objects whose every field is known.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use serde::de::DeserializeOwned;

use super::{Refused, types::Problem};

/// The largest body that the API takes, in bytes: a configuration with all its lists.
pub const LARGEST: usize = 16 * 1024 * 1024;

/// The body of a request. An empty one is taken for an empty object, and nobody has to say that it is JSON.
///
/// Request types have `deny_unknown_fields`, so that a slip of the pen is not taken for consent.
#[derive(Clone, Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| refused(&error.body_text()))?;
        parse(if bytes.is_empty() { b"{}" } else { &bytes }).map(Self).map_err(|error| refused(&error))
    }
}

fn refused(error: &str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, Problem::new(format!("the body is refused: {error}")))
}

/// Reads JSON; an error says what is wrong with which field, and where.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        match error.into_inner() {
            // Of text that is no JSON, the place tells all.
            error if path == "." || !error.is_data() => error.to_string(),
            error => format!("{path}: {error}"),
        }
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::parse;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only errors are looked at")]
    struct Asked {
        count: u8,
        #[serde(default)]
        inner: BTreeMap<String, Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only errors are looked at")]
    struct Inner {
        port: Option<u16>,
    }

    #[test]
    fn errors_name_the_field_the_type_and_the_place() {
        assert!(parse::<Asked>(br#"{"count": 1, "inner": {"a": {"port": 80}}}"#).is_ok());
        for (text, error) in [
            (r"{}", "missing field `count` at line 1 column 2"),
            (r#"{"count": 300}"#, "count: invalid value: integer `300`, expected u8 at line 1 column 13"),
            (r#"{"count": "1"}"#, "count: invalid type: string \"1\", expected u8 at line 1 column 13"),
            (r#"{"cuont": 1}"#, "cuont: unknown field `cuont`, expected `count` or `inner` at line 1 column 8"),
            (r#"{"count": 1, "count": 2}"#, "duplicate field `count` at line 1 column 20"),
            (
                "{\"count\": 1, \"inner\": {\"a\":\n {\"port\": -1}}}",
                "inner.a.port: invalid value: integer `-1`, expected u16 at line 2 column 12",
            ),
            (r#"{"count": 1} x"#, "trailing characters at line 1 column 14"),
            (r#"{"count": 1"#, "EOF while parsing an object at line 1 column 11"),
            ("\u{0}", "expected value at line 1 column 1"),
            ("7", "invalid type: integer `7`, expected struct Asked at line 1 column 1"),
        ] {
            assert_eq!(parse::<Asked>(text.as_bytes()).unwrap_err(), error, "{text}");
        }
    }
}
