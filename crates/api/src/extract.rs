//! Bodies, queries and paths, refused in words that help.

use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::length::too_long;
use crate::problem::{Code, Fault, Problem};

/// A JSON body. Unknown fields are refused with a suggestion; an empty body is `{}`.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|why| body_refused(&why))?;
        parse(&bytes).map(Self)
    }
}

pub(crate) fn body_refused(why: &BytesRejection) -> Problem {
    match why {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => too_long(),
        other => Problem::new(Code::Malformed, format!("the body did not arrive whole: {other}")),
    }
}

/// Reads a JSON body.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    // PostgreSQL has no text with NUL, and nothing here needs one.
    if bytes.windows(6).any(|six| six == b"\\u0000") {
        return Err(Problem::new(Code::Malformed, "the JSON body holds a NUL character"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = with_suggestion(message.strip_suffix(&place).unwrap_or(&message));
        let line = u32::try_from(error.line()).ok();
        Problem::new(Code::Malformed, format!("the JSON body is not as documented: {message}"))
            .with_faults(vec![Fault { at: String::new(), line, message }])
    })
}

/// Query parameters.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(
            |why| {
                let text = why.body_text();
                let text = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, m)| m);
                let message = with_suggestion(text);
                Problem::new(
                    Code::Malformed,
                    format!("a query parameter is not as documented: {message}"),
                )
                .with_faults(vec![Fault {
                    at: "query".into(),
                    line: None,
                    message,
                }])
            },
        )
    }
}

/// Parts of the path.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map(|path| Self(path.0))
            .map_err(|why| {
                Problem::new(Code::NotFound, format!("no such path: {}", why.body_text()))
            })
    }
}

/// Adds "did you mean" to serde's message about an unknown field or variant.
fn with_suggestion(message: &str) -> String {
    let mut ticks = message.split('`');
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let (Some(_), Some(given), true) = (ticks.next(), ticks.next(), unknown) else {
        return message.to_owned();
    };
    let known = ticks.skip(1).step_by(2);
    match nearest(given, known) {
        Some(best) => format!("{message}; did you mean `{best}`?"),
        None => message.to_owned(),
    }
}

/// The known word nearest to the given one, when it is near enough to be meant.
pub(crate) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        title: Option<String>,
        #[expect(dead_code, reason = "only its name matters")]
        reason: Option<String>,
    }

    #[test]
    fn a_misspelt_field_is_named_with_what_was_meant() {
        let problem = parse::<Body>(br#"{"titel": "x"}"#).unwrap_err();
        assert_eq!(
            problem.detail(),
            "the JSON body is not as documented: unknown field `titel`, expected `title` or \
             `reason`; did you mean `title`?"
        );
    }

    #[test]
    fn a_far_word_gets_no_suggestion() {
        assert!(!parse::<Body>(br#"{"zzz": 1}"#).unwrap_err().detail().contains("did you mean"));
    }

    #[test]
    fn an_empty_body_is_an_empty_object() {
        assert!(parse::<Body>(b"").unwrap().title.is_none());
    }
}
