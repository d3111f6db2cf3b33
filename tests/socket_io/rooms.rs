//! Rooms, who is in them, and what a whole organization is told.

use super::{Browser, finish, hears_all_of, pipeline, start};
use harness::World;
use serde_json::{Value, json};
use shared::events::{self, Notice};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_pipelines_is_told_to_the_organization_and_to_nobody_else() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, stranger) = (world.member(&api).await, world.member(&api).await);
    let colleague = world.colleague(&api, &member, "viewer").await;
    let mut browser = Browser::start().await;
    for (name, who) in [("own", &member), ("colleague", &colleague), ("stranger", &stranger)] {
        browser.enter(name, api.address, who).await;
    }
    let id = pipeline(&member).await;
    member
        .client
        .patch(&format!("/pipelines/{id}"), json!({ "name": "Whisper", "status": "published" }))
        .await
        .expect(200);
    member.client.delete(&format!("/pipelines/{id}")).await.expect(204);
    let user = member.id();
    for name in ["own", "colleague"] {
        let created = browser.event(name, "pipeline:created").await;
        assert_eq!(created, json!({ "id": id, "name": "Shout", "user_id": user }));
        let updated = browser.event(name, "pipeline:updated").await;
        assert_eq!(updated, json!({ "id": id, "changes": ["name", "status"], "updated_by": user }));
        let deleted = browser.event(name, "pipeline:deleted").await;
        assert_eq!(deleted, json!({ "id": id, "deleted_by": user }));
    }
    browser.hears_nothing("stranger").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_about_projects_are_passed_on_and_those_for_processes_are_not() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    browser.enter("socket", api.address, &member).await;
    let notice = |name: &str, data: Value| Notice { r#type: name.to_owned(), data };
    let known = json!({ "id": Uuid::now_v7(), "name": "House", "user_id": member.id() });
    let sent = [
        notice("execution:accepted", json!({ "id": Uuid::now_v7(), "place": Uuid::now_v7(), "user_id": member.id() })),
        notice("orchestration:accepted", json!({ "id": 7 })),
        notice("user:joined", json!({ "user_id": member.id(), "pipeline_id": Uuid::now_v7() })),
        notice("user:joined", json!({})),
        notice("something:else", json!({})),
        notice("project:created", known.clone()),
    ];
    let announcement = events::notices(&world.prefix, sent.iter().map(|notice| (member.organization_id(), notice)));
    announcement.query_async::<()>(&mut world.redis.clone()).await.unwrap();
    let garbage = events::organization_channel(&world.prefix, member.organization_id());
    let _: i64 = redis::AsyncCommands::publish(&mut world.redis.clone(), &garbage, "no JSON").await.unwrap();
    assert_eq!(browser.event("socket", "project:created").await, known);
    browser.hears_nothing("socket").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_in_a_room_hear_who_comes_and_goes_and_what_runs() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let colleague = world.colleague(&api, &member, "member").await;
    let id = pipeline(&member).await;
    let mut browser = Browser::start().await;
    browser.enter("one", api.address, &member).await;
    browser.enter("two", api.address, &member).await;
    browser.enter("colleague", api.address, &colleague).await;
    browser.join("one", &id).await;
    browser.join("one", &id).await;
    browser.join("two", &id).await;
    let name = world.names(&member).await;
    let joined = json!({ "user_id": member.id(), "pipeline_id": id, "user_name": name });
    assert_eq!(browser.event("one", "user:joined").await, joined, "also of the same user");
    browser.join("colleague", &id).await;
    let colleague_joined =
        json!({ "user_id": colleague.id(), "pipeline_id": id, "user_name": world.names(&colleague).await });
    for name in ["one", "two"] {
        assert_eq!(browser.event(name, "user:joined").await, colleague_joined);
    }

    let run = start(&member, &id).await;
    finish(world.take(run).await).await;
    for name in ["one", "two", "colleague"] {
        hears_all_of(&mut browser, name, run).await;
    }

    assert_eq!(browser.ask("colleague", "leave:pipeline", json!(id)).await, json!({ "ok": true }));
    let left = json!({ "user_id": colleague.id(), "pipeline_id": id });
    for name in ["one", "two"] {
        assert_eq!(browser.event(name, "user:left").await, left);
    }
    let run = start(&member, &id).await;
    finish(world.take(run).await).await;
    hears_all_of(&mut browser, "one", run).await;
    hears_all_of(&mut browser, "two", run).await;
    browser.hears_nothing("colleague").await;

    browser.close("two").await;
    assert_eq!(browser.event("one", "user:left").await, json!({ "user_id": member.id(), "pipeline_id": id }));
    browser.hears_nothing("one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_not_the_organizations_is_not_found() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, stranger) = (world.member(&api).await, world.member(&api).await);
    let (own, foreign) = (pipeline(&member).await, pipeline(&stranger).await);
    let project = world.project(&member, "House", json!({})).await;
    let mut browser = Browser::start().await;
    browser.enter("socket", api.address, &member).await;
    for (event, id) in [
        ("join:pipeline", json!(foreign)),
        ("join:pipeline", json!(Uuid::now_v7())),
        ("join:pipeline", json!("mug")),
        ("join:pipeline", json!(7)),
        ("join:pipeline", json!({ "id": own })),
        ("join:pipeline", Value::Null),
        ("join:pipeline", json!(project)),
        ("join:project", json!(own)),
        ("leave:pipeline", json!("mug")),
    ] {
        let answer = browser.ask("socket", event, id.clone()).await;
        assert_eq!((&answer["ok"], &answer["error"]["code"]), (&json!(false), &json!("RESOURCE_NOT_FOUND")), "{id}");
        assert!(answer["error"]["message"].is_string());
    }
    assert_eq!(browser.ask("socket", "join:project", json!(project)).await, json!({ "ok": true }));
    let other = world.colleague(&api, &member, "member").await;
    browser.enter("other", api.address, &other).await;
    browser.ask("other", "join:project", json!(project)).await;
    let joined = browser.event("socket", "user:joined").await;
    assert_eq!((&joined["project_id"], &joined["user_id"]), (&json!(project), &json!(other.id())));
    browser.ask("other", "leave:project", json!(project)).await;
    let left = browser.event("socket", "user:left").await;
    assert_eq!(left, json!({ "project_id": project, "user_id": other.id() }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_in_a_hundred_rooms_at_most() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let first = pipeline(&member).await;
    world
        .run_sql(&format!(
            "INSERT INTO pipelines (id, organization_id, created_by, name, description, status, metadata, nodes, \
                                    connections, node_count) \
             SELECT gen_random_uuid(), organization_id, created_by, name, description, status, metadata, nodes, \
                    connections, node_count \
             FROM pipelines, generate_series(1, 100) WHERE id = '{first}'"
        ))
        .await;
    let mut ids = Vec::new();
    for page in [1, 2] {
        let list = member.client.get(&format!("/pipelines?limit=100&page={page}")).await.expect(200);
        ids.extend(list["data"].as_array().unwrap().iter().map(|shown| shown["id"].clone()));
    }
    assert_eq!(ids.len(), 101);
    let mut browser = Browser::start().await;
    browser.enter("socket", api.address, &member).await;
    let last = ids.pop().unwrap();
    for id in &ids {
        assert_eq!(browser.ask("socket", "join:pipeline", id.clone()).await, json!({ "ok": true }));
    }
    let refused = browser.ask("socket", "join:pipeline", last.clone()).await;
    assert_eq!(refused["error"]["code"], "CONFLICT");
    browser.ask("socket", "leave:pipeline", ids[0].clone()).await;
    assert_eq!(browser.ask("socket", "join:pipeline", last).await, json!({ "ok": true }));
}
