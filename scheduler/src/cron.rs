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
    limits::Limits,
    models::{
        DueSchedule, Ended, Execution, Failure, LiveRun, Missed, NewExecution, PipelineSchedule, PipelineStatus, Quota,
        QuotaExceeded,
    },
    queue::Ticket,
    schedule::Timetable,
};
use uuid::Uuid;

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
        let Ticked { found, tickets, ended, announced } =
            conn.transaction(async |conn| tick(conn, &context.config.limits, GRACE + pace).await).await?;
        // from here on Redis only makes it fast: what is lost is found by requeue
        if let Err(error) = context.queue(Kind::PipelineRun.queue()).push(&tickets).await {
            tracing::debug!("scheduled runs were not pushed: {error}");
        }
        context.announce(&announced).await;
        context.tell(&ended).await;
        count += (tickets.len() + ended.events.len()) as u64;
        if found == 0 {
            break;
        }
    }
    Ok(count)
}

/// What came of the ticks of one page; others are to be told after the commit.
#[derive(Default)]
struct Ticked {
    /// How many there were.
    found: usize,
    /// Runs that wait for a worker.
    tickets: Vec<Ticket>,
    /// Runs that were refused, and what follows from either.
    ended: Ended,
    /// Both, for those who watch.
    announced: Vec<LiveRun>,
}

/// Deals with the ticks of one page.
async fn tick(conn: &mut AsyncPgConnection, limits: &Limits, grace: TimeDelta) -> Result<Ticked, QueryError> {
    let now = PipelineSchedule::clock(conn).await?;
    let due = PipelineSchedule::lock_due(conn, now, PAGE).await?;
    let mut ticked = Ticked { found: due.len(), ..Ticked::default() };
    if !due.is_empty() {
        // all at once and before any pipeline, as whoever runs one does
        let (users, organizations): (Vec<_>, Vec<_>) =
            due.iter().map(|due| (due.schedule.created_by, due.schedule.organization_id)).unzip();
        Quota::lock(conn, &users, &organizations).await?;
    }
    for due in due {
        let id = due.schedule.id;
        let Ok(timetable) = Timetable::read(&due.schedule.cron, &due.schedule.timezone) else {
            // it was checked when it was stored: the time zone database has changed since
            tracing::warn!(schedule = %id, "a schedule cannot be read any more and rests");
            PipelineSchedule::advance(conn, id, None, false).await?;
            continue;
        };
        let Decision { run, next } = decide(&timetable, &due, now, grace);
        let ran = run && start(conn, limits, due, &mut ticked).await?;
        PipelineSchedule::advance(conn, id, next, ran).await?;
    }
    Ok(ticked)
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

/// Why a run was not accepted.
enum Refusal {
    /// Its creator, or the organization, has no request left.
    Quota(QuotaExceeded),
    /// Among others: the tick has had its run.
    Query(QueryError),
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

/// Accepts the run of a tick, which counts as a request of the schedule's creator. Past the quota it is written down as a
/// run that has failed, so that they see why nothing happened. `false`: the tick has had its run.
async fn start(
    conn: &mut AsyncPgConnection,
    limits: &Limits,
    due: DueSchedule,
    ticked: &mut Ticked,
) -> Result<bool, QueryError> {
    let DueSchedule { schedule, tick, pipeline, tier } = due;
    let new = NewExecution {
        id: Uuid::now_v7(),
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
    let live = LiveRun::from(&new);
    // a transaction within the transaction: if the tick has had its run, or may have none, only this is undone
    let accepted = conn.transaction(async |conn| {
        match Quota::reserve(conn, limits, new.user_id, new.organization_id, new.id).await? {
            Ok(hints) => Ok((Execution::start(conn, new.clone()).await?.ticket, hints)),
            Err(exceeded) => Err(Refusal::Quota(exceeded)),
        }
    });
    let refused = match accepted.await {
        Ok((ticket, hints)) => {
            ticked.tickets.push(ticket);
            ticked.ended.hints.extend(hints);
            ticked.announced.push(live);
            return Ok(true);
        }
        Err(Refusal::Quota(exceeded)) => {
            let failure = Failure { code: "quota_exceeded".to_owned(), message: exceeded.to_string() };
            conn.transaction(async |conn| Execution::refuse(conn, new, failure).await).await
        }
        Err(Refusal::Query(error)) => Err(error),
    };
    match refused {
        Ok(Ended { events, hints, .. }) => {
            ticked.ended.events.extend(events);
            ticked.ended.hints.extend(hints);
            ticked.announced.push(live);
            Ok(true)
        }
        Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, details))
            if details.constraint_name() == Some("executions_tick_key") =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
