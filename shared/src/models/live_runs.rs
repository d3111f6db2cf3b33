//! Runs that somebody may be watching: executions of pipelines and orchestrations of projects, as far as whoever relays
//! their events needs to know them.

use super::{Execution, NewExecution, Orchestration};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Newest runs of one user, or of one place, among which the open ones are looked for.
const NEWEST: i64 = 100;

/// What a run belongs to; its watchers gather there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LivePlace {
    /// Of which it is an execution.
    Pipeline(Uuid),
    /// Of which it is an orchestration.
    Project(Uuid),
}

/// A run that is open, or has just ended.
#[derive(Debug, Clone)]
pub struct LiveRun {
    /// The run, and its job.
    pub id: Uuid,
    /// The tenant.
    pub organization_id: Uuid,
    /// Who has started it.
    pub user_id: Uuid,
    /// Where.
    pub place: LivePlace,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Before it begins.
impl From<&Execution> for LiveRun {
    fn from(execution: &Execution) -> Self {
        let Execution { id, organization_id, user_id, pipeline_id, .. } = *execution;
        let place = LivePlace::Pipeline(pipeline_id);
        Self { id, organization_id, user_id, place, started_at: None, finished_at: None }
    }
}

/// Before it begins.
impl From<&NewExecution> for LiveRun {
    fn from(new: &NewExecution) -> Self {
        let NewExecution { id, organization_id, user_id, pipeline_id, .. } = *new;
        let place = LivePlace::Pipeline(pipeline_id);
        Self { id, organization_id, user_id, place, started_at: None, finished_at: None }
    }
}

/// Before it begins.
impl From<&Orchestration> for LiveRun {
    fn from(orchestration: &Orchestration) -> Self {
        let Orchestration { id, organization_id, user_id, project_id, .. } = *orchestration;
        let place = LivePlace::Project(project_id);
        Self { id, organization_id, user_id, place, started_at: None, finished_at: None }
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    organization_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pipeline_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    project_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    finished_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Clock {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    full_name: String,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

/// Both kinds of runs, with what a [`Row`] takes from them.
const RUNS: &str = "(SELECT id, organization_id, user_id, pipeline_id, NULL::uuid AS project_id FROM executions \
                     UNION ALL \
                     SELECT id, organization_id, user_id, NULL, project_id FROM orchestrations)";

const COLUMNS: &str = "r.id, r.organization_id, r.user_id, r.pipeline_id, r.project_id, j.started_at, j.finished_at";

impl LivePlace {
    /// The moment by the clock that ends of runs are compared with, if the place belongs to this organization.
    pub async fn find(self, conn: &mut AsyncPgConnection, organization_id: Uuid) -> QueryResult<Option<DateTime<Utc>>> {
        let (table, id) = match self {
            Self::Pipeline(id) => ("pipelines", id),
            Self::Project(id) => ("projects", id),
        };
        let found = diesel::sql_query(format!("SELECT now() FROM {table} WHERE id = $1 AND organization_id = $2"))
            .bind::<SqlUuid, _>(id)
            .bind::<SqlUuid, _>(organization_id)
            .get_result::<Clock>(conn)
            .await
            .optional()?;
        Ok(found.map(|clock| clock.now))
    }
}

impl LiveRun {
    /// The name of a watcher, and the moment by the clock that ends of runs are compared with.
    pub async fn find_watcher(
        conn: &mut AsyncPgConnection,
        user_id: Uuid,
    ) -> QueryResult<Option<(String, DateTime<Utc>)>> {
        let found = diesel::sql_query("SELECT full_name, now() FROM users WHERE id = $1")
            .bind::<SqlUuid, _>(user_id)
            .get_result::<Named>(conn)
            .await
            .optional()?;
        Ok(found.map(|found| (found.full_name, found.now)))
    }

    /// Runs of these organizations that are running, or have ended since the last look (or a moment ago, if there was
    /// none) and `overlap` before it; at most `limit`. With the moment at which was looked, by the same clock.
    pub async fn list(
        conn: &mut AsyncPgConnection,
        organizations: &[Uuid],
        since: Option<DateTime<Utc>>,
        overlap: TimeDelta,
        limit: i64,
    ) -> QueryResult<(DateTime<Utc>, Vec<Self>)> {
        let Clock { now } = diesel::sql_query("SELECT now()").get_result(conn).await?;
        let kinds = "j.kind IN ('pipeline_run', 'orchestration') AND j.organization_id = ANY($1)";
        let runs = diesel::sql_query(format!(
            "SELECT {COLUMNS} FROM ( \
                 SELECT j.id, j.started_at, j.finished_at FROM jobs j WHERE j.status = 'running' AND {kinds} \
                 UNION ALL \
                 SELECT j.id, j.started_at, j.finished_at FROM jobs j \
                 WHERE j.status IN ('completed', 'failed', 'cancelled') AND j.finished_at >= $2 AND {kinds} \
             ) j JOIN {RUNS} r ON r.id = j.id LIMIT $3",
        ))
        .bind::<Array<SqlUuid>, _>(organizations)
        .bind::<Timestamptz, _>(since.unwrap_or(now) - overlap)
        .bind::<BigInt, _>(limit)
        .load::<Row>(conn)
        .await?;
        Ok((now, runs.into_iter().filter_map(Row::into_run).collect()))
    }

    /// Open runs of a user in an organization, among the newest.
    pub async fn list_of_user(
        conn: &mut AsyncPgConnection,
        user_id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Vec<Self>> {
        let newest =
            |table: &str| format!("(SELECT id FROM {table} WHERE user_id = $1 ORDER BY created_at DESC LIMIT $3)");
        let sources = format!("{} UNION ALL {}", newest("executions"), newest("orchestrations"));
        list_open(conn, &sources, user_id, organization_id).await
    }

    /// Open runs at a place of an organization, among the newest.
    pub async fn list_of_place(
        conn: &mut AsyncPgConnection,
        place: LivePlace,
        organization_id: Uuid,
    ) -> QueryResult<Vec<Self>> {
        let (table, column, id) = match place {
            LivePlace::Pipeline(id) => ("executions", "pipeline_id", id),
            LivePlace::Project(id) => ("orchestrations", "project_id", id),
        };
        let source = format!("SELECT id FROM {table} WHERE {column} = $1 ORDER BY created_at DESC, id DESC LIMIT $3");
        list_open(conn, &source, id, organization_id).await
    }
}

async fn list_open(
    conn: &mut AsyncPgConnection,
    newest: &str,
    of: Uuid,
    organization_id: Uuid,
) -> QueryResult<Vec<LiveRun>> {
    let runs = diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM ({newest}) newest JOIN jobs j ON j.id = newest.id JOIN {RUNS} r ON r.id = j.id \
         WHERE j.status IN ('queued', 'running') AND r.organization_id = $2",
    ))
    .bind::<SqlUuid, _>(of)
    .bind::<SqlUuid, _>(organization_id)
    .bind::<BigInt, _>(NEWEST)
    .load::<Row>(conn)
    .await?;
    Ok(runs.into_iter().filter_map(Row::into_run).collect())
}

impl Row {
    fn into_run(self) -> Option<LiveRun> {
        let Self { id, organization_id, user_id, pipeline_id, project_id, started_at, finished_at } = self;
        let place = pipeline_id.map(LivePlace::Pipeline).or(project_id.map(LivePlace::Project))?;
        Some(LiveRun { id, organization_id, user_id, place, started_at, finished_at })
    }
}
