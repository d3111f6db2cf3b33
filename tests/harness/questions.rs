//! Questions to models, answered by the test in a worker's place: word by word, or not at all.

use crate::{World, eventually};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use redis::AsyncCommands;
use serde_json::{Value, json};
use shared::{
    events::{Tokens, announcement, tokens_channel},
    kind::Payload,
    models::{Ending, Failure, Finish, Job, JobStatus},
    schema::jobs,
};
use std::sync::Mutex;

/// A job of the queue `ai` that the test has claimed.
pub struct Question<'a> {
    world: &'a World,
    /// The job, as it was claimed.
    pub job: Job,
    said: Mutex<String>,
}

impl World {
    /// Waits for somebody to ask a model something, and claims it. The world must have no worker for it.
    pub async fn question(&self) -> Question<'_> {
        let id = eventually("somebody to ask a model", async || {
            let waiting = jobs::table.filter(jobs::queue.eq("ai").and(jobs::status.eq(JobStatus::Queued)));
            let id =
                waiting.order(jobs::id).select(jobs::id).first(&mut *self.conn().await).await.optional().unwrap()?;
            // it is pushed once whoever asks is listening; a worker hears of it no sooner
            self.queue("ai").missing(&[id]).await.unwrap().is_empty().then_some(id)
        })
        .await;
        let mut claimed = Job::claim(&mut *self.conn().await, &[id], "the test", 5).await.unwrap();
        Question { world: self, job: claimed.pop().unwrap(), said: Mutex::default() }
    }
}

impl Question<'_> {
    /// What is asked.
    pub fn payload(&self) -> Payload {
        self.job.payload().unwrap()
    }

    /// The messages of a conversation as pairs of role and content.
    pub fn messages(&self) -> Value {
        let messages = self.job.payload["messages"].as_array().unwrap();
        messages.iter().map(|message| json!([message["role"], message["content"]])).collect()
    }

    /// Says the next piece.
    pub async fn say(&self, text: &str) {
        let offset = {
            let mut said = self.said.lock().unwrap();
            said.push_str(text);
            said.len() - text.len()
        };
        self.publish(self.job.attempt, offset, text).await;
    }

    /// Publishes a piece, whether it follows or not.
    pub async fn publish(&self, attempt: i32, offset: usize, text: &str) {
        let tokens = Tokens { attempt, offset, text: text.to_owned() };
        let channel = tokens_channel(&self.world.prefix, self.job.id);
        let message = serde_json::to_string(&tokens).unwrap();
        let _: i64 = self.world.redis.clone().publish(channel, message).await.unwrap();
    }

    /// Ends the job with this answer, as a worker does: the same versions of it as were asked for.
    pub async fn answer(&self, text: &str) {
        let choices: Vec<_> = match self.payload() {
            Payload::TextGeneration(wanted) => {
                (0..wanted.n).map(|index| json!({ "text": text, "index": index, "finish_reason": "stop" })).collect()
            }
            Payload::ChatCompletion(_)
            | Payload::BatchShare(_)
            | Payload::PipelineRun(_)
            | Payload::Orchestration(_)
            | Payload::ImageAnalysis(_)
            | Payload::WebhookDelivery(_)
            | Payload::Mail(_)
            | Payload::Probe(_) => {
                vec![json!({
                    "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop",
                })]
            }
        };
        self.end(Ending::Completed(json!({
            "choices": choices,
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
            "metadata": {
                "model": self.job.payload["model"], "provider": "local", "answered_by": "smollm2", "local": true,
                "cost": 0.0, "fallbacks": [],
            },
        })))
        .await;
    }

    /// Ends the job as failed.
    pub async fn fail(&self, code: &str, message: &str) {
        let failure = Failure { code: code.to_owned(), message: message.to_owned() };
        self.end(Ending::Failed(failure, None)).await;
    }

    async fn end(&self, ending: Ending) {
        let finish = Finish { id: self.job.id, kind: self.job.kind, attempt: self.job.attempt, ending };
        let events = Job::finish(&mut *self.world.conn().await, &[finish]).await.unwrap().events;
        assert_eq!(events.len(), 1, "the job was no longer held");
        let _: () = announcement(&self.world.prefix, &events).query_async(&mut self.world.redis.clone()).await.unwrap();
    }

    /// Waits until the job is asked to stop, and stops it.
    pub async fn asked_to_stop(&self) {
        eventually("the job to be asked to stop", async || {
            // whoever has gone is noticed when something is sent
            self.say(" and so on").await;
            self.world.job(self.job.id).await.cancel_requested.then_some(())
        })
        .await;
        self.end(Ending::Cancelled).await;
    }
}
