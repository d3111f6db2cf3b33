//! `atelier admin job retry` and `job discard`: what an operator does about jobs that failed.

use chrono::Utc;
use serde_json::{Value, json};
use shared::{
    kind::Kind,
    models::{Discarded, Refused, Reopened},
};
use uuid::Uuid;

use super::{answer::Answer, ground::Ground};

/// Jobs of one transaction.
const PAGE: usize = 200;

/// Let jobs that failed or were cancelled try again
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "all_failed"]))]
#[command(after_help = "\
A job waits again, due now, with all its attempts before it. Steps that are finished stay finished, and answers
of language models that came are neither asked for nor paid again.

What is not undone: webhooks, mails and events that told of the first end have gone out, and another end is told
again; a request that was given back to a quota is not counted again. A mail cannot be sent again, since what it
says is forgotten; an image that a later job has analysed is left alone.

Examples:
  atelier admin job retry 0197a1c2-6f2e-7c31-9d2e-4b1f0c5a7e10
  atelier admin job retry --all-failed --kind webhook_delivery --json")]
pub(super) struct Retry {
    /// Their ids
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,

    /// All failed ones of one kind
    #[arg(long, requires = "kind")]
    all_failed: bool,

    /// image_analysis, pipeline_run, orchestration, chat_completion, text_generation, webhook_delivery or probe
    #[arg(long, value_name = "KIND", requires = "all_failed")]
    kind: Option<Kind>,
}

/// Delete failed jobs with everything that belongs to them
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The run, its steps, events and records go, and the objects that its nodes left in the store; usage that was
recorded stays. There is no way back. A run that another one has taken results over from is kept.

Examples:
  atelier admin job discard 0197a1c2-6f2e-7c31-9d2e-4b1f0c5a7e10
  atelier admin job discard $(atelier admin --json job list --status failed --kind probe | jq -r '.jobs[].id')")]
pub(super) struct Discard {
    /// Their ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<Uuid>,
}

pub(super) async fn retry(retry: Retry, ground: &mut Ground) -> anyhow::Result<Answer> {
    let mut done = Done::default();
    let Some(kind) = retry.kind else {
        for ids in distinct(retry.ids).chunks(PAGE) {
            done.reopen(ids, ground).await?;
        }
        return Ok(done.answer("retried", "wait for a worker again"));
    };
    // what fails again while this goes on is not tried once more
    let (begun, mut behind) = (Utc::now(), None);
    loop {
        let page = Reopened::list_failed(&mut ground.conn, kind, begun, behind, PAGE as i64).await?;
        let Some(last) = page.last().copied() else { break };
        behind = Some(last);
        let ids: Vec<Uuid> = page.into_iter().map(|(_, id)| id).collect();
        done.reopen(&ids, ground).await?;
    }
    Ok(done.answer("retried", "wait for a worker again"))
}

pub(super) async fn discard(discard: Discard, ground: &mut Ground) -> anyhow::Result<Answer> {
    let mut done = Done::default();
    for ids in distinct(discard.ids).chunks(PAGE) {
        let Discarded { gone, refused } = Discarded::of(&mut ground.conn, ids).await?;
        done.ids.extend(gone);
        done.refused.extend(refused);
    }
    Ok(done.answer("discarded", "are gone"))
}

fn distinct(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What was done so far.
#[derive(Default)]
struct Done {
    ids: Vec<Uuid>,
    refused: Vec<(Uuid, Refused)>,
    remark: Option<String>,
}

impl Done {
    async fn reopen(&mut self, ids: &[Uuid], ground: &mut Ground) -> anyhow::Result<()> {
        let Reopened { waiting, refused } = Reopened::of(&mut ground.conn, ids).await?;
        // Redis only makes it fast
        self.remark = ground.push(&waiting).await.or(self.remark.take());
        self.ids.extend(waiting.into_iter().map(|job| job.id));
        self.refused.extend(refused);
        Ok(())
    }

    fn answer(self, key: &str, became: &str) -> Answer {
        let words = match self.ids.len() {
            0 => String::new(),
            1 => format!("1 job: {}", became.replace("are", "is").replace("wait ", "waits ")),
            count => format!("{count} jobs {became}"),
        };
        let refused: Vec<Value> =
            self.refused.iter().map(|(id, reason)| json!({ "id": id, "reason": reason.to_string() })).collect();
        let words = if words.is_empty() && refused.is_empty() { "there is no such job".to_owned() } else { words };
        Answer::new(json!({ key: self.ids, "refused": refused }), words)
            .with_refused(&self.refused)
            .with_remark(self.remark)
    }
}
