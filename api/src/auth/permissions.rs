//! What an API key may be allowed. `write` does not imply `read`.

macro_rules! permissions {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// A permission of an API key.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Permission { $($(#[$doc])* $variant),+ }

        impl Permission {
            /// Every word that a key may be made with.
            pub(crate) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The permission of this name.
            pub(crate) fn find(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// As clients write it.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Whether a key with these permissions has this one.
            pub(crate) fn is_among(self, granted: &[String]) -> bool {
                granted.iter().any(|word| word == self.as_str() || word == Self::All.as_str())
            }
        }
    };
}

permissions! {
    /// Models and the chat's history.
    AiRead = "ai:read",
    /// Asking models, the sockets of them, clearing the history.
    AiWrite = "ai:write",
    /// Usage, analytics, the dashboard.
    UsageRead = "usage:read",
    /// Webhooks and their deliveries.
    WebhooksRead = "webhooks:read",
    /// Making and changing webhooks.
    WebhooksWrite = "webhooks:write",
    /// Pipelines and executions.
    PipelinesRead = "pipelines:read",
    /// Making, changing and deleting pipelines.
    PipelinesWrite = "pipelines:write",
    /// Running them and stopping runs.
    PipelinesExecute = "pipelines:execute",
    /// Projects.
    ProjectsRead = "projects:read",
    /// Making, changing and deleting projects.
    ProjectsWrite = "projects:write",
    /// Orchestration runs.
    OrchestrationRead = "orchestration:read",
    /// Starting and stopping them.
    OrchestrationWrite = "orchestration:write",
    /// Templates.
    TemplatesRead = "templates:read",
    /// Making, changing and deleting templates.
    TemplatesWrite = "templates:write",
    /// Files.
    FilesRead = "files:read",
    /// Uploading and deleting files.
    FilesWrite = "files:write",
    /// Products and their images.
    ProductsRead = "products:read",
    /// Making, changing and deleting them; uploads.
    ProductsWrite = "products:write",
    /// Analyses, batches, jobs.
    AnalysisRead = "analysis:read",
    /// Batches, trying again, cancelling.
    AnalysisWrite = "analysis:write",
    /// The organization and its members.
    OrganizationRead = "organization:read",
    /// All of the others.
    All = "*",
}
