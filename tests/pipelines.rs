//! Pipelines as the members of an organization use them.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use futures_util::StreamExt;
use harness::{Answer, Member, World};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

fn fields(answer: &Answer) -> BTreeSet<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|element| element["id"].as_str().unwrap()).collect()
}

/// Text in, upper case out.
fn graph() -> Value {
    json!({
        "nodes": [
            { "id": "in", "type": "input", "config": { "inputType": "text", "placeholder": "Say it" } },
            { "id": "up", "type": "transform", "position": { "x": 1.5, "y": -2 }, "config": { "operation": "upper" } },
        ],
        "connections": [{ "source": "in", "target": "up" }],
    })
}

async fn make(member: &Member, name: &str) -> Value {
    let mut body = graph();
    body["name"] = json!(name);
    member.client.post("/pipelines", body).await.expect(201)
}

fn path(pipeline: &Value) -> String {
    format!("/pipelines/{}", pipeline["id"].as_str().unwrap())
}

/// Sends a request with `If-Match`.
async fn if_match(member: &Member, method: Method, path: &str, tag: &str, body: Value) -> Answer {
    let request = member.client.request(method, &format!("/api/v1{path}")).header("if-match", tag).json(&body);
    member.client.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_comes_back_as_it_was_spelled_with_its_defaults() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let made = make(&member, "Shout").await;
    assert_eq!((&made["name"], &made["description"], &made["status"]), (&json!("Shout"), &json!(""), &json!("draft")));
    assert_eq!(made["metadata"], json!({ "tags": [], "category": null }));
    assert_eq!((&made["node_count"], &made["executions"]), (&json!(2), &json!([])));
    assert_eq!((&made["last_executed"], &made["created_by"]), (&Value::Null, &json!(member.id())));
    assert_eq!(made["nodes"][0]["config"], json!({ "inputType": "text", "placeholder": "Say it" }));
    assert_eq!(made["nodes"][0]["position"], json!({ "x": 0, "y": 0 }));
    assert_eq!(made["nodes"][1]["position"], json!({ "x": 1.5, "y": -2 }));
    let connection = &made["connections"][0];
    assert_eq!((&connection["source_handle"], &connection["target_handle"]), (&json!("output"), &json!("input")));
    assert!(connection["id"].as_str().is_some_and(|id| !id.is_empty()));
    assert_eq!(member.client.get(&path(&made)).await.expect(200), made);

    let metadata = json!({ "tags": ["a"], "owner": { "team": 7 } });
    let named = json!({ "name": "Empty", "status": "published", "description": "Nothing", "metadata": metadata });
    let named = member.client.post("/pipelines", named).await.expect(201);
    assert_eq!(named["metadata"], json!({ "tags": ["a"], "category": null, "owner": { "team": 7 } }));
    assert_eq!(
        (&named["status"], &named["nodes"], &named["connections"]),
        (&json!("published"), &json!([]), &json!([]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_named_at_once_and_a_circle_is_another_kind_of_mistake() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let wrong = json!({
        "name": " ", "description": "d".repeat(2001), "metadata": { "tags": ["a", 1], "category": 2 },
        "nodes": [
            { "id": "a", "type": "input" },
            { "id": "a", "type": "nonsense" },
            { "id": "b", "type": "openai", "config": { "temperature": 2, "maxTokens": 0 } },
        ],
        "connections": [{ "source": "a", "target": "nobody" }],
    });
    let answer = member.client.post("/pipelines", wrong.clone()).await;
    let expected = BTreeSet::from([
        "name",
        "description",
        "metadata.tags[1]",
        "metadata.category",
        "nodes[1].id",
        "nodes[1].type",
        "nodes[2].config.temperature",
        "connections[0].target",
    ]);
    assert!(fields(&answer).is_superset(&expected), "{}", answer.text);
    assert!(fields(&answer).iter().any(|field| field.starts_with("nodes[2].config.max")), "{}", answer.text);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    for (body, field) in [
        (json!({}), "name"),
        (json!({ "name": "n".repeat(201) }), "name"),
        (json!({ "name": "a", "status": "gone" }), "status"),
        (json!({ "name": "a", "nodes": {} }), "nodes"),
        (json!({ "name": "a", "metadata": { "tags": "x" } }), "metadata.tags"),
        (
            json!({ "name": "a", "nodes": (0..201).map(|n| json!({ "id": n.to_string(), "type": "input" })).collect::<Vec<_>>() }),
            "nodes",
        ),
    ] {
        let answer = member.client.post("/pipelines", body).await;
        assert_eq!(fields(&answer), BTreeSet::from([field]), "{}", answer.text);
        answer.error(400);
    }
    let mut circle = graph();
    circle["name"] = json!("Round");
    circle["nodes"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "id": "low", "type": "transform", "config": { "operation": "lower" } }));
    circle["connections"] = json!([{ "source": "up", "target": "low" }, { "source": "low", "target": "up" }]);
    assert_eq!(member.client.post("/pipelines", circle).await.error(422), "UNPROCESSABLE_ENTITY");
    let made = make(&member, "Straight").await;
    let itself = json!({ "connections": [{ "source": "up", "target": "up" }] });
    assert_eq!(member.client.put(&path(&made), itself).await.error(422), "UNPROCESSABLE_ENTITY");
    let lonely = json!({ "nodes": [{ "id": "in", "type": "input" }] });
    let answer = member.client.put(&path(&made), lonely).await;
    assert_eq!(fields(&answer), BTreeSet::from(["connections[0].target"]), "a stored connection would lead nowhere");
    answer.error(400);
    assert_eq!(member.client.get(&path(&made)).await.expect(200), made, "nothing has changed");
    assert_eq!(member.client.get("/pipelines").await.expect(200)["pagination"]["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_pipeline_is_taken_and_a_too_large_one_is_not() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let body = |bytes: usize| {
        let node = json!({ "id": "a", "type": "input", "config": { "placeholder": "x".repeat(bytes) } });
        json!({ "name": "Large", "nodes": [node] })
    };
    let made = member.client.post("/pipelines", body(4 << 20)).await.expect(201);
    assert_eq!(made["nodes"][0]["config"]["placeholder"].as_str().unwrap().len(), 4 << 20);
    assert_eq!(member.client.post("/pipelines", body(5 << 20)).await.error(400), "VALIDATION_ERROR");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_sent_changes_and_each_change_makes_a_new_version() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let made = make(&member, "Shout").await;
    let path = path(&made);
    let tag = |answer: &Answer| answer.headers["etag"].to_str().unwrap().to_owned();
    let first = tag(&member.client.get(&path).await);
    let changed = member.client.patch(&path, json!({ "description": "Loud", "status": "published" })).await;
    let second = tag(&changed);
    let changed = changed.expect(200);
    assert_ne!(first, second);
    assert_eq!(
        (&changed["description"], &changed["status"], &changed["name"]),
        (&json!("Loud"), &json!("published"), &json!("Shout"))
    );
    assert_eq!((&changed["nodes"], &changed["connections"]), (&made["nodes"], &made["connections"]));
    assert!(changed["updated_at"].as_str() > made["updated_at"].as_str());

    let same = member.client.put(&path, changed.clone()).await;
    assert_eq!(tag(&same), second, "what is sent back as it was read changes nothing");
    let outdated = if_match(&member, Method::PUT, &path, &first, json!({ "name": "Mine" })).await;
    assert_eq!(outdated.error(409), "CONFLICT");
    let current = if_match(&member, Method::PUT, &path, &second, json!({ "name": "Mine" })).await;
    let third = tag(&current);
    assert_eq!(current.expect(200)["name"], "Mine");
    let two = json!({ "nodes": [{ "id": "in", "type": "input" }], "connections": [] });
    let fewer = if_match(&member, Method::PATCH, &path, "*", two).await.expect(200);
    assert_eq!((&fewer["node_count"], &fewer["connections"]), (&json!(1), &json!([])));
    assert_eq!(if_match(&member, Method::DELETE, &path, &third, Value::Null).await.error(409), "CONFLICT");
    let now = tag(&member.client.get(&path).await);
    if_match(&member, Method::DELETE, &path, &now, Value::Null).await.expect(204);
    assert_eq!(member.client.get(&path).await.error(404), "RESOURCE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_made_from_one_version_one_is_refused() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let made = make(&member, "Shout").await;
    let path = path(&made);
    let change = |name: &'static str| if_match(&member, Method::PUT, &path, "\"1\"", json!({ "name": name }));
    let (one, two) = tokio::join!(change("one"), change("two"));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_a_draft_of_its_own() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let colleague = world.colleague(&api, &admin, "member").await;
    let made = make(&admin, "Shout").await;
    admin.client.patch(&path(&made), json!({ "status": "archived", "metadata": { "x": 1 } })).await.expect(200);
    let copy = colleague.client.post(&format!("{}/duplicate", path(&made)), json!({})).await.expect(201);
    assert_eq!((&copy["name"], &copy["status"]), (&json!("Shout (copy)"), &json!("draft")));
    assert_eq!((&copy["nodes"], &copy["metadata"]["x"]), (&made["nodes"], &json!(1)));
    assert_eq!(copy["created_by"], json!(colleague.id()));
    assert_ne!(copy["id"], made["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_are_filtered_searched_and_sorted() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let mut made = Vec::new();
    for (name, status) in [("Blue mugs", "draft"), ("Red mugs", "published"), ("100% wool", "archived")] {
        let body = json!({ "name": name, "status": status });
        made.push(member.client.post("/pipelines", body).await.expect(201)["id"].as_str().unwrap().to_owned());
    }
    let run = member.client.post(&format!("/pipelines/{}/run", made[1]), json!({})).await.expect(202);
    for (query, expected) in [
        ("", vec![2, 1, 0]),
        ("?sort_by=name", vec![2, 0, 1]),
        ("?sort_by=name&sort_order=desc", vec![1, 0, 2]),
        ("?sort=last_executed", vec![1, 0, 2]),
        ("?sort=-last_executed", vec![1, 2, 0]),
        ("?status=draft,archived", vec![2, 0]),
        ("?search=MUGS%20red", vec![1]),
        ("?search=%25", vec![2]),
        ("?limit=1&page=2", vec![1]),
    ] {
        let list = member.client.get(&format!("/pipelines{query}")).await.expect(200);
        let expected: Vec<_> = expected.into_iter().map(|index: usize| made[index].as_str()).collect();
        assert_eq!(ids(&list), expected, "{query}");
    }
    let answer = member.client.get("/pipelines?status=gone&sort=nodes&limit=101").await;
    assert_eq!(fields(&answer), BTreeSet::from(["limit", "sort", "status"]));
    answer.error(400);
    let cancel = format!("/executions/{}/cancel", run["execution_id"].as_str().unwrap());
    member.client.post(&cancel, json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_pipelines_viewers_read_them_and_strangers_know_of_none() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let manager = world.colleague(&api, &admin, "manager").await;
    let member = world.colleague(&api, &admin, "member").await;
    let viewer = world.colleague(&api, &admin, "viewer").await;
    let stranger = world.member(&api).await;
    let made = make(&admin, "Shout").await;
    let path = path(&made);
    for reader in [&manager, &member, &viewer] {
        assert_eq!(reader.client.get(&path).await.expect(200), made);
        assert_eq!(reader.client.get("/pipelines").await.expect(200)["pagination"]["total"], 1);
    }
    assert_eq!(stranger.client.get("/pipelines").await.expect(200)["pagination"]["total"], 0);
    let schedule = json!({ "cron": "0 0 * * *", "inputs": { "in": { "text": "a" } } });
    let writes = [
        (Method::PUT, path.clone(), json!({ "name": "Mine" })),
        (Method::DELETE, path.clone(), Value::Null),
        (Method::POST, format!("{path}/duplicate"), json!({})),
        (Method::POST, format!("{path}/run"), json!({ "inputs": { "in": { "text": "a" } } })),
        (Method::POST, format!("{path}/schedules"), schedule),
    ];
    for (method, path, body) in &writes {
        for (who, status) in [(&viewer, 403), (&stranger, 404)] {
            let request = who.client.request(method.clone(), &format!("/api/v1{path}")).json(body);
            let answer = who.client.send(request).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text);
            answer.error(status);
        }
    }
    viewer.client.post("/pipelines", json!({ "name": "Mine" })).await.error(403);
    member.client.patch(&path, json!({ "description": "Ours" })).await.expect(200);
    assert_eq!(member.client.delete(&path).await.error(403), "INSUFFICIENT_PERMISSIONS");
    let own = make(&member, "Own").await;
    member.client.delete(&self::path(&own)).await.expect(204);
    manager.client.delete(&path).await.expect(204);
    admin.client.delete(&path).await.error(404);
    for id in ["1", "%00", &Uuid::now_v7().to_string()] {
        assert_eq!(admin.client.get(&format!("/pipelines/{id}")).await.error(404), "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_types_of_nodes_are_listed_with_the_schema_of_their_config() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let list = member.client.get("/pipelines/node-types").await.expect(200);
    let types: Vec<_> = list["data"].as_array().unwrap().iter().map(|node| node["type"].as_str().unwrap()).collect();
    for known in
        ["input", "openai", "llm", "prompt", "transform", "condition", "merge", "http", "image_analysis", "output"]
    {
        assert!(types.contains(&known), "{known} is missing in {types:?}");
    }
    assert_eq!(list["pagination"]["total"], types.len());
    for node in list["data"].as_array().unwrap() {
        assert!(node["config_schema"]["properties"].is_object(), "{node}");
        assert!(node["title"].as_str().is_some_and(|title| !title.is_empty()), "{node}");
    }
    let condition = list["data"].as_array().unwrap().iter().find(|node| node["type"] == "condition").unwrap();
    assert_eq!(condition["outputs"], json!(["true", "false"]));
    // it is a list as every other
    let page = member.client.get("/pipelines/node-types?limit=2&page=2").await.expect(200);
    assert_eq!(page["data"].as_array().unwrap()[..], list["data"].as_array().unwrap()[2..4]);
    let last = member.client.get("/pipelines/node-types?sort=-type&limit=1").await.expect(200);
    assert_eq!((&last["data"][0]["type"], &last["pagination"]["has_next"]), (&json!("transform"), &json!(true)));
    member.client.get("/pipelines/node-types?limit=0").await.error(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_organization_is_told_what_becomes_of_its_pipelines() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let channel = shared::events::organization_channel(&world.prefix, member.organization_id());
    let client = redis::Client::open(world.servers.redis()).unwrap();
    let mut listener = client.get_async_pubsub().await.unwrap();
    listener.subscribe(&channel).await.unwrap();
    let mut notices = listener.on_message();
    let mut next =
        async || -> Value { serde_json::from_slice(notices.next().await.unwrap().get_payload_bytes()).unwrap() };

    let made = make(&member, "Shout").await;
    let (id, user) = (&made["id"], json!(member.id()));
    let created = json!({ "type": "pipeline:created", "data": { "id": id, "name": "Shout", "user_id": user } });
    assert_eq!(next().await, created);
    member.client.patch(&path(&made), json!({ "name": "Shout" })).await.expect(200);
    member
        .client
        .patch(&path(&made), json!({ "name": "Whisper", "description": "", "nodes": [], "connections": [] }))
        .await
        .expect(200);
    let changes = json!(["name", "nodes", "connections"]);
    let updated = json!({ "type": "pipeline:updated", "data": { "id": id, "changes": changes, "updated_by": user } });
    assert_eq!(next().await, updated, "a change that changes nothing is not told");
    member.client.delete(&path(&made)).await.expect(204);
    assert_eq!(next().await, json!({ "type": "pipeline:deleted", "data": { "id": id, "deleted_by": user } }));
}
