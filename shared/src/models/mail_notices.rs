//! Who hears by mail that a job has ended: of a batch, of an orchestration, and of a run that nobody waited for, unless a
//! schedule started it and it went well. Jobs that somebody waits for are no news.

use super::{Ending, Finish, JobStatus, NewMail, mails::WANTS_NOTICES, storable};
use crate::{kind::Kind, letter::Letter, queue::Hint};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Int4, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Most notices that one user is sent within an hour.
const MOST_AN_HOUR: i64 = 20;

/// Most characters of a topic.
const MOST_OF_TOPIC: usize = 100;

/// An ended job with who is to hear of it, and where that notice stands among those of the last hour.
#[derive(QueryableByName)]
struct Concerned {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    organization_id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Text)]
    full_name: String,
    #[diesel(sql_type = Nullable<Text>)]
    pipeline_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    topic: Option<String>,
    #[diesel(sql_type = Int4)]
    items_total: i32,
    #[diesel(sql_type = BigInt)]
    duration_ms: i64,
    #[diesel(sql_type = BigInt)]
    place: i64,
}

/// The mails that follow from the ends of jobs.
pub(super) async fn announce_ends(conn: &mut AsyncPgConnection, ended: &[&Finish]) -> QueryResult<Vec<Hint>> {
    let ended: Vec<_> = ended.iter().copied().filter(|finish| may_concern(finish)).collect();
    if ended.is_empty() || concerned(conn, &ended).await?.is_empty() {
        return Ok(Vec::new());
    }
    // who counts and adds does so alone; nearly always it was nobody's turn, and nobody had to wait
    lock_owners(conn, &ended).await?;
    let concerned = concerned(conn, &ended).await?;
    if concerned.is_empty() {
        return Ok(Vec::new());
    }
    let letters = concerned.into_iter().filter_map(|concerned| {
        let finish = ended.iter().find(|finish| finish.id == concerned.id)?;
        Some(concerned.mail(&finish.ending))
    });
    NewMail::insert(conn, letters.collect()).await
}

const fn may_concern(finish: &Finish) -> bool {
    let concerns = match finish.kind {
        Kind::ImageAnalysis | Kind::PipelineRun | Kind::Orchestration => true,
        Kind::BatchShare
        | Kind::ChatCompletion
        | Kind::TextGeneration
        | Kind::WebhookDelivery
        | Kind::Mail
        | Kind::Probe => false,
    };
    concerns && !matches!(finish.ending, Ending::Cancelled)
}

async fn concerned(conn: &mut AsyncPgConnection, ended: &[&Finish]) -> QueryResult<Vec<Concerned>> {
    diesel::sql_query(format!(
        "WITH telling AS ( \
             SELECT jobs.id, jobs.user_id, jobs.organization_id, jobs.items_total, executions.pipeline_name, \
                 orchestrations.topic, \
                 (1000 * EXTRACT(EPOCH FROM jobs.finished_at - COALESCE(jobs.started_at, jobs.created_at)))::bigint \
                     AS duration_ms, \
                 row_number() OVER (PARTITION BY jobs.user_id ORDER BY jobs.id) AS nth \
             FROM jobs LEFT JOIN executions ON executions.id = jobs.id \
                 LEFT JOIN orchestrations ON orchestrations.id = jobs.id \
             WHERE jobs.id = ANY($1) AND (jobs.payload ->> 'job_type' = 'batch' OR orchestrations.id IS NOT NULL OR ( \
                 jobs.payload -> 'awaited' = 'false' \
                 AND (executions.schedule_id IS NULL OR jobs.status = $2))) \
         ), told AS MATERIALIZED ( \
             SELECT users.id AS user_id, email, full_name, recent.sent \
             FROM users, LATERAL (SELECT count(*) AS sent FROM ( \
                 SELECT FROM mails WHERE mails.user_id = users.id AND notice \
                     AND mails.created_at > now() - interval '1 hour' LIMIT $3) AS latest) AS recent \
             WHERE users.id IN (SELECT user_id FROM telling) AND {WANTS_NOTICES} \
         ) \
         SELECT telling.*, email, full_name, sent + nth AS place \
         FROM telling JOIN told USING (user_id) WHERE sent + nth <= $3 ORDER BY telling.id"
    ))
    .bind::<Array<SqlUuid>, _>(ended.iter().map(|finish| finish.id).collect::<Vec<_>>())
    .bind::<Text, _>(JobStatus::Failed)
    .bind::<BigInt, _>(MOST_AN_HOUR)
    .load(conn)
    .await
}

async fn lock_owners(conn: &mut AsyncPgConnection, ended: &[&Finish]) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Locked {
        #[diesel(sql_type = Bool)]
        _locked: bool,
    }
    let _: Vec<Locked> = diesel::sql_query(
        "SELECT true AS _locked FROM users WHERE id IN (SELECT user_id FROM jobs WHERE jobs.id = ANY($1)) \
         ORDER BY id FOR NO KEY UPDATE",
    )
    .bind::<Array<SqlUuid>, _>(ended.iter().map(|finish| finish.id).collect::<Vec<_>>())
    .load(conn)
    .await?;
    Ok(())
}

impl Concerned {
    fn mail(self, ending: &Ending) -> NewMail {
        let error = match ending {
            Ending::Failed(failure, _) => Some(storable::text(&failure.message).into_owned()),
            Ending::Completed(_) | Ending::Cancelled => None,
        };
        let what = match (self.pipeline_name, self.topic, self.items_total) {
            (Some(name), ..) => format!("Pipeline \"{name}\""),
            (None, Some(topic), _) => format!("Orchestration \"{}\"", shortened(&topic)),
            (None, None, 1) => "Batch of 1 image".to_owned(),
            (None, None, count) => format!("Batch of {count} images"),
        };
        NewMail {
            user_id: self.user_id,
            organization_id: self.organization_id,
            to: self.email,
            letter: Letter::JobEnded {
                name: self.full_name,
                id: self.id,
                what,
                completed: error.is_none(),
                duration_ms: self.duration_ms,
                error,
                last_for_now: self.place == MOST_AN_HOUR,
            },
        }
    }
}

/// The beginning of a topic, for the subject of a mail.
fn shortened(topic: &str) -> String {
    let mut line = topic.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MOST_OF_TOPIC) {
        line.truncate(end);
        line.push('…');
    }
    line
}
