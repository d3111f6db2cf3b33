//! What webhooks can be told.

use crate::text_enum::text_enum;

text_enum! {
    /// An event by the name that clients subscribe to.
    WebhookEvent {
        /// A language model has answered.
        AiTaskCompleted = "ai.task.completed",
        /// A language model has not answered.
        AiTaskFailed = "ai.task.failed",
        /// Much of a quota is used.
        QuotaWarning = "quota.warning",
        /// An orchestration has begun.
        OrchestrationStarted = "orchestration.started",
        /// An orchestration has ended well.
        OrchestrationCompleted = "orchestration.completed",
        /// An orchestration has ended badly.
        OrchestrationFailed = "orchestration.failed",
        /// An orchestration was stopped.
        OrchestrationCancelled = "orchestration.cancelled",
        /// A run of a pipeline has ended well.
        ExecutionCompleted = "execution.completed",
        /// A run of a pipeline has ended badly.
        ExecutionFailed = "execution.failed",
        /// An image analysis has ended well.
        JobCompleted = "job.completed",
        /// An image analysis has ended badly.
        JobFailed = "job.failed",
        /// Sent on request; nobody subscribes to it.
        Test = "webhook.test",
    }
}

/// Who hears of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The webhooks of the user concerned.
    User,
    /// All webhooks of the organization.
    Organization,
}

impl WebhookEvent {
    /// Who hears of it.
    pub const fn audience(self) -> Audience {
        match self {
            Self::AiTaskCompleted
            | Self::AiTaskFailed
            | Self::QuotaWarning
            | Self::JobCompleted
            | Self::JobFailed
            | Self::Test => Audience::User,
            Self::OrchestrationStarted
            | Self::OrchestrationCompleted
            | Self::OrchestrationFailed
            | Self::OrchestrationCancelled
            | Self::ExecutionCompleted
            | Self::ExecutionFailed => Audience::Organization,
        }
    }

    /// Whether clients may subscribe to it.
    pub const fn is_subscribable(self) -> bool {
        !matches!(self, Self::Test)
    }
}
