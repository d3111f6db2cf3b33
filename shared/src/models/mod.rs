//! The tables: a file each, with the row, what is inserted, and the queries. Query functions take a connection first
//! and return `QueryResult`; `find_*` may find nothing, `get_*` fails then.

mod analyses;
mod budgets;
mod chat_entries;
mod executions;
mod job_claims;
mod job_ends;
mod job_events;
mod job_images;
mod job_steps;
mod job_upkeep;
mod jobs;
mod llm_calls;
mod login_sessions;
mod object_deletions;
mod organizations;
mod pipelines;
mod product_images;
mod products;
mod storable;
mod usage_records;
mod users;

pub use analyses::{Analysis, AnalysisStatus, Attribute, Defect, Findings, Severity};
pub use budgets::Budget;
pub use executions::{Execution, NewExecution, StartedExecution};
pub use job_claims::Pulse;
pub use job_ends::{Ending, Failure, Finish};
pub use job_events::JobEvent;
pub use job_images::{ImageOutcome, JobImage, StepSum};
pub use job_steps::{JobStep, NewStep, StepChange, StepKey, StepStatus};
pub use job_upkeep::Rescued;
pub use jobs::{Cancelled, Job, JobStatus, NewJob, Waiting};
pub use llm_calls::{CallStatus, Closing, LlmCall, Outgoing, Reserved};
pub use login_sessions::{LoginSession, Redeemed, SessionHolder};
pub use object_deletions::ObjectDeletion;
pub use organizations::{Organization, Role, Tier};
pub use pipelines::{Pipeline, PipelineStatus};
pub use product_images::{NewProductImage, ProductImage, UploadStatus};
pub use products::{NewProduct, Product, ProductChanges, ProductStatus, StoppedJobs};
pub use users::{Account, NewUser, User, UserChange};
