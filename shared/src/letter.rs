//! The mails: what each of them has to say. The words are in the templates of the worker.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One mail, without its words. A new mail starts here: add a variant, then follow the compiler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}
