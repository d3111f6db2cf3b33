//! What is read about orchestrations: rows of lists, and how long phases take.

use super::{JobStatus, Orchestration};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::HashMap;
use uuid::Uuid;

/// Orchestrations that an estimate looks at.
const SAMPLE: i64 = 50;

/// An orchestration in a list.
#[derive(Debug, Clone, QueryableByName)]
#[expect(missing_docs, reason = "the columns are explained in the migrations that make them")]
pub struct OrchestrationRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub project_id: Uuid,
    #[diesel(sql_type = Text)]
    pub project_name: String,
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Text)]
    pub status: JobStatus,
    #[diesel(sql_type = Double)]
    pub success_rate: f64,
    #[diesel(sql_type = BigInt)]
    pub execution_time_ms: i64,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// How long phases took lately, in milliseconds: the middle of each name, and of all together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PhaseDurations {
    by_name: HashMap<String, f64>,
    of_all: Option<f64>,
}

#[derive(QueryableByName)]
struct Median {
    #[diesel(sql_type = Nullable<Text>)]
    phase: Option<String>,
    #[diesel(sql_type = Nullable<Double>)]
    ms: Option<f64>,
}

impl OrchestrationRow {
    /// From where, as `r`: its fields and `organization_id`. The rate is in per cent of the phases attempted, the time in
    /// milliseconds and, of one that runs, up to now.
    pub const FROM: &str = "( \
        SELECT o.id, o.organization_id, o.project_id, p.name AS project_name, o.topic, j.status, o.created_at, \
            (CASE WHEN o.completed_phases + o.failed_phases = 0 THEN 0 \
                ELSE 100.0 * o.completed_phases / (o.completed_phases + o.failed_phases) END)::float8 AS success_rate, \
            COALESCE((extract(epoch FROM COALESCE(j.finished_at, now()) - j.started_at) * 1000)::bigint, 0) \
                AS execution_time_ms \
        FROM orchestrations o JOIN jobs j ON j.id = o.id JOIN projects p ON p.id = o.project_id \
    ) r";
}

impl PhaseDurations {
    /// Of the latest orchestrations of an organization, in one query.
    pub async fn load(conn: &mut AsyncPgConnection, organization_id: Uuid) -> QueryResult<Self> {
        let medians: Vec<Median> = diesel::sql_query(
            "WITH recent AS ( \
                 SELECT id, phases FROM orchestrations WHERE organization_id = $1 \
                 ORDER BY created_at DESC, id DESC LIMIT $2 \
             ), took AS ( \
                 SELECT recent.phases[substring(s.name FROM 7)::int + 1] AS phase, s.duration_ms::float8 AS ms \
                 FROM recent JOIN job_steps s ON s.job_id = recent.id AND s.item = $3 \
                 WHERE s.name LIKE 'phase\\_%' AND s.status = 'completed' AND s.attempt > 0 \
             ) \
             SELECT phase, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms FROM took \
             GROUP BY GROUPING SETS ((phase), ())",
        )
        .bind::<SqlUuid, _>(organization_id)
        .bind::<BigInt, _>(SAMPLE)
        .bind::<SqlUuid, _>(Uuid::nil())
        .load(conn)
        .await?;
        let mut durations = Self::default();
        for Median { phase, ms } in medians {
            match (phase, ms) {
                (Some(phase), Some(ms)) => drop(durations.by_name.insert(phase, ms)),
                (None, ms) => durations.of_all = ms,
                (Some(_), None) => {}
            }
        }
        Ok(durations)
    }

    /// How long a phase of this name will take, in milliseconds. `None`: nothing is known about any phase.
    pub fn of(&self, name: &str) -> Option<f64> {
        self.by_name.get(name).copied().or(self.of_all)
    }
}

impl Orchestration {
    /// How long it took in milliseconds; if it runs, up to now.
    pub fn execution_time_ms(started_at: Option<DateTime<Utc>>, finished_at: Option<DateTime<Utc>>) -> i64 {
        started_at.map_or(0, |from| (finished_at.unwrap_or_else(Utc::now) - from).num_milliseconds().max(0))
    }
}
