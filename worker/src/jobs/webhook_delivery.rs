//! `webhook_delivery`: brings one event to one receiver. Each attempt is one request.

use crate::{
    outcome::{Outcome, Stop},
    reporter::Reporter,
    webhooks::{Errand, Reply, Sent},
};
use shared::models::{Delivery, Failure, Tried};
use std::time::Duration;

/// When a delivery comes again whose receiver became slow while it waited.
const BUSY: std::ops::Range<f64> = 2.0..10.0;

pub(super) async fn run(reporter: &Reporter<'_>, errand: Errand) -> Result<Outcome, Stop> {
    let webhooks = &reporter.context.webhooks;
    let Errand { delivery, leave } = errand;
    let delivery = match delivery {
        Some(delivery) => Some(delivery),
        None => {
            let mut conn = reporter.context.pool.get().await?;
            Delivery::load(&mut conn, &[reporter.job_id]).await?.remove(&reporter.job_id)
        }
    };
    let Some(delivery) = delivery else {
        return Ok(unsent("webhook_deleted", "The webhook was deleted before this was sent."));
    };
    if !delivery.is_wanted() {
        return Ok(unsent("webhook_inactive", "The webhook was switched off before this was sent."));
    }
    let Some(Sent { tried, reply }) = webhooks.send(&delivery, leave).await else {
        let message = "The receiver has become slow; this waits for its turn.".to_owned();
        let failure = Failure { code: "receiver_busy".to_owned(), message };
        let after = Some(Duration::from_secs_f64(rand::random_range(BUSY)));
        return Ok(Outcome::Retry { after, charge: false, failure });
    };
    let tries = usize::try_from(reporter.job.charged_attempts()).unwrap_or_default();
    Ok(match reply {
        Reply::Taken => Outcome::Done(tried.into_result()),
        Reply::Gone => failed("receiver_gone", tried),
        Reply::Forbidden => failed("receiver_forbidden", tried),
        Reply::Refused(asked) => match webhooks.schedule().after(tries, asked) {
            None => failed("delivery_failed", tried),
            Some(after) => Outcome::TryAgain { after, failure: failure("delivery_failed", &tried), tried },
        },
    })
}

fn unsent(code: &str, message: &str) -> Outcome {
    Outcome::Fail { failure: Failure { code: code.to_owned(), message: message.to_owned() }, result: None }
}

fn failed(code: &str, tried: Tried) -> Outcome {
    Outcome::Fail { failure: failure(code, &tried), result: Some(tried.into_result()) }
}

fn failure(code: &str, tried: &Tried) -> Failure {
    Failure { code: code.to_owned(), message: tried.error.clone().unwrap_or_default() }
}
