//! A file a kind. A job is a function from what it is told to an outcome.

mod batch;
mod chat_completion;
mod image_analysis;
mod mail;
mod model_answer;
mod orchestration;
mod pipeline_run;
mod probe;
mod text_generation;
mod webhook_delivery;

use crate::{
    outcome::{Outcome, Stop},
    reporter::Reporter,
    webhooks::Errand,
};
use shared::{
    kind::Payload,
    models::{Failure, Job},
};

/// Runs a job of any kind. `errand`: what a webhook delivery brings along.
pub(crate) async fn run(reporter: &Reporter<'_>, job: &Job, errand: Errand) -> Result<Outcome, Stop> {
    match job.payload() {
        Ok(Payload::ImageAnalysis(payload)) => image_analysis::run(reporter, &payload).await,
        Ok(Payload::BatchShare(payload)) => batch::help(reporter, &payload).await,
        Ok(Payload::PipelineRun(payload)) => pipeline_run::run(reporter, &payload).await,
        Ok(Payload::Orchestration(payload)) => orchestration::run(reporter, &payload).await,
        Ok(Payload::ChatCompletion(payload)) => chat_completion::run(reporter, &payload).await,
        Ok(Payload::TextGeneration(payload)) => text_generation::run(reporter, &payload).await,
        Ok(Payload::WebhookDelivery(_)) => webhook_delivery::run(reporter, errand).await,
        Ok(Payload::Mail(payload)) => mail::run(reporter, &payload).await,
        Ok(Payload::Probe(payload)) => probe::run(reporter, &payload).await,
        Err(error) => Ok(Outcome::Fail {
            failure: Failure {
                code: "payload_unreadable".to_owned(),
                message: format!("This worker does not understand what the job is told: {error}"),
            },
            result: None,
        }),
    }
}
