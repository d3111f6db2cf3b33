//! The mails: what each of them has to say. The words are in the templates of the worker.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// One mail, without its words. A new mail starts here: add a variant, then follow the compiler.
///
/// Some hold links that open an account: its `Debug` is the name of its template.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "letter", rename_all = "snake_case")]
pub enum Letter {
    /// Somebody is asked into an organization.
    Invitation {
        /// Its name.
        organization: String,
        /// Who asks.
        inviter: String,
        /// What the guest is to be.
        role: String,
        /// Where to accept; holds the token.
        accept_url: String,
        /// Until when.
        expires_at: DateTime<Utc>,
    },
    /// Somebody forgot the password.
    PasswordReset {
        /// Whose.
        name: String,
        /// Where to choose another one; holds the token.
        reset_url: String,
        /// Until when.
        expires_at: DateTime<Utc>,
    },
    /// The second factor was switched on or off.
    MfaChanged {
        /// Whose.
        name: String,
        /// On, or off.
        enabled: bool,
        /// When.
        at: DateTime<Utc>,
    },
    /// A batch or a run of a pipeline has ended.
    JobEnded {
        /// Whose.
        name: String,
        /// The job, or the execution.
        id: Uuid,
        /// For people: `Pipeline "Countries"`, `Batch of 12 images`.
        what: String,
        /// Whether it ended well.
        completed: bool,
        /// How long it took, in milliseconds.
        duration_ms: i64,
        /// Why it failed.
        error: Option<String>,
        /// With this one, as many notices were sent as are sent within an hour.
        last_for_now: bool,
    },
    /// Much of a quota is used.
    QuotaWarning {
        /// Whose.
        name: String,
        /// `daily`, `weekly`, `monthly`.
        quota_type: String,
        /// So many requests.
        used: i64,
        /// Of so many.
        limit: i64,
        /// 80, 90 or 100.
        percentage: i64,
        /// When it begins anew.
        resets_at: DateTime<Utc>,
    },
    /// A webhook was switched off.
    WebhookDisabled {
        /// Whose.
        name: String,
        /// The webhook.
        webhook_id: Uuid,
        /// What its owner calls it.
        webhook: String,
        /// Where it leads.
        url: String,
        /// For people.
        reason: String,
    },
}

impl Letter {
    /// The stored name of its template.
    pub const fn template(&self) -> &'static str {
        match self {
            Self::Invitation { .. } => "invitation",
            Self::PasswordReset { .. } => "password_reset",
            Self::MfaChanged { .. } => "mfa_changed",
            Self::JobEnded { .. } => "job_ended",
            Self::QuotaWarning { .. } => "quota_warning",
            Self::WebhookDisabled { .. } => "webhook_disabled",
        }
    }

    /// Whether it is a notice, which the receiver may unsubscribe from; other mails are part of what was asked for.
    pub const fn is_notice(&self) -> bool {
        match self {
            Self::Invitation { .. } | Self::PasswordReset { .. } | Self::MfaChanged { .. } => false,
            Self::JobEnded { .. } | Self::QuotaWarning { .. } | Self::WebhookDisabled { .. } => true,
        }
    }

    /// Until when what it asks for can be done; sent later it would only be a nuisance.
    pub const fn expires_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Invitation { expires_at, .. } | Self::PasswordReset { expires_at, .. } => Some(*expires_at),
            Self::MfaChanged { .. }
            | Self::JobEnded { .. }
            | Self::QuotaWarning { .. }
            | Self::WebhookDisabled { .. } => None,
        }
    }
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.template())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_does_not_print_its_link() {
        let letter = Letter::PasswordReset {
            name: "Ann".to_owned(),
            reset_url: "https://example.com/reset?token=hidden".to_owned(),
            expires_at: Utc::now(),
        };
        assert_eq!(format!("{letter:?}"), "password_reset");
    }
}
