//! How far jobs are: what whoever follows many of them looks at again and again.

use super::JobStatus;
use crate::schema::jobs;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::HashMap;
use uuid::Uuid;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobHead {
    /// Where it stands.
    pub status: JobStatus,
    /// Number of its newest event; 0 if it has none.
    pub last_seq: i32,
}

impl JobHead {
    /// How far these jobs are. Those that are not there are not in the answer.
    pub async fn list(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<HashMap<Uuid, Self>> {
        let found: Vec<(Uuid, JobStatus, i32)> = jobs::table
            .filter(jobs::id.eq_any(ids))
            .select((jobs::id, jobs::status, jobs::last_seq))
            .load(conn)
            .await?;
        Ok(found.into_iter().map(|(id, status, last_seq)| (id, Self { status, last_seq })).collect())
    }
}
