//! The same bodies by the same HTTP client, and nothing else.

use crate::receiver::Arrivals;
use reqwest::Client;
use serde_json::json;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use uuid::Uuid;

/// Requests at a time, as many as a receiver gets from a worker.
const AT_ONCE: usize = 32;

async fn post(client: &Client, url: &str, id: Uuid, number: usize) {
    let data = json!({ "number": number, "text": "grün ☃" });
    let body = json!({ "id": id, "event": "job.completed", "data": data }).to_string();
    let request = client.post(url).header("content-type", "application/json").header("webhook-id", id.to_string());
    assert!(request.body(body).send().await.unwrap().status().is_success());
}

/// As fast as it goes; requests a second.
pub(crate) async fn flood(url: &str, count: usize) -> f64 {
    let client = Client::new();
    let mut loops = JoinSet::new();
    let start = Instant::now();
    for first in 0..AT_ONCE {
        let (client, url) = (client.clone(), url.to_owned());
        loops.spawn(async move {
            for number in (first..count).step_by(AT_ONCE) {
                post(&client, &url, Uuid::now_v7(), number).await;
            }
        });
    }
    loops.join_all().await;
    count as f64 / start.elapsed().as_secs_f64()
}

/// At a steady rate; how long each takes to arrive.
pub(crate) async fn paced(url: &str, arrivals: &Arrivals, rate: u32, count: u32) -> Vec<Duration> {
    let client = Client::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut sending, mut sent) = (JoinSet::new(), HashMap::new());
    for number in 0..count {
        tick.tick().await;
        let (client, url, id) = (client.clone(), url.to_owned(), Uuid::now_v7());
        sent.insert(id, Instant::now());
        sending.spawn(async move { post(&client, &url, id, number as usize).await });
    }
    sending.join_all().await;
    let arrived = arrivals.take();
    sent.into_iter().map(|(id, at)| arrived[&id].saturating_duration_since(at)).collect()
}
