//! The end of a project.

use super::{Project, StoppedJobs};
use crate::schema::projects;
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

impl Project {
    /// Deletes a project of this organization with what belongs to it, in one transaction. `None`: there is no such
    /// project.
    pub async fn delete(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Option<StoppedJobs>> {
        conn.transaction(async |conn| {
            let held = Self::hold(conn, id, organization_id).await?;
            if held.is_none() {
                return Ok(None);
            }
            diesel::delete(projects::table.find(id)).execute(conn).await?;
            Ok(Some(StoppedJobs::default()))
        })
        .await
    }
}
