//! Every refusal in one shape: RFC 9457 problem details with a stable code.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a handler answers.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:ident, $title:literal;)*) => {
        /// Stable codes: programs match on these, never on the text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes, for the reference.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it stands in the answer.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            /// The HTTP status it goes with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// A few words, the same for every occurrence.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }
        }
    };
}

codes! {
    /// The request does not have the documented form.
    Malformed = "malformed", BAD_REQUEST, "The request cannot be read";
    /// A value is outside what is allowed.
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "A value is not allowed";
    /// An artifact's text has an error.
    InvalidArtifact = "invalid_artifact", UNPROCESSABLE_ENTITY, "The artifact has an error";
    /// A query over results was refused or failed.
    InvalidQuery = "invalid_query", UNPROCESSABLE_ENTITY, "The query has an error";
    /// No credentials, or ones that are not good (any more).
    SignInRequired = "sign_in_required", UNAUTHORIZED, "Sign in first";
    /// Name or password is wrong.
    SignInFailed = "sign_in_failed", UNAUTHORIZED, "Name or password is wrong";
    /// A one-time password must be replaced before anything else.
    PasswordChangeRequired = "password_change_required", FORBIDDEN, "Change your password first";
    /// The caller's roles do not allow it.
    Forbidden = "forbidden", FORBIDDEN, "You may not do this";
    /// It does not exist, or the caller may not know of it.
    NotFound = "not_found", NOT_FOUND, "There is no such thing";
    /// The path exists, this method on it does not.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "This method is not offered here";
    /// It is already so, or something of that name exists.
    Conflict = "conflict", CONFLICT, "It conflicts with what is there";
    /// The same request is being worked on.
    InProgress = "in_progress", CONFLICT, "The same request is being worked on";
    /// The key was used for another request.
    KeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The key belongs to another request";
    /// The first answer held a secret, which is not kept, or was lost.
    AnswerNotKept = "answer_not_kept", CONFLICT, "The first answer is not kept";
    /// More bytes than this operation takes.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The request is too large";
    /// Too many attempts or too many at once.
    TooMany = "too_many_requests", TOO_MANY_REQUESTS, "Too many requests";
    /// The store has no room left.
    StoreFull = "store_full", INSUFFICIENT_STORAGE, "The store is full";
    /// A query ran out of its time.
    QueryTimeout = "query_timeout", GATEWAY_TIMEOUT, "The query ran out of time";
    /// A query ran out of its memory.
    QueryMemory = "query_memory", INSUFFICIENT_STORAGE, "The query ran out of memory";
    /// Something behind us is away; the same request may work soon.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Not available now";
    /// Our fault.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong on the server";
}

/// One thing that is wrong in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// Where: a JSON pointer, a parameter's name, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// Line of the text, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What is wrong with it.
    pub message: String,
}

/// Problem details (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct Body {
    /// A URN that ends in the code.
    pub r#type: String,
    /// A few words, the same for each occurrence of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable, for programs.
    pub code: String,
    /// What happened and what to do about it.
    pub detail: String,
    /// Identifies the request in the server's log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// What exactly is wrong, where more than one thing can be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

#[derive(Clone, Debug)]
struct Inner {
    code: Code,
    detail: String,
    faults: Vec<Fault>,
    retry_after_seconds: Option<u32>,
    denied: bool,
    cause: String,
}

/// A refusal. Small, so that it can stand in a `Result`.
#[derive(Clone, Debug)]
pub struct Problem(Box<Inner>);

impl Problem {
    /// A refusal with a sentence that says what to do.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            faults: Vec::new(),
            retry_after_seconds: None,
            denied: code == Code::Forbidden,
            cause: String::new(),
        }))
    }

    /// A value that is not allowed.
    #[must_use]
    pub fn invalid(at: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut problem = Self::new(Code::Invalid, message.clone());
        problem.0.faults.push(Fault { at: at.into(), line: None, message });
        problem
    }

    /// It is not there, as far as this caller may know.
    #[must_use]
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what}, or you may not see it"))
    }

    /// A fault of ours: the cause goes to the log, not to the caller.
    #[must_use]
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let mut problem = Self::new(
            Code::Internal,
            "the server failed to answer; its log has the cause under this request id",
        );
        problem.0.cause = cause.to_string();
        problem
    }

    /// Something behind us is away.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        let mut problem = Self::new(Code::Unavailable, detail).retry_after(1);
        problem.0.cause = cause.to_string();
        problem
    }

    /// Says when to come again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// Adds exact places.
    #[must_use]
    pub fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.0.faults = faults;
        self
    }

    /// Marks a refusal that is one of rights although its status hides it, so that it is audited.
    #[must_use]
    pub fn denied(mut self) -> Self {
        self.0.denied = true;
        self
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What it says.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What we keep to ourselves.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.0.cause
    }

    /// Whether rights were missing.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.0.denied
    }

    /// The document.
    #[must_use]
    pub fn body(&self, request_id: &str) -> Body {
        Body {
            r#type: format!("urn:muster:problem:{}", self.0.code.as_str()),
            title: self.0.code.title().to_owned(),
            status: self.0.code.status().as_u16(),
            code: self.0.code.as_str().to_owned(),
            detail: self.0.detail.clone(),
            request_id: request_id.to_owned(),
            faults: self.0.faults.clone(),
        }
    }

    /// The answer, with the request's id in it.
    #[must_use]
    pub fn respond(self, request_id: &str) -> Response {
        let mut response = (self.0.code.status(), Json(self.body(request_id))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.0.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.respond("")
    }
}

impl From<muster_catalog::Error> for Problem {
    fn from(error: muster_catalog::Error) -> Self {
        match error {
            muster_catalog::Error::DiskFull => Self::new(
                Code::StoreFull,
                "the server's disk is full; free space or delete data, then try again",
            ),
            error if error.is_retryable() => Self::unavailable(
                "the server's store is away; try again in a moment",
                chain(&error),
            ),
            error => Self::internal(chain(&error)),
        }
    }
}

/// An error with everything it came from, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
