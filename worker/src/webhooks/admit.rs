//! Which deliveries may go now. The others are put back: their rows stay as they are, so that it is no try of theirs, and
//! Redis brings them back after a while.

use super::{Errand, Webhooks, gate::Receiver};
use anyhow::Result;
use chrono::Utc;
use diesel_async::AsyncPgConnection;
use shared::{
    models::{Delivery, DeliveryPlace, LineHead},
    queue::{Priority, Queue, Ticket},
};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// When a delivery looks again whether it is the head of its line. The end of the one before wakes it; this is for the case
/// that nobody heard.
const IN_LINE: std::ops::Range<f64> = 60.0..120.0;

/// Deliveries that may go.
#[derive(Default)]
pub(crate) struct Admitted {
    /// All of them, to be claimed.
    pub(crate) ids: Vec<Uuid>,
    errands: HashMap<Uuid, Errand>,
}

impl Webhooks {
    /// Decides which of the deliveries may go, and puts the others back.
    pub(crate) async fn admit(&self, conn: &mut AsyncPgConnection, queue: &Queue, ids: Vec<Uuid>) -> Result<Admitted> {
        let places = DeliveryPlace::list(conn, &ids).await?;
        let heads = DeliveryPlace::heads(conn, &places).await?;
        let first: HashSet<Uuid> = heads.iter().map(|head| head.id).collect();
        let found: HashSet<Uuid> = places.iter().map(|place| place.id).collect();
        let mut admitted = Admitted::default();
        let (mut put_back, mut behind) = (Vec::new(), false);
        let now = Instant::now();
        for place in places {
            let id = place.id;
            let DeliveryPlace { organization_id: tenant, weight, .. } = place;
            let weight = weight.unsigned_abs();
            let ticket =
                |after| Ticket { id, tenant, weight, priority: Priority::Default, run_at: Some(Utc::now() + after) };
            let after = if place.unwanted {
                None
            } else if place.ordered && !first.contains(&id) {
                behind = true;
                Some(Duration::from_secs_f64(rand::random_range(IN_LINE)))
            } else {
                let receiver = match (place.webhook_id, place.callback_url) {
                    (Some(id), _) => Receiver::Webhook(id),
                    (None, url) => Receiver::CallBack(url.unwrap_or_default()),
                };
                match self.gate.admit(receiver, now) {
                    Ok(leave) => {
                        admitted.errands.insert(id, Errand { delivery: None, leave: Some(leave) });
                        None
                    }
                    Err(wait) => Some(wait),
                }
            };
            match after {
                None => admitted.ids.push(id),
                Some(after) => put_back.push(ticket(after)),
            }
        }
        // those whose webhooks were deleted end without a request; others do not wait any more, and are not claimed
        admitted.ids.extend(ids.into_iter().filter(|id| !found.contains(id)));
        if behind {
            // whoever is behind makes sure that the head is on its way, unless it is here
            let elsewhere = heads.iter().filter(|head| !found.contains(&head.id));
            put_back.extend(elsewhere.filter_map(LineHead::hint).map(|hint| hint.ticket));
        }
        if !put_back.is_empty() {
            metrics::counter!("atelier_webhook_deliveries_put_back_total").increment(put_back.len() as u64);
            // what is lost here, the scheduler tells Redis again
            if let Err(error) = queue.push(&put_back).await {
                tracing::debug!(%error, "deliveries that wait for their receivers were not put back");
            }
        }
        Ok(admitted)
    }
}

impl Admitted {
    /// Jobs that need no leave.
    pub(crate) fn all(ids: Vec<Uuid>) -> Self {
        Self { ids, errands: HashMap::new() }
    }

    /// Loads what is sent by those that were claimed. What cannot be read now is read by each of them.
    pub(crate) async fn load(&mut self, conn: &mut AsyncPgConnection, claimed: &[Uuid]) {
        match Delivery::load(conn, claimed).await {
            Ok(deliveries) => {
                for (id, delivery) in deliveries {
                    self.errands.entry(id).or_default().delivery = Some(delivery);
                }
            }
            Err(error) => tracing::warn!(%error, "deliveries not loaded together"),
        }
    }

    /// What a claimed delivery brings along.
    pub(crate) fn take(&mut self, id: Uuid) -> Errand {
        self.errands.remove(&id).unwrap_or_default()
    }
}
