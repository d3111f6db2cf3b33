//! Schedules: the time tables by which pipelines run by themselves. The clock is that of Postgres, so that it does not
//! matter which host asks.

use super::{Pipeline, Tier};
use crate::{
    schema::{organizations, pipeline_schedules as schedules, pipelines},
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Nullable, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

text_enum! {
    /// What becomes of ticks that nobody was there for.
    #[derive(Default)]
    Missed {
        /// Nothing; the next tick is the first that lies ahead.
        #[default]
        Skip = "skip",
        /// One run makes up for all of them.
        RunOnce = "run_once",
    }
}

/// A schedule as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = schedules, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct PipelineSchedule {
    pub id: Uuid,
    pub pipeline_id: Uuid,
    pub organization_id: Uuid,
    pub created_by: Uuid,
    pub cron: String,
    pub timezone: String,
    pub inputs: Value,
    pub enabled: bool,
    pub missed: Missed,
    pub next_run_at: Option<DateTime<Utc>>,
    pub last_run_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A schedule to be made.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = schedules)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct NewSchedule {
    pub id: Uuid,
    pub pipeline_id: Uuid,
    pub organization_id: Uuid,
    pub created_by: Uuid,
    pub cron: String,
    pub timezone: String,
    pub inputs: Value,
    pub enabled: bool,
    pub missed: Missed,
    pub next_run_at: Option<DateTime<Utc>>,
}

/// A schedule whose tick has come, with what it is about.
#[derive(Debug, Clone)]
pub struct DueSchedule {
    /// The schedule, held by the transaction.
    pub schedule: PipelineSchedule,
    /// The tick.
    pub tick: DateTime<Utc>,
    /// The pipeline as it is now.
    pub pipeline: Pipeline,
    /// Its organization's.
    pub tier: Tier,
}

impl PipelineSchedule {
    /// The moment by the clock that ticks are compared with.
    pub async fn clock(conn: &mut AsyncPgConnection) -> QueryResult<DateTime<Utc>> {
        diesel::select(diesel::dsl::sql::<Timestamptz>("now()")).get_result(conn).await
    }

    /// Stores a schedule.
    pub async fn insert(conn: &mut AsyncPgConnection, schedule: &NewSchedule) -> QueryResult<Self> {
        diesel::insert_into(schedules::table).values(schedule).returning(Self::as_returning()).get_result(conn).await
    }

    /// The schedule, if it is one of this pipeline.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, pipeline_id: Uuid) -> QueryResult<Option<Self>> {
        schedules::table
            .filter(schedules::id.eq(id).and(schedules::pipeline_id.eq(pipeline_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// Like [`PipelineSchedule::find`], and holds the row until the transaction ends: no tick comes in between.
    pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid, pipeline_id: Uuid) -> QueryResult<Option<Self>> {
        schedules::table
            .filter(schedules::id.eq(id).and(schedules::pipeline_id.eq(pipeline_id)))
            .select(Self::as_select())
            .for_update()
            .first(conn)
            .await
            .optional()
    }

    /// Writes what may be changed of a schedule that the current transaction has locked.
    pub async fn save(&self, conn: &mut AsyncPgConnection) -> QueryResult<Self> {
        diesel::update(schedules::table.find(self.id))
            .set((
                schedules::cron.eq(&self.cron),
                schedules::timezone.eq(&self.timezone),
                schedules::inputs.eq(&self.inputs),
                schedules::enabled.eq(self.enabled),
                schedules::missed.eq(self.missed),
                schedules::next_run_at.eq(self.next_run_at),
                schedules::updated_at.eq(diesel::dsl::now),
            ))
            .returning(Self::as_returning())
            .get_result(conn)
            .await
    }

    /// Deletes a schedule of this pipeline; returns whether there was one.
    pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid, pipeline_id: Uuid) -> QueryResult<bool> {
        let schedule = schedules::table.filter(schedules::id.eq(id).and(schedules::pipeline_id.eq(pipeline_id)));
        Ok(diesel::delete(schedule).execute(conn).await? > 0)
    }

    /// Schedules whose tick has come, at most `limit`, with their pipelines, held until the transaction ends. Those that
    /// somebody else holds are left to them.
    ///
    /// They come in the order of their pipelines: whoever runs several touches these rows in one order.
    pub async fn lock_due(
        conn: &mut AsyncPgConnection,
        now: DateTime<Utc>,
        limit: i64,
    ) -> QueryResult<Vec<DueSchedule>> {
        let due: Vec<Self> = schedules::table
            .filter(schedules::enabled.and(schedules::next_run_at.le(now)))
            .order(schedules::next_run_at)
            .limit(limit)
            .select(Self::as_select())
            .for_update()
            .skip_locked()
            .load(conn)
            .await?;
        let ids: Vec<Uuid> = due.iter().map(|schedule| schedule.pipeline_id).collect();
        let found: Vec<(Pipeline, Tier)> = pipelines::table
            .inner_join(organizations::table.on(organizations::id.eq(pipelines::organization_id)))
            .filter(pipelines::id.eq_any(ids))
            .select((Pipeline::as_select(), organizations::subscription_tier))
            .load(conn)
            .await?;
        let pipelines: HashMap<Uuid, (Pipeline, Tier)> = found.into_iter().map(|found| (found.0.id, found)).collect();
        let mut due: Vec<_> = due
            .into_iter()
            .filter_map(|schedule| {
                let (pipeline, tier) = pipelines.get(&schedule.pipeline_id)?.clone();
                Some(DueSchedule { tick: schedule.next_run_at?, schedule, pipeline, tier })
            })
            .collect();
        due.sort_by_key(|due| (due.pipeline.id, due.tick));
        Ok(due)
    }

    /// Notes that a tick was dealt with: when the next one comes, and, if it was run, that it was.
    pub async fn advance(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        next_run_at: Option<DateTime<Utc>>,
        ran: bool,
    ) -> QueryResult<()> {
        let schedule = diesel::update(schedules::table.find(id));
        let next = schedules::next_run_at.eq(next_run_at);
        if ran {
            let now = diesel::dsl::sql::<Nullable<Timestamptz>>("now()");
            schedule.set((next, schedules::last_run_at.eq(now))).execute(conn).await?;
        } else {
            schedule.set(next).execute(conn).await?;
        }
        Ok(())
    }
}
