//! The end of a project: its orchestrations are stopped and go with it, and so does everything they have left.

use super::{Ending, Job, JobStatus, Project, StoppedJobs};
use crate::schema::{jobs, orchestrations, projects};
use diesel::{
    prelude::*,
    sql_types::{Array, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Objects of jobs and files that go: what steps have left, and the files that orchestrations have written.
const NOTE_OBJECTS: &str = "WITH gone AS ( \
        DELETE FROM files WHERE orchestration_id = ANY($1) RETURNING s3_key \
    ) \
    INSERT INTO object_deletions (key) \
    SELECT s3_key FROM gone \
    UNION SELECT result ->> 'object' FROM job_steps \
        WHERE job_id = ANY($1) AND result ->> 'object' LIKE 'executions/' || job_id || '/%' \
    UNION SELECT s3_key FROM project_repositories WHERE project_id = $2 \
    ON CONFLICT DO NOTHING";

impl Project {
    /// The project, if it belongs to this organization; it cannot be deleted before the transaction ends.
    pub async fn hold(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        projects::table
            .filter(projects::id.eq(id).and(projects::organization_id.eq(organization_id)))
            .select(Self::as_select())
            .for_key_share()
            .first(conn)
            .await
            .optional()
    }

    /// Deletes a project of this organization in one transaction: stops its open orchestrations, deletes all of them with
    /// their files and the repository, and leaves the objects to the scheduler. `None`: there is no such project.
    ///
    /// An attempt that runs holds the row of its job before it touches the project, so the jobs are locked before the
    /// project is. An orchestration that was accepted in between is found afterwards.
    pub async fn delete(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Option<StoppedJobs>> {
        conn.transaction(async |conn| {
            if Self::find(conn, id, organization_id).await?.is_none() {
                return Ok(None);
            }
            let mut stopped = StoppedJobs::default();
            stop_open(conn, id, &mut stopped).await?;
            let held = projects::table.find(id).select(projects::id).for_update();
            if held.first::<Uuid>(conn).await.optional()?.is_none() {
                return Ok(None);
            }
            stop_open(conn, id, &mut stopped).await?;
            let runs: Vec<Uuid> = orchestrations::table
                .filter(orchestrations::project_id.eq(id))
                .order(orchestrations::id)
                .select(orchestrations::id)
                .load(conn)
                .await?;
            diesel::sql_query(NOTE_OBJECTS)
                .bind::<Array<SqlUuid>, _>(&runs)
                .bind::<SqlUuid, _>(id)
                .execute(conn)
                .await?;
            diesel::delete(jobs::table.filter(jobs::id.eq_any(runs))).execute(conn).await?;
            diesel::delete(projects::table.find(id)).execute(conn).await?;
            Ok(Some(stopped))
        })
        .await
    }
}

/// Ends the orchestrations that are open, also those that run: their workers find that they hold nothing any more. In the
/// order of their ids, so that two transactions which stop them cannot block each other.
async fn stop_open(conn: &mut AsyncPgConnection, project_id: Uuid, stopped: &mut StoppedJobs) -> QueryResult<()> {
    let of_project = orchestrations::table.filter(orchestrations::project_id.eq(project_id)).select(orchestrations::id);
    let open: Vec<Job> = jobs::table
        .filter(jobs::id.eq_any(of_project))
        .filter(jobs::status.eq_any([JobStatus::Queued, JobStatus::Running]))
        .order(jobs::id)
        .select(Job::as_select())
        .for_update()
        .load(conn)
        .await?;
    for job in open {
        stopped.ended.push(job.end(conn, Ending::Cancelled).await?);
        if job.status == JobStatus::Running {
            stopped.running.push(job.id);
        }
    }
    Ok(())
}
