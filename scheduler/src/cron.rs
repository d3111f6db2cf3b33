//! cron: runs pipelines by their schedules.
//!
//! A tick, its execution and its job are written together with the next tick, while the schedule's row is held; a unique
//! index over schedule and tick stands behind that. So each tick has one run, whoever leads and however often this is cut
//! off. The clock is that of Postgres.

use crate::Context;
use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use shared::{
    kind::Kind,
    models::{DueSchedule, Execution, Missed, NewExecution, PipelineSchedule, PipelineStatus},
    queue::Ticket,
    schedule::Timetable,
};

/// Schedules per transaction. Pipelines are read whole, and may be large.
const PAGE: i64 = 20;

/// Transactions per turn; what is left has the next one.
const PAGES: usize = 500;

/// How late a tick may be beyond the pace of this chore and still count as met: as long as a change of leaders takes, and
/// some more.
const GRACE: TimeDelta = TimeDelta::seconds(60);

/// What is to be done about a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decision {
    /// Whether the pipeline runs for it.
    run: bool,
    /// The tick after it; may lie in the past, and is met then in the same turn.
    next: Option<DateTime<Utc>>,
}

pub(crate) async fn turn(context: &Context) -> Result<u64> {
    let pace = TimeDelta::from_std(context.config.pace.cron).unwrap_or(GRACE);
    let mut conn = context.pool.get().await.context("no connection to PostgreSQL")?;
    let mut count = 0;
    for _ in 0..PAGES {
        let (found, tickets) = conn.transaction(async |conn| tick(conn, GRACE + pace).await).await?;
        // from here on Redis only makes it fast: what is lost is found by requeue
        if let Err(error) = context.queue(Kind::PipelineRun.queue()).push(&tickets).await {
            tracing::debug!("scheduled runs were not pushed: {error}");
        }
        count += tickets.len() as u64;
        if found == 0 {
            break;
        }
    }
    Ok(count)
}

/// Deals with the ticks of one page; returns how many there were, and what Redis is to be told.
async fn tick(conn: &mut AsyncPgConnection, grace: TimeDelta) -> Result<(usize, Vec<Ticket>), QueryError> {
    let now = PipelineSchedule::clock(conn).await?;
    let due = PipelineSchedule::lock_due(conn, now, PAGE).await?;
    let (found, mut tickets) = (due.len(), Vec::new());
    for due in due {
        let id = due.schedule.id;
        let Ok(timetable) = Timetable::read(&due.schedule.cron, &due.schedule.timezone) else {
            // it was checked when it was stored: the time zone database has changed since
            tracing::warn!(schedule = %id, "a schedule cannot be read any more and rests");
            PipelineSchedule::advance(conn, id, None, false).await?;
            continue;
        };
        let Decision { run, next } = decide(&timetable, &due, now, grace);
        let ticket = if run { start(conn, due).await? } else { None };
        PipelineSchedule::advance(conn, id, next, ticket.is_some()).await?;
        tickets.extend(ticket);
    }
    Ok((found, tickets))
}

fn decide(timetable: &Timetable, due: &DueSchedule, now: DateTime<Utc>, grace: TimeDelta) -> Decision {
    let runnable = match due.pipeline.status {
        PipelineStatus::Draft | PipelineStatus::Published => true,
        PipelineStatus::Archived => false,
    };
    let missed = now - due.tick > grace;
    if !runnable || missed {
        let run = runnable && due.schedule.missed == Missed::RunOnce;
        return Decision { run, next: timetable.next_after(now) };
    }
    Decision { run: true, next: timetable.next_after(due.tick) }
}

/// Accepts the run of a tick. `None`: the tick has had its run.
async fn start(conn: &mut AsyncPgConnection, due: DueSchedule) -> Result<Option<Ticket>, QueryError> {
    let DueSchedule { schedule, tick, pipeline, tier } = due;
    let new = NewExecution {
        user_id: schedule.created_by,
        organization_id: schedule.organization_id,
        weight: tier.weight(),
        pipeline_id: pipeline.id,
        pipeline_name: pipeline.name,
        nodes: pipeline.nodes,
        connections: pipeline.connections,
        inputs: schedule.inputs,
        webhook_url: None,
        webhook_secret: None,
        awaited: false,
        retry_of: None,
        tick: Some((schedule.id, tick)),
        cost_limit_nanos: None,
        token_limit: None,
    };
    // a transaction within the transaction: if the tick has had its run, only this is undone
    match conn.transaction(async |conn| Execution::start(conn, new).await).await {
        Ok(started) => Ok(Some(started.ticket)),
        Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, details))
            if details.constraint_name() == Some("executions_tick_key") =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
