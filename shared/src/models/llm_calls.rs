//! Calls of language models: recorded before they are sent, so that none that was answered is ever repeated, and paid for
//! out of budgets, so that none is sent that there is no money for.
//!
//! Rows are locked in one order everywhere: jobs, then budgets by scope and period. Whoever ends a job locks it against the
//! statements here, so that no reservation is made that nobody gives back.

use super::{chat_entries, storable, usage_records};
use crate::{kind::Endpoint, schema::llm_calls, text_enum::text_enum};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Binary, Bool, Int4, Jsonb, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

text_enum! {
    /// Where a call stands.
    CallStatus {
        /// It went out, and no answer has been recorded; what it may cost is held in the budgets.
        Sent = "sent",
        /// It was answered.
        Completed = "completed",
        /// It was not, and cost nothing.
        Failed = "failed",
    }
}

/// Records a call as sent and holds what it may cost, if the attempt holds its job and every budget has room. A call that
/// was recorded as sent before keeps what it holds; only the difference is asked for.
const RESERVE: &str = "WITH fence AS ( \
    SELECT id, organization_id, user_id FROM jobs WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE \
), need AS ( \
    SELECT fence.*, COALESCE(earlier.created_at, now()) AS since, \
        $10 - COALESCE(earlier.reserved_tokens, 0) AS tokens, \
        $11 - COALESCE(earlier.reserved_cost_nanos, 0) AS cost_nanos \
    FROM fence LEFT JOIN llm_calls earlier \
        ON earlier.job_id = fence.id AND earlier.call = $3 AND earlier.status = 'sent' \
), budget AS ( \
    SELECT budgets.*, need.tokens, need.cost_nanos, \
        COALESCE(organizations.monthly_token_budget, budgets.token_limit) AS most_tokens, \
        COALESCE(organizations.monthly_cost_budget_nanos, budgets.cost_limit_nanos) AS most_cost_nanos \
    FROM need CROSS JOIN LATERAL (VALUES \
            (need.organization_id, date_trunc('month', need.since AT TIME ZONE 'UTC')::date), \
            (need.id, DATE '1970-01-01')) AS wanted (scope, period) \
        JOIN budgets ON budgets.scope = wanted.scope AND budgets.period = wanted.period \
        LEFT JOIN organizations ON organizations.id = budgets.scope \
    ORDER BY budgets.scope, budgets.period FOR UPDATE OF budgets \
), verdict AS ( \
    SELECT NOT EXISTS (SELECT FROM budget WHERE job_id IS NULL) AS missing, \
        EXISTS (SELECT FROM budget WHERE (tokens > 0 AND tokens_used + $10 > most_tokens) \
            OR (cost_nanos > 0 AND cost_used_nanos + $11 > most_cost_nanos)) AS exceeded, \
        EXISTS (SELECT FROM budget WHERE (tokens > 0 AND tokens_used + tokens_reserved + tokens > most_tokens) \
            OR (cost_nanos > 0 AND cost_used_nanos + cost_reserved_nanos + cost_nanos > most_cost_nanos)) AS taken \
    FROM need \
), held AS ( \
    UPDATE budgets SET tokens_reserved = budgets.tokens_reserved + budget.tokens, \
        cost_reserved_nanos = budgets.cost_reserved_nanos + budget.cost_nanos \
    FROM budget, verdict \
    WHERE budgets.scope = budget.scope AND budgets.period = budget.period AND NOT (missing OR exceeded OR taken) \
), recorded AS ( \
    INSERT INTO llm_calls (id, job_id, organization_id, user_id, call, request_hash, attempt, endpoint, model, provider, \
        answered_by, reserved_tokens, reserved_cost_nanos, created_at) \
    SELECT $4, need.id, organization_id, user_id, $3, $5, $2, $6, $7, $8, $9, $10, $11, since \
    FROM need, verdict WHERE NOT (missing OR exceeded OR taken) \
    ON CONFLICT (job_id, call) DO UPDATE SET request_hash = EXCLUDED.request_hash, attempt = EXCLUDED.attempt, \
        sends = llm_calls.sends + 1, status = 'sent', endpoint = EXCLUDED.endpoint, model = EXCLUDED.model, \
        provider = EXCLUDED.provider, answered_by = EXCLUDED.answered_by, answer = NULL, error_code = NULL, \
        error_message = NULL, reserved_tokens = EXCLUDED.reserved_tokens, \
        reserved_cost_nanos = EXCLUDED.reserved_cost_nanos, latency_ms = NULL, created_at = EXCLUDED.created_at, \
        finished_at = NULL \
) \
SELECT missing, exceeded, taken FROM verdict";

/// Makes the budget of this month of a job's organization.
const OPEN_MONTH: &str = "INSERT INTO budgets (scope, period, organization_id) \
    SELECT organization_id, date_trunc('month', now() AT TIME ZONE 'UTC')::date, organization_id FROM jobs WHERE id = $1 \
    ON CONFLICT DO NOTHING";

/// Writes down what became of a call, gives back what was held for it, and charges what it cost.
const CLOSE: &str = "WITH fence AS ( \
    SELECT id FROM jobs WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE \
), held AS ( \
    SELECT llm_calls.* FROM llm_calls JOIN fence ON llm_calls.job_id = fence.id \
    WHERE call = $3 AND llm_calls.status = 'sent' FOR UPDATE OF llm_calls \
), closed AS ( \
    UPDATE llm_calls SET status = $4, answer = $5, error_code = $6, error_message = $7, \
        prompt_tokens = llm_calls.prompt_tokens + $8, completion_tokens = llm_calls.completion_tokens + $9, \
        cost_nanos = llm_calls.cost_nanos + $10, latency_ms = $11, reserved_tokens = 0, reserved_cost_nanos = 0, \
        finished_at = now() \
    FROM held WHERE llm_calls.id = held.id \
), budget AS ( \
    SELECT budgets.scope, budgets.period, held.reserved_tokens, held.reserved_cost_nanos \
    FROM held CROSS JOIN LATERAL (VALUES \
            (held.organization_id, date_trunc('month', held.created_at AT TIME ZONE 'UTC')::date), \
            (held.job_id, DATE '1970-01-01')) AS wanted (scope, period) \
        JOIN budgets ON budgets.scope = wanted.scope AND budgets.period = wanted.period \
    ORDER BY budgets.scope, budgets.period FOR UPDATE OF budgets \
), settled AS ( \
    UPDATE budgets SET tokens_used = budgets.tokens_used + $8 + $9, \
        cost_used_nanos = budgets.cost_used_nanos + $10, \
        tokens_reserved = budgets.tokens_reserved - budget.reserved_tokens, \
        cost_reserved_nanos = budgets.cost_reserved_nanos - budget.reserved_cost_nanos \
    FROM budget WHERE budgets.scope = budget.scope AND budgets.period = budget.period \
) \
SELECT EXISTS (SELECT FROM fence) AS held";

/// Charges a call whose job was lost before the answer came.
const CHARGE: &str = "WITH budget AS ( \
    SELECT budgets.scope, budgets.period FROM jobs CROSS JOIN LATERAL (VALUES \
            (jobs.organization_id, date_trunc('month', now() AT TIME ZONE 'UTC')::date), \
            (jobs.id, DATE '1970-01-01')) AS wanted (scope, period) \
        JOIN budgets ON budgets.scope = wanted.scope AND budgets.period = wanted.period \
    WHERE jobs.id = $1 ORDER BY budgets.scope, budgets.period FOR UPDATE OF budgets \
) \
UPDATE budgets SET tokens_used = tokens_used + $2, cost_used_nanos = cost_used_nanos + $3 \
FROM budget WHERE budgets.scope = budget.scope AND budgets.period = budget.period";

/// Closes calls that their jobs did not wait for, and gives back what was held for them.
const RELEASE: &str = "WITH held AS ( \
    SELECT id, job_id, organization_id, reserved_tokens, reserved_cost_nanos, created_at FROM llm_calls \
    WHERE job_id = ANY($1) AND status = 'sent' ORDER BY id FOR UPDATE \
), closed AS ( \
    UPDATE llm_calls SET status = 'failed', error_code = 'job_ended', \
        error_message = 'The job ended before the answer came.', reserved_tokens = 0, reserved_cost_nanos = 0, \
        finished_at = now() \
    FROM held WHERE llm_calls.id = held.id \
), freed AS ( \
    SELECT wanted.scope, wanted.period, sum(reserved_tokens)::bigint AS tokens, \
        sum(reserved_cost_nanos)::bigint AS cost_nanos \
    FROM held CROSS JOIN LATERAL (VALUES \
        (held.organization_id, date_trunc('month', held.created_at AT TIME ZONE 'UTC')::date), \
        (held.job_id, DATE '1970-01-01')) AS wanted (scope, period) \
    GROUP BY wanted.scope, wanted.period \
), budget AS ( \
    SELECT freed.* FROM freed JOIN budgets ON budgets.scope = freed.scope AND budgets.period = freed.period \
    ORDER BY budgets.scope, budgets.period FOR UPDATE OF budgets \
) \
UPDATE budgets SET tokens_reserved = budgets.tokens_reserved - budget.tokens, \
    cost_reserved_nanos = budgets.cost_reserved_nanos - budget.cost_nanos \
FROM budget WHERE budgets.scope = budget.scope AND budgets.period = budget.period";

/// A call as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = llm_calls, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct LlmCall {
    pub id: Uuid,
    pub job_id: Uuid,
    pub call: String,
    pub request_hash: Vec<u8>,
    pub attempt: i32,
    pub sends: i32,
    pub status: CallStatus,
    pub endpoint: Endpoint,
    pub model: String,
    pub provider: Option<String>,
    pub answered_by: Option<String>,
    pub answer: Option<Value>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub prompt_tokens: i32,
    pub completion_tokens: i32,
    pub cost_nanos: i64,
    pub reserved_tokens: i64,
    pub reserved_cost_nanos: i64,
    pub latency_ms: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A call that is about to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing<'a> {
    /// Whose it is.
    pub job_id: Uuid,
    /// The attempt that sends it.
    pub attempt: i32,
    /// Which call of the job.
    pub call: &'a str,
    /// SHA-256 of what is asked.
    pub request_hash: &'a [u8],
    /// Where the job came in.
    pub endpoint: Endpoint,
    /// The model, as it was asked for.
    pub model: &'a str,
    /// Who is asked.
    pub provider: &'a str,
    /// What the provider calls the model that is asked.
    pub answered_by: &'a str,
    /// Most tokens of prompt and answer together.
    pub tokens: i64,
    /// Most it may cost, in 10^-9 US dollars.
    pub cost_nanos: i64,
}

/// Whether a call may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// It is recorded, and what it may cost is held.
    Sent,
    /// What is left would do, and is held for calls under way: some of it will come back.
    Taken,
    /// A budget has not enough left.
    Exceeded,
    /// Another attempt holds the job, or it ended.
    Lost,
}

/// What became of a call.
#[derive(Debug, Clone)]
pub struct Closing {
    /// Whose it is.
    pub job_id: Uuid,
    /// The attempt that sent it.
    pub attempt: i32,
    /// Which call of the job.
    pub call: String,
    /// The answer, or why there is none: a stable word, and a sentence for people.
    pub answer: Result<Value, (String, String)>,
    /// Tokens of the prompt; 0 without an answer.
    pub prompt_tokens: i64,
    /// Tokens of the answer.
    pub completion_tokens: i64,
    /// 10^-9 US dollars.
    pub cost_nanos: i64,
    /// From the sending to the last of the answer, in milliseconds.
    pub latency_ms: i64,
}

#[derive(QueryableByName)]
struct Verdict {
    #[diesel(sql_type = Bool)]
    missing: bool,
    #[diesel(sql_type = Bool)]
    exceeded: bool,
    #[diesel(sql_type = Bool)]
    taken: bool,
}

#[derive(QueryableByName)]
struct Fence {
    #[diesel(sql_type = Bool)]
    held: bool,
}

impl LlmCall {
    /// The record of a call of a job.
    pub async fn find(conn: &mut AsyncPgConnection, job_id: Uuid, call: &str) -> QueryResult<Option<Self>> {
        llm_calls::table
            .filter(llm_calls::job_id.eq(job_id).and(llm_calls::call.eq(call)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// The calls of a job, oldest first.
    pub async fn list(conn: &mut AsyncPgConnection, job_id: Uuid) -> QueryResult<Vec<Self>> {
        llm_calls::table
            .filter(llm_calls::job_id.eq(job_id))
            .order((llm_calls::created_at, llm_calls::id))
            .select(Self::as_select())
            .load(conn)
            .await
    }

    /// Records that a call goes out and holds what it may cost in the budget of its organization for the month and in
    /// that of its job, in one statement.
    pub async fn reserve(conn: &mut AsyncPgConnection, outgoing: &Outgoing<'_>) -> QueryResult<Reserved> {
        loop {
            let verdict: Option<Verdict> = diesel::sql_query(RESERVE)
                .bind::<SqlUuid, _>(outgoing.job_id)
                .bind::<Int4, _>(outgoing.attempt)
                .bind::<Text, _>(storable::text(outgoing.call))
                .bind::<SqlUuid, _>(Uuid::now_v7())
                .bind::<Binary, _>(outgoing.request_hash)
                .bind::<Text, _>(outgoing.endpoint)
                .bind::<Text, _>(outgoing.model)
                .bind::<Text, _>(outgoing.provider)
                .bind::<Text, _>(outgoing.answered_by)
                .bind::<BigInt, _>(outgoing.tokens)
                .bind::<BigInt, _>(outgoing.cost_nanos)
                .get_result(conn)
                .await
                .optional()?;
            match verdict {
                None => return Ok(Reserved::Lost),
                Some(Verdict { missing: false, exceeded: true, .. }) => return Ok(Reserved::Exceeded),
                Some(Verdict { missing: false, taken: true, .. }) => return Ok(Reserved::Taken),
                Some(Verdict { missing: false, .. }) => return Ok(Reserved::Sent),
                // the first call of the month
                Some(Verdict { missing: true, .. }) => {
                    diesel::sql_query(OPEN_MONTH).bind::<SqlUuid, _>(outgoing.job_id).execute(conn).await?;
                }
            }
        }
    }

    /// Writes down what became of a call; says whether the attempt still held its job. If it did not, what was spent is
    /// charged all the same, and nothing else is written. A repetition, after an answer of the database that did not come,
    /// changes nothing.
    pub async fn close(conn: &mut AsyncPgConnection, closing: &Closing) -> QueryResult<bool> {
        let tokens = |count: i64| i32::try_from(count.max(0)).unwrap_or(i32::MAX);
        let (answer, failure) = match &closing.answer {
            Ok(answer) => (Some(storable::json(answer).into_owned()), None),
            Err(failure) => (None, Some(failure)),
        };
        let status = if answer.is_some() { CallStatus::Completed } else { CallStatus::Failed };
        let Fence { held } = diesel::sql_query(CLOSE)
            .bind::<SqlUuid, _>(closing.job_id)
            .bind::<Int4, _>(closing.attempt)
            .bind::<Text, _>(storable::text(&closing.call))
            .bind::<Text, _>(status)
            .bind::<Nullable<Jsonb>, _>(answer)
            .bind::<Nullable<Text>, _>(failure.map(|(code, _)| code))
            .bind::<Nullable<Text>, _>(failure.map(|(_, message)| storable::text(message)))
            .bind::<Int4, _>(tokens(closing.prompt_tokens))
            .bind::<Int4, _>(tokens(closing.completion_tokens))
            .bind::<BigInt, _>(closing.cost_nanos)
            .bind::<BigInt, _>(closing.latency_ms)
            .get_result(conn)
            .await?;
        let spent = closing.prompt_tokens.saturating_add(closing.completion_tokens);
        if !held && spent > 0 {
            diesel::sql_query(CHARGE)
                .bind::<SqlUuid, _>(closing.job_id)
                .bind::<BigInt, _>(spent)
                .bind::<BigInt, _>(closing.cost_nanos)
                .execute(conn)
                .await?;
        }
        Ok(held)
    }
}

/// What the ends of jobs mean for their calls: what is still held in budgets is given back, and what was used is written
/// down as usage.
pub(super) async fn settle(conn: &mut AsyncPgConnection, ended: &[Uuid]) -> QueryResult<()> {
    diesel::sql_query(RELEASE).bind::<Array<SqlUuid>, _>(ended).execute(conn).await?;
    usage_records::insert_of_ended(conn, ended).await?;
    chat_entries::insert_of_ended(conn, ended).await
}
