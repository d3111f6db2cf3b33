//! Quotas: how many metered requests a user, and an organization, may send in a day, a week, a month.
//!
//! A request is counted in all its windows or in none, by one statement, in the transaction that accepts its job; a row of
//! `quota_reservations` remembers where. When the job ends, that row goes, and with it the request, if it failed through
//! our fault. Whoever locks several windows locks those of users before those of organizations, each by scope, period and
//! day, so that nobody waits in a circle.

use super::{
    Ending, Finish, Tier, quota_faults,
    quota_warnings::{self, Reached},
    quota_windows::{QuotaName, Starts},
};
use crate::{
    limits::{Limits, QuotaLimits},
    queue::Hint,
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Date, Int2, Jsonb, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

const READ: &str = "SELECT subscription_tier, custom_limits, \
        COALESCE((SELECT used FROM quota_windows WHERE scope = $2 AND period = 'daily' AND starts = $3), 0) AS daily, \
        COALESCE((SELECT used FROM quota_windows WHERE scope = $2 AND period = 'weekly' AND starts = $4), 0) AS weekly, \
        COALESCE((SELECT used FROM quota_windows WHERE scope = $2 AND period = 'monthly' AND starts = $5), 0) AS monthly, \
        COALESCE((SELECT used FROM quota_windows WHERE scope = $1 AND period = 'monthly' AND starts = $5), 0) \
            AS organization \
    FROM organizations WHERE id = $1";

/// Counts one more in each window that is not full, and reserves if all took it. Windows that did not are missing from the
/// answer; whoever finds that undoes the rest.
const COUNT: &str = "WITH wanted (scope, period, starts, most, rank) AS (VALUES \
    ($1, 'daily', $3, $6, 1), ($1, 'monthly', $5, $8, 2), ($1, 'weekly', $4, $7, 3), ($2, 'monthly', $5, $9, 4) \
), counted AS ( \
    INSERT INTO quota_windows AS w (scope, period, starts, used) \
    SELECT scope, period, starts, 1 FROM wanted WHERE most IS NULL OR most > 0 ORDER BY rank \
    ON CONFLICT (scope, period, starts) DO UPDATE SET used = w.used + 1 \
        WHERE w.used < COALESCE(CASE WHEN w.scope = $2 THEN $9 WHEN w.period = 'daily' THEN $6 \
            WHEN w.period = 'weekly' THEN $7 ELSE $8 END, 9223372036854775807) \
    RETURNING scope, period, used, warned \
), reserved AS ( \
    INSERT INTO quota_reservations (job_id, user_id, organization_id, reserved_on) \
    SELECT $10, $1, $2, $3 WHERE (SELECT count(*) FROM counted) = 4 \
) \
SELECT CASE WHEN scope = $2 THEN 'organization' ELSE period END AS name, used, warned FROM counted";

/// The reservations of jobs that have ended go; what is to be given back leaves the windows that held it.
const SETTLE: &str = "WITH gone AS ( \
    DELETE FROM quota_reservations AS r USING UNNEST($1, $2) AS ended (id, back) WHERE r.job_id = ended.id \
    RETURNING r.user_id, r.organization_id, r.reserved_on AS day, ended.back \
), back AS ( \
    SELECT held.scope, held.period, held.starts, held.of_many, count(*) AS n FROM gone CROSS JOIN LATERAL (VALUES \
        (user_id, 'daily', day, false), \
        (user_id, 'weekly', date_trunc('week', day::timestamp)::date, false), \
        (user_id, 'monthly', date_trunc('month', day::timestamp)::date, false), \
        (organization_id, 'monthly', date_trunc('month', day::timestamp)::date, true) \
    ) AS held (scope, period, starts, of_many) WHERE back GROUP BY 1, 2, 3, 4 \
), locked AS ( \
    SELECT w.scope, w.period, w.starts, back.n FROM quota_windows w JOIN back USING (scope, period, starts) \
    ORDER BY back.of_many, w.scope, w.period, w.starts FOR UPDATE OF w \
) \
UPDATE quota_windows AS w SET used = GREATEST(w.used - locked.n, 0) FROM locked \
WHERE (w.scope, w.period, w.starts) = (locked.scope, locked.period, locked.starts)";

/// Makes the windows that are missing, and locks all of them.
const LOCK: &str = "INSERT INTO quota_windows AS w (scope, period, starts) \
    SELECT scope, period, starts FROM ( \
        SELECT DISTINCT scope, period, starts, false AS of_many FROM UNNEST($1) AS users (scope) CROSS JOIN \
            (VALUES ('daily', $3), ('weekly', $4), ('monthly', $5)) AS windows (period, starts) \
        UNION SELECT scope, 'monthly', $5, true FROM UNNEST($2) AS organizations (scope)) AS wanted \
    ORDER BY of_many, scope, period, starts \
    ON CONFLICT (scope, period, starts) DO UPDATE SET used = w.used";

/// What was used in one window of time, and what may be; without a limit, any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaWindow {
    /// Metered requests that were accepted and did not fail through our fault.
    pub used: i64,
    /// Most of them.
    pub limit: Option<i64>,
}

impl QuotaWindow {
    fn is_full(self) -> bool {
        self.limit.is_some_and(|limit| self.used >= limit)
    }
}

/// The windows that a request of a user counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The user's day.
    pub daily: QuotaWindow,
    /// The user's ISO week.
    pub weekly: QuotaWindow,
    /// The user's month.
    pub monthly: QuotaWindow,
    /// The organization's month.
    pub organization: QuotaWindow,
}

/// A quota is used up; nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{window} is used up: {limit} requests; it begins anew at {ends:?}")]
pub struct QuotaExceeded {
    /// Of the windows that are full, the one that ends last.
    pub window: QuotaName,
    /// So many requests fit into it.
    pub limit: i64,
    /// Its end.
    pub ends: DateTime<Utc>,
}

impl QuotaExceeded {
    /// Seconds until another request may be accepted, at least 1.
    pub fn retry_after(&self) -> u64 {
        let left = (self.ends - Utc::now()).num_milliseconds();
        u64::try_from(left).unwrap_or(0).div_ceil(1000).max(1)
    }
}

#[derive(QueryableByName)]
struct Read {
    #[diesel(sql_type = Text)]
    subscription_tier: Tier,
    #[diesel(sql_type = Nullable<Jsonb>)]
    custom_limits: Option<Value>,
    #[diesel(sql_type = BigInt)]
    daily: i64,
    #[diesel(sql_type = BigInt)]
    weekly: i64,
    #[diesel(sql_type = BigInt)]
    monthly: i64,
    #[diesel(sql_type = BigInt)]
    organization: i64,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    used: i64,
    #[diesel(sql_type = Int2)]
    warned: i16,
}

impl Quota {
    /// What a user of an organization has used in the current windows, and may use.
    pub async fn get(
        conn: &mut AsyncPgConnection,
        limits: &Limits,
        user_id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Self> {
        Self::read(conn, limits, user_id, organization_id, &Starts::at(Utc::now())).await
    }

    async fn read(
        conn: &mut AsyncPgConnection,
        limits: &Limits,
        user_id: Uuid,
        organization_id: Uuid,
        starts: &Starts,
    ) -> QueryResult<Self> {
        let read: Read = diesel::sql_query(READ)
            .bind::<SqlUuid, _>(organization_id)
            .bind::<SqlUuid, _>(user_id)
            .bind::<Date, _>(starts.day)
            .bind::<Date, _>(starts.week)
            .bind::<Date, _>(starts.month)
            .get_result(conn)
            .await?;
        let limits = limits.for_organization(read.subscription_tier, read.custom_limits.as_ref());
        let QuotaLimits { daily, weekly, monthly, organization_monthly } = limits.quotas;
        let window = |used, limit| QuotaWindow { used, limit };
        Ok(Self {
            daily: window(read.daily, daily),
            weekly: window(read.weekly, weekly),
            monthly: window(read.monthly, monthly),
            organization: window(read.organization, organization_monthly),
        })
    }

    /// Whether another request fits, without counting it: for work that is better not begun at all.
    pub async fn check(
        conn: &mut AsyncPgConnection,
        limits: &Limits,
        user_id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Result<(), QuotaExceeded>> {
        let starts = Starts::at(Utc::now());
        let quota = Self::read(conn, limits, user_id, organization_id, &starts).await?;
        Ok(quota.refusal(|window| quota.window(window).is_full(), &starts).map_or(Ok(()), Err))
    }

    /// Counts a request that is about to be accepted, in the transaction that accepts its job; the job itself may be
    /// written before or after. Products are locked before, pipelines after: whoever holds windows waits for no product.
    ///
    /// The jobs that follow (a warning to the user) are to be pushed after the commit. Where a quota is used up, the
    /// caller undoes the transaction.
    pub async fn reserve(
        conn: &mut AsyncPgConnection,
        limits: &Limits,
        user_id: Uuid,
        organization_id: Uuid,
        job_id: Uuid,
    ) -> QueryResult<Result<Vec<Hint>, QuotaExceeded>> {
        let starts = Starts::at(Utc::now());
        let quota = Self::read(conn, limits, user_id, organization_id, &starts).await?;
        // who has nothing left is refused without a write
        if let Some(exceeded) = quota.refusal(|window| quota.window(window).is_full(), &starts) {
            return Ok(Err(exceeded));
        }
        let counted: Vec<Counted> = diesel::sql_query(COUNT)
            .bind::<SqlUuid, _>(user_id)
            .bind::<SqlUuid, _>(organization_id)
            .bind::<Date, _>(starts.day)
            .bind::<Date, _>(starts.week)
            .bind::<Date, _>(starts.month)
            .bind::<Nullable<BigInt>, _>(quota.daily.limit)
            .bind::<Nullable<BigInt>, _>(quota.weekly.limit)
            .bind::<Nullable<BigInt>, _>(quota.monthly.limit)
            .bind::<Nullable<BigInt>, _>(quota.organization.limit)
            .bind::<SqlUuid, _>(job_id)
            .load(conn)
            .await?;
        let full = |window: QuotaName| counted.iter().all(|counted| counted.name != window.as_str());
        if let Some(exceeded) = quota.refusal(full, &starts) {
            return Ok(Err(exceeded));
        }
        let reached = counted.iter().filter_map(|Counted { name, used, warned }| {
            let window = QuotaName::ALL.into_iter().find(|window| window.as_str() == name)?;
            Reached::new(window, *used, quota.window(window).limit?, *warned, &starts)
        });
        let hints = quota_warnings::announce(conn, user_id, organization_id, reached.collect()).await?;
        Ok(Ok(hints))
    }

    /// Takes a request back that its job will not answer, whatever becomes of the job; nothing if it has ended.
    pub async fn give_back(conn: &mut AsyncPgConnection, job_id: Uuid) -> QueryResult<()> {
        let (jobs, back) = ([job_id], [true]);
        remove(conn, &jobs, &back).await
    }

    /// Locks the current windows of several users and organizations, for a transaction that will reserve for all of them.
    pub async fn lock(conn: &mut AsyncPgConnection, users: &[Uuid], organizations: &[Uuid]) -> QueryResult<()> {
        let starts = Starts::at(Utc::now());
        diesel::sql_query(LOCK)
            .bind::<Array<SqlUuid>, _>(users)
            .bind::<Array<SqlUuid>, _>(organizations)
            .bind::<Date, _>(starts.day)
            .bind::<Date, _>(starts.week)
            .bind::<Date, _>(starts.month)
            .execute(conn)
            .await?;
        Ok(())
    }

    const fn window(&self, name: QuotaName) -> QuotaWindow {
        match name {
            QuotaName::Daily => self.daily,
            QuotaName::Weekly => self.weekly,
            QuotaName::Monthly => self.monthly,
            QuotaName::Organization => self.organization,
        }
    }

    /// What is said if any window is full.
    fn refusal(&self, is_full: impl Fn(QuotaName) -> bool, starts: &Starts) -> Option<QuotaExceeded> {
        let full = QuotaName::ALL.into_iter().filter(|window| is_full(*window));
        let window = full.max_by_key(|window| starts.end(*window))?;
        Some(QuotaExceeded { window, limit: self.window(window).limit.unwrap_or(i64::MAX), ends: starts.end(window) })
    }
}

/// What the ends of jobs mean for the windows that hold them: one that failed through our fault is taken back.
pub(super) async fn settle(conn: &mut AsyncPgConnection, ended: &[&Finish]) -> QueryResult<()> {
    let back = ended.iter().map(|finish| match &finish.ending {
        Ending::Failed(failure, _) => quota_faults::is_ours(finish.kind, &failure.code),
        Ending::Completed(_) | Ending::Cancelled => false,
    });
    let jobs: Vec<Uuid> = ended.iter().map(|finish| finish.id).collect();
    remove(conn, &jobs, &back.collect::<Vec<_>>()).await
}

async fn remove(conn: &mut AsyncPgConnection, jobs: &[Uuid], back: &[bool]) -> QueryResult<()> {
    diesel::sql_query(SETTLE).bind::<Array<SqlUuid>, _>(jobs).bind::<Array<Bool>, _>(back).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn at(text: &str) -> Starts {
        Starts::at(text.parse().unwrap())
    }

    #[test]
    fn of_several_full_windows_the_last_to_end_is_named() {
        let starts = at("2026-11-30T12:00:00Z");
        let full = QuotaWindow { used: 7, limit: Some(7) };
        let free = QuotaWindow { used: 7, limit: None };
        let named = |daily, weekly, monthly, organization| {
            let quota = Quota { daily, weekly, monthly, organization };
            quota.refusal(|window| quota.window(window).is_full(), &starts).map(|exceeded| exceeded.window)
        };
        assert_eq!(named(free, free, free, free), None);
        assert_eq!(named(full, free, free, free), Some(QuotaName::Daily));
        assert_eq!(named(full, full, free, free), Some(QuotaName::Weekly));
        assert_eq!(named(full, full, full, free), Some(QuotaName::Weekly), "the week reaches into December");
        assert_eq!(named(full, free, free, full), Some(QuotaName::Organization));
    }
}
