//! The kept history of chats: what was asked last, and what was answered.

use crate::kind::{Endpoint, Kind, Speaker};
use diesel::{
    QueryResult,
    sql_types::{Array, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

const INSERT: &str = "INSERT INTO chat_entries (id, user_id, message, response, model, created_at) \
    SELECT jobs.id, jobs.user_id, asked.content, COALESCE(jobs.result #>> '{choices,0,message,content}', ''), \
        jobs.payload ->> 'model', jobs.finished_at \
    FROM jobs CROSS JOIN LATERAL ( \
        SELECT message ->> 'content' AS content \
        FROM jsonb_array_elements(jobs.payload -> 'messages') WITH ORDINALITY AS said (message, position) \
        WHERE message ->> 'role' = $2 ORDER BY position DESC LIMIT 1) AS asked \
    WHERE jobs.id = ANY($1) AND jobs.kind = $3 AND jobs.status = 'completed' AND jobs.payload ->> 'endpoint' IN ($4, $5) \
    ON CONFLICT DO NOTHING";

/// Keeps what was said in those of these jobs that came in where a history is kept.
pub(super) async fn insert_of_ended(conn: &mut AsyncPgConnection, ended: &[Uuid]) -> QueryResult<()> {
    diesel::sql_query(INSERT)
        .bind::<Array<SqlUuid>, _>(ended)
        .bind::<Text, _>(Speaker::User)
        .bind::<Text, _>(Kind::ChatCompletion)
        .bind::<Text, _>(Endpoint::Chat)
        .bind::<Text, _>(Endpoint::ChatSocket)
        .execute(conn)
        .await?;
    Ok(())
}
