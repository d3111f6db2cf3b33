//! Renews the leases of everything in hand, independently of the handlers and of apalis' own polling.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use super::lease::Consumer;
use super::{CHUNK, scripts};

/// A lease survives two failed renewals.
const PER_LEASE: u32 = 3;

pub(super) async fn run(consumer: Arc<Consumer>) {
    let queue = &consumer.queue;
    let lease = consumer.options.lease;
    let mut conn = queue.conn.clone();
    let mut ticks = tokio::time::interval(lease / PER_LEASE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for leases in consumer.leases().chunks(CHUNK) {
            match scripts::renew(&mut conn, &queue.keys, lease, leases).await {
                Ok(lost) => {
                    lost.into_iter().filter_map(|place| leases.get(place)).for_each(|lease| consumer.lose(*lease))
                }
                Err(error) => {
                    tracing::warn!(queue = queue.name(), %error, "lease renewal failed, trying again")
                }
            }
        }
    }
}
