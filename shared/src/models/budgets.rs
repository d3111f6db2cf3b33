//! Budgets: what an organization may spend in a month, and what one job may.
//!
//! A call reserves the most it can cost before it is sent and settles what it did cost when it returns, so that any number
//! of calls at once cannot spend more than there is.

use super::Job;
use crate::schema::budgets;
use chrono::NaiveDate;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// A budget as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = budgets, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Budget {
    pub scope: Uuid,
    pub period: NaiveDate,
    pub organization_id: Uuid,
    pub job_id: Option<Uuid>,
    pub token_limit: Option<i64>,
    pub cost_limit_nanos: Option<i64>,
    pub tokens_used: i64,
    pub tokens_reserved: i64,
    pub cost_used_nanos: i64,
    pub cost_reserved_nanos: i64,
}

impl Budget {
    /// What an organization has spent in the month that begins at `month`, or what a job has (at 1970-01-01). `None`:
    /// nothing was ever asked for.
    pub async fn find(conn: &mut AsyncPgConnection, scope: Uuid, month: NaiveDate) -> QueryResult<Option<Self>> {
        budgets::table.find((scope, month)).select(Self::as_select()).first(conn).await.optional()
    }

    /// Gives one job a budget of its own.
    pub async fn limit_job(
        conn: &mut AsyncPgConnection,
        job: &Job,
        token_limit: Option<i64>,
        cost_limit_nanos: Option<i64>,
    ) -> QueryResult<()> {
        diesel::insert_into(budgets::table)
            .values((
                budgets::scope.eq(job.id),
                budgets::period.eq(NaiveDate::default()),
                budgets::organization_id.eq(job.organization_id),
                budgets::job_id.eq(job.id),
                budgets::token_limit.eq(token_limit),
                budgets::cost_limit_nanos.eq(cost_limit_nanos),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }
}
