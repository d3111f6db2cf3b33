//! The table of error codes. A new code is a line here.

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

macro_rules! codes {
    // the word is a `tt`, because the derive of utoipa does not look into a `literal`
    ($($(#[$doc:meta])* $variant:ident = $word:tt $status:literal),+ $(,)?) => {
        /// The code of an error; clients decide by it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        pub(crate) enum Code { $($(#[$doc])* #[serde(rename = $word)] $variant),+ }

        impl Code {
            /// Every code.
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it is written in a body.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The HTTP status that goes with it.
            pub(crate) fn status(self) -> StatusCode {
                let status: u16 = match self { $(Self::$variant => $status),+ };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    };
}

codes! {
    /// Malformed or invalid input: body, query, upload.
    Validation = "VALIDATION_ERROR" 400,
    /// No valid credentials.
    AuthenticationRequired = "AUTHENTICATION_REQUIRED" 401,
    /// Wrong email or password.
    InvalidCredentials = "INVALID_CREDENTIALS" 401,
    /// The password is right; the code of the second factor is missing, wrong, or was used before.
    MfaRequired = "MFA_REQUIRED" 401,
    /// The role or the key does not allow it.
    InsufficientPermissions = "INSUFFICIENT_PERMISSIONS" 403,
    /// It does not exist, or is not the caller's.
    NotFound = "RESOURCE_NOT_FOUND" 404,
    /// The path exists, but not for this method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED" 405,
    /// It exists already, or its state forbids this.
    Conflict = "CONFLICT" 409,
    /// A run that somebody waited for failed in a node.
    PipelineFailed = "PIPELINE_EXECUTION_FAILED" 422,
    /// Well-formed, but impossible.
    Unprocessable = "UNPROCESSABLE_ENTITY" 422,
    /// Too much of something at once.
    RateLimited = "RATE_LIMIT_EXCEEDED" 429,
    /// What may be used in a window of time, or spent in a month, is used up.
    QuotaExceeded = "QUOTA_EXCEEDED" 429,
    /// Our fault.
    Internal = "INTERNAL_ERROR" 500,
    /// A language model or its provider failed.
    AiService = "AI_SERVICE_ERROR" 502,
    /// Another system that we need for this failed.
    Integration = "INTEGRATION_ERROR" 502,
    /// Not now: starting, stopping, or something that we depend on is down.
    Unavailable = "SERVICE_UNAVAILABLE" 503,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn codes_are_unique_and_are_errors() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(Code::ALL.iter().all(|code| code.status().is_client_error() || code.status().is_server_error()));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
    }

    #[test]
    fn the_description_has_the_words_of_the_bodies() {
        let schema = serde_json::to_value(<Code as utoipa::PartialSchema>::schema()).unwrap();
        let words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(schema["enum"], serde_json::json!(words));
    }
}
