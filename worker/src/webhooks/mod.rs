//! Webhook deliveries: signed, sent, tried again, and kept from getting in each other's way.
//!
//! `admit` decides, before deliveries take a slot, which of them may go: `gate` keeps count of the slots, `endpoint` is what
//! is known of one receiver. `send` is one request, `sign` its signature, `schedule` when the next one follows.

mod admit;
mod endpoint;
mod gate;
mod schedule;
mod send;
mod sign;

pub use schedule::Schedule;

pub(crate) use admit::Admitted;
pub(crate) use gate::Leave;
pub(crate) use send::{Reply, Sent};

use crate::{config, outbound::Outbound, pools::Pools};
use gate::Gate;
use shared::kind::Kind;
use std::sync::Arc;

/// What receivers are told of who sends.
const USER_AGENT: &str = "Atelier-Webhooks/1.0";

/// What every delivery of this process shares.
pub(crate) struct Webhooks {
    outbound: Outbound,
    gate: Arc<Gate>,
    settings: config::Webhooks,
}

/// What a delivery brings along when its attempt begins.
#[derive(Default)]
pub(crate) struct Errand {
    /// What is to be sent, unless it could not be read yet.
    pub(crate) delivery: Option<shared::models::Delivery>,
    /// Leave to send it, if it needs one.
    pub(crate) leave: Option<Leave>,
}

impl Webhooks {
    pub(crate) fn new(settings: &config::Webhooks, pools: &Pools) -> reqwest::Result<Self> {
        let queue = Kind::WebhookDelivery.queue();
        let serving = pools.iter().filter(|(_, pool)| pool.queues.iter().any(|served| served == queue));
        let slots = serving.map(|(_, pool)| pool.concurrency).sum();
        Ok(Self {
            outbound: Outbound::new(settings.reach.clone(), USER_AGENT)?,
            gate: Arc::new(Gate::new(settings.concurrency, slots)),
            settings: settings.clone(),
        })
    }

    /// When a delivery is tried again.
    pub(crate) const fn schedule(&self) -> &Schedule {
        &self.settings.schedule
    }
}
