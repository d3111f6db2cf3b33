//! The fan-out of live events inside one API process, on a real Redis that goes and comes.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use api::live::{Hub, Live, Subscription};
use harness::World;
use redis::AsyncCommands;
use std::time::Duration;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A hub that runs until the guard is dropped.
fn hub(url: &str) -> (Hub, DropGuard, JoinSet<()>) {
    let hub = Hub::new(redis::Client::open(url).unwrap());
    let shutdown = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(hub.clone().run(shutdown.clone()));
    (hub, shutdown.drop_guard(), running)
}

fn redis_url(world: &World) -> String {
    let settings = world.settings(&[]);
    settings.into_iter().find(|(name, _)| name == "REDIS_URL").unwrap().1
}

async fn publish(world: &World, channel: &str, message: &str) {
    // the first command after a restart of Redis meets the dead connection
    harness::eventually("Redis to take a message", async || {
        world.redis.clone().publish::<_, _, i64>(channel, message).await.ok().filter(|heard| *heard > 0)
    })
    .await;
}

async fn next(subscription: &mut Subscription) -> Live {
    timeout(Duration::from_secs(30), subscription.receiver.recv()).await.unwrap().unwrap()
}

fn message(text: &str) -> Live {
    Live::Message(text.to_owned().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listener_of_a_topic_hears_it_and_nobody_else_does() {
    let world = World::new().await;
    let (hub, _guard, _running) = hub(&redis_url(&world));
    let (news, sport) = (format!("{}:news", world.prefix), format!("{}:sport", world.prefix));
    let (mut one, mut two) = (hub.subscribe(&news).await, hub.subscribe(&news).await);
    let mut other = hub.subscribe(&sport).await;
    publish(&world, &news, "first").await;
    publish(&world, &sport, "goal").await;
    assert_eq!(next(&mut one).await, message("first"));
    assert_eq!(next(&mut two).await, message("first"));
    assert_eq!(next(&mut other).await, message("goal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_the_last_one_leaves_misses_nothing() {
    let world = World::new().await;
    let (hub, _guard, _running) = hub(&redis_url(&world));
    let topic = format!("{}:busy", world.prefix);
    let mut last = hub.subscribe(&topic).await;
    for round in 0..500 {
        let mut leaving = JoinSet::new();
        leaving.spawn(async move { drop(last) });
        let mut newcomer = hub.subscribe(&topic).await;
        leaving.join_all().await;
        publish(&world, &topic, &round.to_string()).await;
        assert_eq!(next(&mut newcomer).await, message(&round.to_string()));
        last = newcomer;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_nobody_listens_to_is_given_up_in_redis() {
    let world = World::new().await;
    let (hub, _guard, _running) = hub(&redis_url(&world));
    let topic = format!("{}:left", world.prefix);
    let listeners = async || {
        let (_, listeners): (String, i64) =
            redis::cmd("PUBSUB").arg("NUMSUB").arg(&topic).query_async(&mut world.redis.clone()).await.unwrap();
        listeners
    };
    let (one, two) = (hub.subscribe(&topic).await, hub.subscribe(&topic).await);
    assert_eq!(listeners().await, 1, "one subscription, however many listeners");
    drop(one);
    drop(two);
    harness::eventually("the subscription to end", async || (listeners().await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_redis_listeners_are_told_and_hear_again() {
    let world = World::with_own_redis().await;
    let (hub, _guard, _running) = hub(&redis_url(&world));
    let mut listener = hub.subscribe("topic").await;
    publish(&world, "topic", "before").await;
    assert_eq!(next(&mut listener).await, message("before"));
    world.redis_server(|redis| redis.start_again());
    assert_eq!(next(&mut listener).await, Live::Resumed);
    publish(&world, "topic", "after").await;
    assert_eq!(next(&mut listener).await, message("after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_who_came_while_redis_was_away_is_told_when_it_is_back() {
    let world = World::with_own_redis().await;
    world.redis_server(|redis| redis.stop());
    let (hub, _guard, _running) = hub(&redis_url(&world));
    let mut listener = timeout(Duration::from_secs(20), hub.subscribe("topic")).await.unwrap();
    world.redis_server(|redis| redis.start_again());
    assert_eq!(next(&mut listener).await, Live::Resumed);
    publish(&world, "topic", "now").await;
    assert_eq!(next(&mut listener).await, message("now"));
}
