//! Errors as clients see them: one table of codes, one body, and the way from every other error to it.
//!
//! What went wrong inside is kept as the source, logged once where the request ends, and never sent.

mod code;

pub(crate) use code::Code;

use crate::views::Time;
use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use serde::Serialize;
use shared::db::PoolError;
use std::fmt;
use utoipa::ToSchema;

/// One invalid field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Detail {
    /// Where it is, with dots and indexes: `nodes[1].id`.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) message: String,
}

impl Detail {
    /// A detail of a validation error.
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody {
    /// What went wrong.
    pub(crate) error: ErrorObject,
}

/// What an error says of itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// For programs.
    pub(crate) code: Code,
    /// For people; what to do about it.
    pub(crate) message: String,
    /// Every invalid field; empty if the error is not about fields.
    pub(crate) details: Vec<Detail>,
    /// The same as the header `X-Request-ID`.
    pub(crate) request_id: String,
    /// When.
    pub(crate) timestamp: Time,
    /// Only with status 429: seconds until it is worth trying again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
}

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: Code,
    message: String,
    details: Vec<Detail>,
    retry_after: Option<u64>,
    allow: Option<String>,
    source: Option<anyhow::Error>,
}

impl ApiError {
    /// An error with this code; the message tells people what to do.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), retry_after: None, allow: None, source: None }
    }

    /// 400 that names every invalid field.
    pub(crate) fn invalid(details: Vec<Detail>) -> Self {
        Self { details, ..Self::new(Code::Validation, "Request validation failed") }
    }

    /// 400 about one field.
    pub(crate) fn invalid_field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![Detail::new(field, message)])
    }

    /// 401 for missing, malformed, expired and revoked credentials alike.
    pub(crate) fn unauthenticated() -> Self {
        Self::new(Code::AuthenticationRequired, "Authentication required: send a valid access token or API key")
    }

    /// 403.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Code::InsufficientPermissions, message)
    }

    /// 404 that names the kind of thing: `ApiError::not_found("Product")`.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("{what} not found"))
    }

    /// 405.
    pub(crate) fn method_not_allowed(allow: String) -> Self {
        let message = format!("This method is not allowed here; allowed: {allow}");
        Self { allow: Some(allow), ..Self::new(Code::MethodNotAllowed, message) }
    }

    /// 409.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// 422.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(Code::Unprocessable, message)
    }

    /// 502: another system, storage for example, failed.
    pub(crate) fn integration(message: impl Into<String>, source: impl Into<anyhow::Error>) -> Self {
        Self { source: Some(source.into()), ..Self::new(Code::Integration, message) }
    }

    /// 502: a language model or its provider failed; the message says how.
    pub(crate) fn ai_service(message: impl Into<String>) -> Self {
        Self::new(Code::AiService, message)
    }

    /// 429: what may be used or spent is used up, for another `retry_after` seconds.
    pub(crate) fn quota_exceeded(message: impl Into<String>, retry_after: u64) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Code::QuotaExceeded, message) }
    }

    /// 503, worth another try after `retry_after` seconds.
    pub(crate) fn unavailable(message: impl Into<String>, retry_after: u64) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Code::Unavailable, message) }
    }

    /// 500; the cause is logged, never sent.
    pub(crate) fn internal(source: impl Into<anyhow::Error>) -> Self {
        let message = "Something went wrong on our side; the request id helps us to find it";
        Self { source: Some(source.into()), ..Self::new(Code::Internal, message) }
    }

    /// The same error about one field.
    #[must_use]
    pub(crate) fn with_field(mut self, field: &str, message: impl Into<String>) -> Self {
        self.details.push(Detail::new(field, message));
        self
    }

    /// The same error, worth another try after so many seconds.
    #[must_use]
    pub(crate) fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same error with what went wrong inside, for the log.
    #[must_use]
    pub(crate) fn because(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Its code.
    pub(crate) const fn code(&self) -> Code {
        self.code
    }

    /// What it tells people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Seconds until it is worth trying again.
    pub(crate) const fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// The invalid fields.
    pub(crate) fn details(&self) -> &[Detail] {
        &self.details
    }

    /// What went wrong inside.
    pub(crate) const fn cause(&self) -> Option<&anyhow::Error> {
        self.source.as_ref()
    }

    /// The whole answer.
    pub(crate) fn render(&self, request_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.code.status());
        for (name, value) in self.headers() {
            response.insert_header((name, value));
        }
        response.json(self.body(request_id))
    }

    /// The body alone.
    pub(crate) fn body(&self, request_id: &str) -> ErrorBody {
        ErrorBody {
            error: ErrorObject {
                code: self.code,
                message: self.message.clone(),
                details: self.details.clone(),
                request_id: request_id.to_owned(),
                timestamp: Time::now(),
                retry_after: self.retry_after.filter(|_| self.code.status() == StatusCode::TOO_MANY_REQUESTS),
            },
        }
    }

    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let retry_after = self.retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds)));
        let allow = self.allow.as_deref().and_then(|methods| HeaderValue::from_str(methods).ok());
        // without it a client may not take a 401 for what it is (RFC 9110, section 15.5.2)
        let challenge = (self.code == Code::AuthenticationRequired)
            .then(|| (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"atelier\"")));
        retry_after.into_iter().chain(allow.map(|methods| (ALLOW, methods))).chain(challenge)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)?;
        self.details.iter().try_for_each(|detail| write!(f, "; {}: {}", detail.field, detail.message))
    }
}

impl std::error::Error for ApiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    /// Only the status: `edge` writes the answer, because only it knows the request id.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.code.status())
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let lost = matches!(
            error,
            QueryError::DatabaseError(DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection, _)
                | QueryError::BrokenTransactionManager
        );
        if lost { database_away().because(error) } else { Self::internal(error) }
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        database_away().because(anyhow::anyhow!("no connection to PostgreSQL: {error}"))
    }
}

fn database_away() -> ApiError {
    ApiError::unavailable("The database cannot be reached at the moment; try again", 2)
}

/// The name of the unique constraint or index that a statement violated.
pub(crate) fn violated(error: &QueryError) -> Option<&str> {
    if let QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, details) = error {
        details.constraint_name()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use serde_json::Value;

    fn body(error: &ApiError) -> Value {
        serde_json::to_value(error.body("request-1")).unwrap()["error"].take()
    }

    #[test]
    fn a_body_has_all_five_keys_even_if_there_is_nothing_to_list() {
        let body = body(&ApiError::not_found("Product"));
        let mut keys: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "details", "message", "request_id", "timestamp"]);
        assert_eq!(body["code"], "RESOURCE_NOT_FOUND");
        assert_eq!(body["request_id"], "request-1");
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn the_cause_is_kept_for_the_log_and_never_sent() {
        let error = ApiError::internal(anyhow::anyhow!("password of the database is hunter2"));
        assert!(!body(&error).to_string().contains("hunter2"));
        assert!(error.cause().unwrap().to_string().contains("hunter2"));
    }

    #[test]
    fn unavailability_says_when_to_come_back() {
        let error = ApiError::unavailable("not now", 7);
        assert_eq!(error.render("r").headers().get(RETRY_AFTER).unwrap(), "7");
        assert!(body(&error).get("retry_after").is_none(), "the body carries it with 429 only");
        let limited = ApiError { retry_after: Some(9), ..ApiError::new(Code::RateLimited, "slow down") };
        assert_eq!(body(&limited)["retry_after"], 9);
    }
}
