//! prune: deletes what is too old, in small transactions that hold nobody up.

use crate::Context;
use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::models::{IdempotencyKey, Job};
use std::time::Duration;

/// Rows per statement.
const PAGE: i64 = 500;

/// The same where there are very many, small ones.
const LARGE_PAGE: i64 = 10_000;

/// Statements of one kind per turn; the rest waits for the next turn.
const PAGES: usize = 100;

const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Refresh tokens that nobody can use any more. A spent one counts until then, so that its reuse is noticed.
const TOKENS: &str = "DELETE FROM refresh_tokens WHERE hash IN \
    (SELECT hash FROM refresh_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)";

/// Login sessions that were ended, or that were last used long ago and have no refresh token left.
const SESSIONS: &str = "DELETE FROM login_sessions WHERE id IN ( \
    SELECT id FROM login_sessions s WHERE s.ended_at < $1 OR (s.last_used_at < $1 AND NOT EXISTS \
    (SELECT FROM refresh_tokens t WHERE t.session_id = s.id AND t.expires_at > now())) LIMIT $2)";

/// Links to choose another password. How many there were lately counts, so they are kept for a while.
const RESETS: &str = "DELETE FROM password_resets WHERE hash IN \
    (SELECT hash FROM password_resets WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)";

/// Uploads that were announced and never confirmed. Their bytes may have come all the same.
const UPLOADS: &str = "WITH gone AS ( \
        DELETE FROM product_images WHERE id IN ( \
            SELECT id FROM product_images WHERE upload_status = 'pending' AND created_at < $1 \
            ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED) \
        RETURNING s3_key, thumbnail_key \
    ) \
    INSERT INTO object_deletions (key) \
    SELECT key FROM gone, LATERAL (VALUES (s3_key), (thumbnail_key)) AS object (key) WHERE key IS NOT NULL \
    ON CONFLICT DO NOTHING";

const USAGE: &str = "DELETE FROM usage_records WHERE id IN \
    (SELECT id FROM usage_records WHERE created_at < $1 ORDER BY created_at LIMIT $2)";

/// Sums of the use of an organization.
const HOURS: &str = "DELETE FROM usage_hours WHERE (organization_id, hour) IN ( \
    SELECT organization_id, hour FROM usage_hours WHERE hour < $1 ORDER BY hour LIMIT $2)";

const DAYS: &str = "DELETE FROM orchestration_days WHERE (organization_id, project_id, day) IN ( \
    SELECT organization_id, project_id, day FROM orchestration_days WHERE day < ($1 AT TIME ZONE 'UTC')::date \
    ORDER BY day LIMIT $2)";

/// How requests were answered; an hour is looked at.
const MINUTES: &str = "DELETE FROM request_minutes WHERE (organization_id, minute, replica) IN ( \
    SELECT organization_id, minute, replica FROM request_minutes WHERE minute < $1 ORDER BY minute LIMIT $2)";

/// What organizations spent in months that are over; the budget of a job goes with the job.
const BUDGETS: &str = "DELETE FROM budgets WHERE (scope, period) IN ( \
    SELECT scope, period FROM budgets WHERE job_id IS NULL AND period < ($1 AT TIME ZONE 'UTC')::date - 31 \
    ORDER BY period LIMIT $2)";

/// What was used in windows of time that are over for good.
const WINDOWS: &str = "DELETE FROM quota_windows WHERE (scope, period, starts) IN ( \
    SELECT scope, period, starts FROM quota_windows WHERE starts < ($1 AT TIME ZONE 'UTC')::date ORDER BY starts LIMIT $2)";

/// Answers that a repeated request gets no more.
const ANSWERS: &str = "DELETE FROM idempotency_keys WHERE (user_id, route, hash) IN ( \
    SELECT user_id, route, hash FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2)";

/// How long windows of quotas are kept: the longest one, twice.
const WINDOWS_KEPT: Duration = Duration::from_secs(62 * 24 * 3600);

/// Jobs that brought something to somebody, with what they brought. Those whose webhook or mail is gone go with all jobs.
const DELIVERIES: &str = "DELETE FROM jobs WHERE id IN ( \
    SELECT d.id FROM webhook_deliveries d JOIN jobs j ON j.id = d.id \
    WHERE d.created_at < $1 AND j.finished_at < $1 AND j.status IN ('completed', 'failed', 'cancelled') \
    ORDER BY d.created_at LIMIT $2)";

const MAILS: &str = "DELETE FROM jobs WHERE id IN ( \
    SELECT m.id FROM mails m JOIN jobs j ON j.id = m.id \
    WHERE m.created_at < $1 AND j.finished_at < $1 AND j.status IN ('completed', 'failed', 'cancelled') \
    ORDER BY m.created_at LIMIT $2)";

const AUDIT: &str = "DELETE FROM audit_entries WHERE id IN \
    (SELECT id FROM audit_entries WHERE created_at < $1 ORDER BY created_at LIMIT $2)";

pub(crate) async fn turn(context: &Context) -> Result<u64> {
    let retention = &context.config.retention;
    let mut conn = context.pool.get().await.context("no connection to PostgreSQL")?;
    let mut deleted = prune_jobs(&mut conn, before(retention.jobs)).await?;
    deleted += prune(&mut conn, TOKENS, Utc::now()).await?;
    deleted += prune(&mut conn, SESSIONS, before(retention.sessions)).await?;
    deleted += prune(&mut conn, RESETS, before(A_DAY)).await?;
    deleted += prune(&mut conn, UPLOADS, before(retention.uploads)).await?;
    deleted += prune(&mut conn, DELIVERIES, before(retention.deliveries)).await?;
    deleted += prune(&mut conn, MAILS, before(retention.deliveries)).await?;
    deleted += prune(&mut conn, USAGE, before(retention.usage)).await?;
    deleted += prune(&mut conn, HOURS, before(retention.usage)).await?;
    deleted += prune(&mut conn, DAYS, before(retention.usage)).await?;
    deleted += prune_pages(&mut conn, MINUTES, before(A_DAY), LARGE_PAGE).await?;
    deleted += prune(&mut conn, BUDGETS, before(retention.usage)).await?;
    deleted += prune(&mut conn, WINDOWS, before(WINDOWS_KEPT)).await?;
    deleted += prune(&mut conn, ANSWERS, before(IdempotencyKey::KEPT)).await?;
    deleted += prune(&mut conn, AUDIT, before(retention.audit)).await?;
    Ok(deleted)
}

async fn prune_jobs(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<u64> {
    let mut deleted = 0;
    for _ in 0..PAGES {
        let page = Job::prune(conn, before, PAGE).await?;
        deleted += page as u64;
        if page < PAGE as usize {
            break;
        }
    }
    Ok(deleted)
}

async fn prune(conn: &mut AsyncPgConnection, statement: &'static str, before: DateTime<Utc>) -> Result<u64> {
    prune_pages(conn, statement, before, PAGE).await
}

async fn prune_pages(
    conn: &mut AsyncPgConnection,
    statement: &'static str,
    before: DateTime<Utc>,
    page: i64,
) -> Result<u64> {
    let mut deleted = 0;
    for _ in 0..PAGES {
        let gone =
            diesel::sql_query(statement).bind::<Timestamptz, _>(before).bind::<BigInt, _>(page).execute(conn).await?;
        deleted += gone as u64;
        if gone < page as usize {
            break;
        }
    }
    Ok(deleted)
}

fn before(age: Duration) -> DateTime<Utc> {
    Utc::now() - age
}
