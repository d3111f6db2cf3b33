//! Usage: one row for each request that asked a model, and for each model call of a run or an orchestration. It outlives the
//! jobs. The tokens are added to the hours of the organizations in the same statement.

use crate::kind::Kind;
use diesel::{
    QueryResult,
    sql_types::{Array, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// A request that ended before it asked anybody is a request all the same; a call of a run that was never sent is none.
/// A job that is not completed is a failed request, and what its calls cost was spent. Only rows that are new count in the
/// hours; those are held in the order of the organizations, so that nobody waits in a circle.
const INSERT: &str = "WITH written AS ( \
    INSERT INTO usage_records (id, organization_id, user_id, job_id, endpoint, model, prompt_tokens, \
        completion_tokens, total_tokens, cost_nanos, status, response_time_ms, created_at) \
    SELECT jobs.id, jobs.organization_id, jobs.user_id, jobs.id, \
        COALESCE(jobs.payload ->> 'endpoint', '/ai/generate'), COALESCE(jobs.payload ->> 'model', ''), \
        used.prompt_tokens, used.completion_tokens, used.prompt_tokens + used.completion_tokens, used.cost_nanos, \
        CASE jobs.status WHEN 'completed' THEN 'completed' ELSE 'failed' END, \
        (extract(epoch FROM jobs.finished_at - jobs.created_at) * 1000)::bigint, jobs.finished_at \
    FROM jobs CROSS JOIN LATERAL ( \
        SELECT COALESCE(sum(prompt_tokens), 0)::integer AS prompt_tokens, \
            COALESCE(sum(completion_tokens), 0)::integer AS completion_tokens, \
            COALESCE(sum(cost_nanos), 0)::bigint AS cost_nanos \
        FROM llm_calls WHERE llm_calls.job_id = jobs.id AND llm_calls.sends > 0) AS used \
    WHERE jobs.id = ANY($1) AND jobs.kind IN ($2, $3) \
    UNION ALL \
    SELECT llm_calls.id, llm_calls.organization_id, llm_calls.user_id, llm_calls.job_id, llm_calls.endpoint, \
        llm_calls.model, prompt_tokens, completion_tokens, prompt_tokens + completion_tokens, cost_nanos, \
        CASE llm_calls.status WHEN 'completed' THEN 'completed' ELSE 'failed' END, COALESCE(latency_ms, 0), \
        COALESCE(llm_calls.finished_at, now()) \
    FROM llm_calls JOIN jobs ON jobs.id = llm_calls.job_id \
    WHERE llm_calls.job_id = ANY($1) AND llm_calls.sends > 0 AND jobs.kind IN ($4, $5) \
    ON CONFLICT DO NOTHING RETURNING organization_id, created_at, total_tokens \
) \
INSERT INTO usage_hours AS sums (organization_id, hour, tokens) \
SELECT organization_id, date_trunc('hour', created_at, 'UTC') AS hour, sum(total_tokens) FROM written \
GROUP BY 1, 2 HAVING sum(total_tokens) > 0 ORDER BY 1, 2 \
ON CONFLICT (organization_id, hour) DO UPDATE SET tokens = sums.tokens + excluded.tokens";

/// Writes down what jobs that have ended used.
pub(super) async fn insert_of_ended(conn: &mut AsyncPgConnection, ended: &[Uuid]) -> QueryResult<()> {
    diesel::sql_query(INSERT)
        .bind::<Array<SqlUuid>, _>(ended)
        .bind::<Text, _>(Kind::ChatCompletion)
        .bind::<Text, _>(Kind::TextGeneration)
        .bind::<Text, _>(Kind::PipelineRun)
        .bind::<Text, _>(Kind::Orchestration)
        .execute(conn)
        .await?;
    Ok(())
}
