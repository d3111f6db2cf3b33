//! Batches of a hundred images: shared by workers, with bad images among them, cancelled and killed on the way.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use bytes::Bytes;
use diesel::{QueryableByName, sql_types::BigInt};
use diesel_async::RunQueryDsl;
use harness::{Member, World, assert_whole, eventually, project_root};
use serde_json::{Value, json};
use shared::{
    config::{ObjectStore, Reader},
    events::{Change, Event},
    models::{JobStatus, StepStatus},
    storage::Storage,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// Every so many-th image of a batch is broken.
const BROKEN: usize = 20;

/// So many uploaded images of a product, some of them broken, none of them analysed yet. A hundred uploads by hand would
/// take longer than what is tested: the bytes are put into the store, and the rows beside them.
async fn uploaded(world: &World, member: &Member, product: &str, count: usize) -> Vec<String> {
    let storage = Storage::new(&ObjectStore::read(&mut Reader::new(world.settings(&[]))));
    let bytes = |name: &str| Bytes::from(std::fs::read(project_root().join("tests/images").join(name)).unwrap());
    let (good, bad) = (bytes("rocket.jpg"), bytes("bad/truncated.jpg"));
    let (mut ids, mut rows) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let file = if number.is_multiple_of(BROKEN) { &bad } else { &good };
        let (id, size) = (Uuid::now_v7(), file.len());
        let key = format!("products/{}/{product}/{id}_rocket.jpg", member.id());
        storage.put(&key, file.clone(), "image/jpeg").await.unwrap();
        rows.push(format!(
            "('{id}', '{product}', '{}', '{key}', 'rocket.jpg', 'image/jpeg', {size}, 'uploaded')",
            member.id()
        ));
        ids.push(id.to_string());
    }
    let columns = "id, product_id, user_id, s3_key, original_filename, content_type, file_size_bytes, upload_status";
    world.run_sql(&format!("INSERT INTO product_images ({columns}) VALUES {}", rows.join(", "))).await;
    ids
}

/// A batch that was accepted.
async fn batch(world: &World, member: &Member, count: usize) -> (Uuid, Vec<String>) {
    world.unlimited().await;
    let product = member.product("Mug").await;
    let images = uploaded(world, member, &product, count).await;
    let batch = member.client.post("/batch", json!({ "product_id": product, "image_ids": images })).await.expect(201);
    (batch["id"].as_str().unwrap().parse().unwrap(), images)
}

/// Image → the steps that events say have ended, in their order.
fn told(events: &[Event]) -> BTreeMap<Uuid, Vec<(String, StepStatus)>> {
    let mut told: BTreeMap<Uuid, Vec<(String, StepStatus)>> = BTreeMap::new();
    for event in events {
        if let Change::StepUpdate { item: Some(image), step, status, .. } = &event.body.change
            && status.is_final()
        {
            told.entry(*image).or_default().push((step.clone(), *status));
        }
    }
    told
}

/// Every step of every image is told once, in order, and the progress rises to its end.
fn assert_each_image_once(events: &[Event], images: &[String]) {
    let told = told(events);
    let all: BTreeSet<Uuid> = images.iter().map(|image| image.parse().unwrap()).collect();
    assert_eq!(told.keys().copied().collect::<BTreeSet<_>>(), all);
    for (number, image) in (1..).zip(images) {
        let steps: Vec<_> =
            told[&image.parse().unwrap()].iter().map(|(step, status)| (step.as_str(), *status)).collect();
        if usize::is_multiple_of(number, BROKEN) {
            assert_eq!(steps, [("preprocess", StepStatus::Failed)], "{image}");
        } else {
            let names = ["preprocess", "classify", "extract_attributes", "detect_defects", "describe"];
            assert_eq!(steps, names.map(|name| (name, StepStatus::Completed)), "{image}");
        }
    }
    let progress: Vec<_> = events.iter().map(|event| event.body.progress).collect();
    assert!(progress.is_sorted_by_key(|progress| progress.completed), "the progress never goes back");
    let last = progress.last().unwrap();
    assert_eq!((last.completed, last.total as usize), (last.total, images.len() * 5));
}

/// Attempts of jobs → images that they took.
async fn takers(world: &World, batch: Uuid) -> HashMap<(Uuid, i32), i64> {
    #[derive(QueryableByName)]
    #[diesel(check_for_backend(diesel::pg::Pg))]
    struct Taken {
        #[diesel(sql_type = diesel::sql_types::Uuid)]
        taken_by: Uuid,
        #[diesel(sql_type = diesel::sql_types::Int4)]
        taken_attempt: i32,
        #[diesel(sql_type = BigInt)]
        images: i64,
    }
    let taken: Vec<Taken> = diesel::sql_query(
        "SELECT taken_by, taken_attempt, count(*) AS images FROM job_images \
         WHERE job_id = $1 AND taken_by IS NOT NULL GROUP BY taken_by, taken_attempt",
    )
    .bind::<diesel::sql_types::Uuid, _>(batch)
    .load(&mut world.conn().await)
    .await
    .unwrap();
    taken.into_iter().map(|taken| ((taken.taken_by, taken.taken_attempt), taken.images)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_a_batch_of_a_hundred_images_and_the_bad_ones_cost_only_themselves() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (id, images) = batch(&world, &member, 100).await;
    let (one, other) = (world.worker(&["images"]).await, world.worker(&["images"]).await);
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!((job.items_done, job.items_failed, job.attempt), (95, 5, 1));

    let events = world.events(id).await;
    assert_whole(&events, JobStatus::Completed);
    assert_each_image_once(&events, &images);
    let takers = takers(&world, id).await;
    assert_eq!(takers.values().sum::<i64>(), 100);
    assert!(takers.len() > 1, "one worker took them all: {takers:?}");
    assert!(takers.contains_key(&(id, 1)), "the holder of the batch works, too: {takers:?}");

    let shown = member.client.get(&format!("/batch/{id}")).await.expect(200);
    assert_eq!((&shown["processed_images"], &shown["failed_images"]), (&json!(95), &json!(5)));
    let steps = shown["steps"].as_array().unwrap();
    assert_eq!(steps[0]["result_data"]["images"].as_object().unwrap().len(), 100);
    assert_eq!(steps[4]["result_data"]["images"].as_object().unwrap().len(), 95);
    world.drain().await;
    // those that help are nobody's business
    let all = member.client.get("/jobs").await.expect(200);
    assert_eq!(all["pagination"]["total"], 1);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_batch_that_is_cancelled_in_the_middle_stops_at_every_worker() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (id, images) = batch(&world, &member, 100).await;
    let (one, other) = (world.worker(&["images"]).await, world.worker(&["images"]).await);
    let path = format!("/batch/{id}");
    eventually("both to be at work", async || {
        let done = member.client.get(&path).await.expect(200)["processed_images"].as_i64().unwrap();
        (done > 4 && takers(&world, id).await.len() > 1).then_some(())
    })
    .await;
    member.client.delete(&path).await.expect(204);
    world.wait_for_status(id, JobStatus::Cancelled).await;
    // whoever still is at an image finds that it does not count any more
    world.drain().await;
    let events = world.events(id).await;
    assert_whole(&events, JobStatus::Cancelled);
    let stopped = member.client.get(&path).await.expect(200);
    let finished = told(&events).into_values().filter(|steps| steps.last().unwrap().0 == "describe").count();
    assert_eq!(stopped["processed_images"], finished, "what was finished stays");
    assert!(finished < images.len() * (BROKEN - 1) / BROKEN, "it was over before it was cancelled");
    let open = world.count_rows(&format!("job_images WHERE job_id = '{id}' AND status = 'pending'")).await;
    assert_eq!(open, 0, "every image has an outcome");
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_loses_nothing_when_a_helper_and_then_its_holder_are_killed() {
    let world = World::new().await;
    let (api, _scheduler) = (world.api().await, world.scheduler().await);
    let member = world.member(&api).await;
    let (id, images) = batch(&world, &member, 60).await;
    let images_of = async |of_holder: bool| {
        let takers = takers(&world, id).await;
        takers.iter().filter(|((job, _), _)| (*job == id) == of_holder).map(|(_, images)| *images).sum::<i64>()
    };
    let mut workers: Vec<_> = (0..2).map(|_| world.process(&["worker", "--pool", "images"], &[])).collect();
    eventually("a helper to be at work", async || (images_of(false).await > 0).then_some(())).await;
    let holder = world.job(id).await.worker.unwrap();
    let is_holder = |process: u32| holder.contains(&format!("/{process}/"));
    let place = workers.iter().position(|worker| !is_holder(worker.id())).unwrap();
    workers[place].kill();

    // the next one has to help or to hold, whichever comes first
    workers[place] = world.process(&["worker", "--pool", "images"], &[]);
    eventually("some more images", async || (told(&world.events(id).await).len() > images.len() / 3).then_some(()))
        .await;
    let place = workers.iter().position(|worker| is_holder(worker.id())).unwrap();
    workers[place].kill();
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    let events = world.events(id).await;
    assert_whole(&events, JobStatus::Completed);
    assert_each_image_once(&events, &images);
    assert_eq!((job.items_done, job.items_failed), (57, 3));
    world.drain().await;
    let analyses = member.client.get("/dashboard/stats").await.expect(200);
    assert_eq!(analyses["completed_analyses"], Value::from(57));
    for worker in &mut workers {
        worker.kill();
    }
}
