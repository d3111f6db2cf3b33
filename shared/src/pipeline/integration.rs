//! What orchestrations do outside of models. Nodes of this kind are made by [`crate::orchestration`] and by nobody else.

use crate::text_enum::text_enum;

text_enum! {
    /// The kinds of operation, as clients see them.
    OperationType {
        /// A file of the run.
        FileSystem = "file_system",
        /// A commit in the project's repository.
        GitOperations = "git_operations",
        /// A call of the deploy hook.
        Deployment = "deployment",
    }
}

/// One operation of an orchestration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Integration {
    /// Keeps the text of this phase as a file.
    File(usize),
    /// Commits that file to the project's repository.
    Commit(usize),
    /// Keeps a summary of all phases as a file, for the integration of this name.
    Summary(String),
    /// Tells the deploy hook that everything is there.
    Deployment,
}

impl Integration {
    /// Its kind.
    pub const fn operation_type(&self) -> OperationType {
        match self {
            Self::File(_) | Self::Summary(_) => OperationType::FileSystem,
            Self::Commit(_) => OperationType::GitOperations,
            Self::Deployment => OperationType::Deployment,
        }
    }

    /// The phase that it belongs to; none: it follows the last one.
    pub const fn phase(&self) -> Option<usize> {
        match self {
            Self::File(phase) | Self::Commit(phase) => Some(*phase),
            Self::Summary(_) | Self::Deployment => None,
        }
    }
}
