//! Projects as the members of an organization use them.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::{Int4, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::StreamExt;
use harness::{Answer, Member, World};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    kind::{Orchestration, Payload},
    models::{JobStatus, NewJob},
};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

fn fields(answer: &Answer) -> BTreeSet<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|project| project["name"].as_str().unwrap()).collect()
}

async fn make(member: &Member, body: Value) -> Value {
    member.client.post("/projects", body).await.expect(201)
}

fn path(project: &Value) -> String {
    format!("/projects/{}", project["id"].as_str().unwrap())
}

/// Sends a request with `If-Match`.
async fn if_match(member: &Member, method: Method, path: &str, tag: &str, body: Value) -> Answer {
    let request = member.client.request(method, &format!("/api/v1{path}")).header("if-match", tag).json(&body);
    member.client.send(request).await
}

fn tag(answer: &Answer) -> String {
    answer.headers["etag"].to_str().unwrap().to_owned()
}

/// Writes down an orchestration of a project as it is started, with so many phases that ended well and not.
async fn orchestrate(world: &World, member: &Member, project: &Value, completed: i32, failed: i32) -> Uuid {
    let project_id = project["id"].as_str().unwrap().parse().unwrap();
    let payload = Payload::Orchestration(Orchestration { project_id });
    let job = NewJob::new(member.id(), member.organization_id(), 1, payload);
    world.insert(&job).await;
    diesel::sql_query(
        "INSERT INTO orchestrations (id, organization_id, user_id, project_id, topic, integration_enabled, phases, \
             model, max_tokens, temperature, completed_phases, failed_phases) \
         VALUES ($1, $2, $3, $4, 'Mugs', FALSE, '{Ideation}', 'gpt-4', 2000, 0.7, $5, $6)",
    )
    .bind::<SqlUuid, _>(job.id)
    .bind::<SqlUuid, _>(member.organization_id())
    .bind::<SqlUuid, _>(member.id())
    .bind::<SqlUuid, _>(project_id)
    .bind::<Int4, _>(completed)
    .bind::<Int4, _>(failed)
    .execute(&mut world.conn().await)
    .await
    .unwrap();
    job.id
}

async fn set_status(world: &World, id: Uuid, status: JobStatus) {
    diesel::sql_query("UPDATE jobs SET status = $2, finished_at = now() WHERE id = $1")
        .bind::<SqlUuid, _>(id)
        .bind::<Text, _>(status)
        .execute(&mut world.conn().await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_comes_back_as_it_was_sent_with_its_defaults() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let me = member.client.get("/users/me").await.expect(200);
    let plain = make(&member, json!({ "name": "Website" })).await;
    let expected = json!({
        "id": plain["id"], "name": "Website", "description": "", "topic": "", "status": "active",
        "priority": "medium", "metadata": {}, "orchestration_runs": [],
        "created_by": { "id": member.id(), "username": me["username"], "full_name": me["full_name"] },
        "created_at": plain["created_at"], "updated_at": plain["created_at"],
    });
    assert_eq!(plain, expected);
    assert!(plain["id"].as_str().unwrap().parse::<Uuid>().is_ok());
    assert_eq!(member.client.get(&path(&plain)).await.expect(200), plain);

    let metadata = json!({
        "estimated_duration": "3 months", "complexity": "high", "technologies": ["Rust", "PostgreSQL"],
        "budget": 12000.5, "team_size": 4, "nested": { "deep": [null, true, -1, 1.5e3] }, "": "an empty key",
    });
    let whole = json!({
        "name": "Shop", "description": "Sells mugs", "topic": "A shop for mugs", "status": "archived",
        "priority": "urgent", "metadata": metadata, "unknown": "is ignored",
    });
    let whole = make(&member, whole).await;
    let said = ["name", "description", "topic", "status", "priority"].map(|key| whole[key].as_str().unwrap());
    assert_eq!(said, ["Shop", "Sells mugs", "A shop for mugs", "archived", "urgent"]);
    assert_eq!(whole["metadata"], metadata, "metadata are returned unchanged");

    // a list has everything but the orchestrations, which belong to the single form
    let list = member.client.get("/projects").await.expect(200);
    let mut listed = whole.clone();
    listed.as_object_mut().unwrap().remove("orchestration_runs");
    assert_eq!(list["data"][0], listed);
    assert_eq!((&list["pagination"]["limit"], &list["pagination"]["total"]), (&json!(50), &json!(2)));

    // both spellings of the path, and both methods
    let alias = member.client.request(Method::GET, &format!("/v1{}/", path(&whole)));
    assert_eq!(member.client.send(alias).await.expect(200), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_named_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let wrong = json!({
        "name": " ", "description": 7, "topic": ["a"], "status": "done", "priority": "highest", "metadata": [],
    });
    let answer = member.client.post("/projects", wrong.clone()).await;
    let every = BTreeSet::from(["name", "description", "topic", "status", "priority", "metadata"]);
    assert_eq!(fields(&answer), every, "{}", answer.text);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    for (body, field) in [
        (json!({}), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": null }), "name"),
        (json!({ "name": "ü".repeat(201) }), "name"),
        (json!({ "name": "a", "description": "d".repeat(20_001) }), "description"),
        (json!({ "name": "a", "topic": "t".repeat(20_001) }), "topic"),
        (json!({ "name": "a", "metadata": "b" }), "metadata"),
        (json!({ "name": "a", "metadata": 1 }), "metadata"),
        (json!({ "name": "a", "metadata": { "k": "\0" } }), "metadata.k"),
    ] {
        let answer = member.client.post("/projects", body).await;
        assert_eq!(fields(&answer), BTreeSet::from([field]), "{}", answer.text);
        answer.error(400);
    }
    let made = make(&member, json!({ "name": "ü".repeat(200), "metadata": null })).await;
    let answer = member.client.put(&path(&made), wrong).await;
    assert_eq!(fields(&answer), every, "{}", answer.text);
    answer.error(400);
    assert_eq!(member.client.get(&path(&made)).await.expect(200), made, "nothing has changed");
    let answer = member.client.get("/projects?status=done&priority=some&sort=topic&limit=101&created_after=soon").await;
    assert_eq!(fields(&answer), BTreeSet::from(["status", "priority", "sort", "limit", "created_after"]));
    answer.error(400);
    for id in ["1", "%00", &Uuid::now_v7().to_string()] {
        assert_eq!(member.client.get(&format!("/projects/{id}")).await.error(404), "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_sent_changes_and_each_change_makes_a_new_version() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let answer = member.client.post("/projects", json!({ "name": "Website", "metadata": { "a": 1 } })).await;
    let first = tag(&answer);
    let made = answer.expect(201);
    let path = path(&made);
    assert_eq!(tag(&member.client.get(&path).await), first);
    let head = member.client.send(member.client.request(Method::HEAD, &format!("/api/v1{path}"))).await;
    assert_eq!((head.status.as_u16(), tag(&head)), (200, first.clone()));

    let changed = member.client.patch(&path, json!({ "status": "completed", "priority": "high" })).await;
    let second = tag(&changed);
    let changed = changed.expect(200);
    assert_ne!(first, second);
    assert_eq!((&changed["status"], &changed["priority"]), (&json!("completed"), &json!("high")));
    assert_eq!((&changed["name"], &changed["metadata"]), (&made["name"], &made["metadata"]));
    assert!(changed["updated_at"].as_str() > made["updated_at"].as_str());
    assert_eq!(changed["created_at"], made["created_at"]);

    let same = member.client.put(&path, changed.clone()).await;
    assert_eq!(tag(&same), second, "what is sent back as it was read changes nothing");
    assert_eq!(same.expect(200), changed);
    let outdated = if_match(&member, Method::PUT, &path, &first, json!({ "name": "Mine" })).await;
    assert_eq!(outdated.error(409), "CONFLICT");
    let current = if_match(&member, Method::PATCH, &path, &second, json!({ "metadata": { "b": [] } })).await;
    let third = tag(&current);
    assert_eq!(current.expect(200)["metadata"], json!({ "b": [] }), "metadata are replaced as a whole");
    if_match(&member, Method::PUT, &path, "*", json!({ "topic": "All" })).await.expect(200);
    assert_eq!(if_match(&member, Method::DELETE, &path, &third, Value::Null).await.error(409), "CONFLICT");
    let now = tag(&member.client.get(&path).await);
    let gone = if_match(&member, Method::DELETE, &path, &now, Value::Null).await.expect(200);
    assert_eq!(gone, json!({ "message": "Project deleted successfully" }));
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        assert_eq!(if_match(&member, method, &path, "*", json!({})).await.error(404), "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_made_from_one_version_one_is_refused() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let made = make(&member, json!({ "name": "Website" })).await;
    let path = path(&made);
    let change = |name: &'static str| if_match(&member, Method::PUT, &path, "\"1\"", json!({ "name": name }));
    let (one, two, three) = tokio::join!(change("one"), change("two"), change("three"));
    let mut statuses = [one, two, three].map(|answer| answer.status.as_u16());
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409]);
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_are_filtered_searched_and_sorted() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    for (day, name, description, status, priority) in [
        (1, "Alpha shop", "sells blue mugs", "active", "medium"),
        (2, "Beta shop", "sells red mugs", "active", "urgent"),
        (3, "Gamma blog", "50% of it is poems", "completed", "low"),
        (4, "Delta wiki", "for blue_prints", "archived", "high"),
        (5, "Alpha lab", "", "failed", "low"),
    ] {
        let body = json!({ "name": name, "description": description, "status": status, "priority": priority });
        let made = make(&member, body).await;
        world
            .run_sql(&format!(
                "UPDATE projects SET created_at = '2026-03-0{day}T12:00:00Z', \
                     updated_at = '2026-04-0{}T12:00:00Z' WHERE id = '{}'",
                6 - day,
                made["id"].as_str().unwrap()
            ))
            .await;
    }
    let all = ["Alpha lab", "Delta wiki", "Gamma blog", "Beta shop", "Alpha shop"];
    for (query, expected) in [
        ("", &all[..]),
        ("status=active", &["Beta shop", "Alpha shop"]),
        ("status=active,completed", &["Gamma blog", "Beta shop", "Alpha shop"]),
        ("status=active&status=failed", &["Alpha lab", "Beta shop", "Alpha shop"]),
        ("priority=low,urgent", &["Alpha lab", "Gamma blog", "Beta shop"]),
        ("status=active,failed&priority=low,medium", &["Alpha lab", "Alpha shop"]),
        ("status=archived&priority=low", &[]),
        ("search=alpha", &["Alpha lab", "Alpha shop"]),
        ("search=MUGS", &["Beta shop", "Alpha shop"]),
        ("search=alpha%20blue", &["Alpha shop"]),
        ("search=%25", &["Gamma blog"]),
        ("search=_", &["Delta wiki"]),
        ("search=mugs&status=active&priority=urgent", &["Beta shop"]),
        ("created_after=2026-03-03", &["Alpha lab", "Delta wiki", "Gamma blog"]),
        ("created_before=2026-03-02", &["Beta shop", "Alpha shop"]),
        ("created_after=2026-03-02&created_before=2026-03-04T12:00:00Z", &["Delta wiki", "Gamma blog", "Beta shop"]),
        ("created_after=2026-03-02T12:00:00.000001Z&created_before=2026-03-04T11:59:59Z", &["Gamma blog"]),
        ("created_after=2026-03-02&status=active", &["Beta shop"]),
        ("sort=priority,name", &["Alpha lab", "Gamma blog", "Alpha shop", "Delta wiki", "Beta shop"]),
        ("sort=-priority,+name", &["Beta shop", "Delta wiki", "Alpha shop", "Alpha lab", "Gamma blog"]),
        ("sort=-priority,%2Bname", &["Beta shop", "Delta wiki", "Alpha shop", "Alpha lab", "Gamma blog"]),
        ("sort=-priority,-name", &["Beta shop", "Delta wiki", "Alpha shop", "Gamma blog", "Alpha lab"]),
        ("sort=status,-created_at", &["Beta shop", "Alpha shop", "Delta wiki", "Gamma blog", "Alpha lab"]),
        ("sort=+name", &["Alpha lab", "Alpha shop", "Beta shop", "Delta wiki", "Gamma blog"]),
        ("sort_by=name&sort_order=desc", &["Gamma blog", "Delta wiki", "Beta shop", "Alpha shop", "Alpha lab"]),
        ("sort=updated_at", &all[..]),
        ("sort=asc", &["Alpha shop", "Beta shop", "Gamma blog", "Delta wiki", "Alpha lab"]),
        ("limit=2&offset=1", &["Delta wiki", "Gamma blog"]),
        ("limit=2&page=3", &["Alpha shop"]),
        ("page_size=1&sort=-name", &["Gamma blog"]),
    ] {
        let list = member.client.get(&format!("/projects?{query}")).await.expect(200);
        assert_eq!(names(&list), expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_by_cursors_misses_and_repeats_nothing_while_projects_come_and_go() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let priorities = ["low", "medium", "high", "urgent"];
    let mut there = BTreeMap::new();
    for n in 0..23_usize {
        let body = json!({ "name": format!("Project {:02}", n % 7), "priority": priorities[n % 4] });
        let made = make(&member, body).await;
        there.insert(made["id"].as_str().unwrap().to_owned(), made);
    }
    for sort in ["-created_at", "created_at", "-priority,name", "priority", "name,-created_at", "-status"] {
        let whole = member.client.get(&format!("/projects?limit=100&sort={sort}")).await.expect(200);
        let whole: Vec<_> = whole["data"].as_array().unwrap().iter().map(|project| project["id"].clone()).collect();
        let (mut seen, mut cursor, mut added) = (Vec::new(), String::new(), Vec::new());
        loop {
            let page = member.client.get(&format!("/projects?limit=4&sort={sort}{cursor}")).await.expect(200);
            seen.extend(page["data"].as_array().unwrap().iter().map(|project| project["id"].clone()));
            // one comes in front, one behind and one in the middle of every order, while a page is looked at
            for (name, priority) in [("A first", "urgent"), ("Project 03", "medium"), ("Z last", "low")] {
                added.push(make(&member, json!({ "name": name, "priority": priority })).await);
            }
            let Some(next) = page["pagination"]["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            assert!(seen.len() < 300, "the list does not end");
            // whoever walks forward never comes to those that are added for ever: they are taken away again
            if added.len() > 9 {
                for gone in added.drain(..6) {
                    member.client.delete(&path(&gone)).await.expect(200);
                }
            }
        }
        let distinct: BTreeSet<String> = seen.iter().map(ToString::to_string).collect();
        assert_eq!(distinct.len(), seen.len(), "by {sort} something came twice");
        let kept: Vec<_> = seen.iter().filter(|id| there.contains_key(id.as_str().unwrap())).cloned().collect();
        assert_eq!(kept, whole, "by {sort} something was missed");
        for gone in added {
            member.client.delete(&path(&gone)).await.expect(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_shows_its_latest_twenty_orchestrations() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let project = make(&member, json!({ "name": "Website" })).await;
    let other = make(&member, json!({ "name": "Other" })).await;
    let mut runs = Vec::new();
    for _ in 0..19 {
        let id = orchestrate(&world, &member, &project, 7, 0).await;
        set_status(&world, id, JobStatus::Completed).await;
        runs.push(id);
    }
    for (status, completed, failed) in
        [(JobStatus::Failed, 3, 1), (JobStatus::Cancelled, 0, 0), (JobStatus::Running, 1, 0), (JobStatus::Queued, 0, 0)]
    {
        let id = orchestrate(&world, &member, &project, completed, failed).await;
        set_status(&world, id, status).await;
        runs.push(id);
    }
    let elsewhere = orchestrate(&world, &member, &other, 1, 0).await;
    let shown = member.client.get(&path(&project)).await.expect(200);
    let shown = shown["orchestration_runs"].as_array().unwrap();
    let ids: Vec<_> = shown.iter().map(|run| run["id"].as_str().unwrap().parse::<Uuid>().unwrap()).collect();
    assert_eq!(ids, runs.iter().rev().take(20).copied().collect::<Vec<_>>(), "the newest first");
    let said: Vec<_> =
        shown[..5].iter().map(|run| (run["status"].as_str().unwrap(), run["success_rate"].as_f64().unwrap())).collect();
    let expected = [("started", 0.0), ("running", 100.0), ("cancelled", 0.0), ("failed", 75.0), ("completed", 100.0)];
    assert_eq!(said, expected);
    let keys: BTreeSet<_> = shown[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["created_at", "id", "status", "success_rate"]));
    let changed = member.client.patch(&path(&project), json!({ "topic": "Mugs" })).await.expect(200);
    assert_eq!(changed["orchestration_runs"].as_array().unwrap().len(), 20);

    member.client.delete(&path(&project)).await.expect(200);
    assert_eq!(world.count_rows("orchestrations").await, 1, "its orchestrations go with it, others stay");
    let left = member.client.get(&path(&other)).await.expect(200);
    assert_eq!(left["orchestration_runs"][0]["id"], json!(elsewhere));
    world.run_sql("DELETE FROM jobs WHERE kind = 'orchestration'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_projects_viewers_read_them_and_strangers_know_of_none() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let manager = world.colleague(&api, &admin, "manager").await;
    let member = world.colleague(&api, &admin, "member").await;
    let viewer = world.colleague(&api, &admin, "viewer").await;
    let stranger = world.member(&api).await;
    let made = make(&admin, json!({ "name": "Website" })).await;
    let path = path(&made);
    for reader in [&manager, &member, &viewer] {
        assert_eq!(reader.client.get(&path).await.expect(200), made, "made by the admin, whoever looks");
        assert_eq!(reader.client.get("/projects").await.expect(200)["pagination"]["total"], 1);
    }
    assert_eq!(stranger.client.get("/projects").await.expect(200)["pagination"]["total"], 0);
    for (method, body) in [(Method::PUT, json!({ "name": "Mine" })), (Method::DELETE, Value::Null)] {
        for (who, status) in [(&viewer, 403), (&stranger, 404)] {
            if_match(who, method.clone(), &path, "*", body.clone()).await.error(status);
        }
    }
    viewer.client.post("/projects", json!({ "name": "Mine" })).await.error(403);
    let changed = member.client.patch(&path, json!({ "description": "Ours" })).await.expect(200);
    assert_eq!(changed["created_by"], made["created_by"]);
    assert_eq!(member.client.delete(&path).await.error(403), "INSUFFICIENT_PERMISSIONS");
    let own = make(&member, json!({ "name": "Own" })).await;
    let owners: Vec<_> = admin.client.get("/projects?sort=name").await.expect(200)["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|project| project["created_by"]["id"].clone())
        .collect();
    assert_eq!(owners, [json!(member.id()), json!(admin.id())]);
    member.client.delete(&self::path(&own)).await.expect(200);
    manager.client.delete(&path).await.expect(200);
    assert_eq!(admin.client.delete(&path).await.error(404), "RESOURCE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_organization_is_told_what_becomes_of_its_projects() {
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

    let made = make(&member, json!({ "name": "Website" })).await;
    let (id, user) = (&made["id"], json!(member.id()));
    let created = json!({ "type": "project:created", "data": { "id": id, "name": "Website", "user_id": user } });
    assert_eq!(next().await, created);
    member.client.patch(&path(&made), json!({ "name": "Website" })).await.expect(200);
    let body = json!({ "name": "Shop", "description": "", "priority": "low", "metadata": { "a": 1 } });
    member.client.patch(&path(&made), body).await.expect(200);
    let changes = json!(["name", "priority", "metadata"]);
    let updated = json!({ "type": "project:updated", "data": { "id": id, "changes": changes, "updated_by": user } });
    assert_eq!(next().await, updated, "a change that changes nothing is not told");
    member.client.delete(&path(&made)).await.expect(200);
    assert_eq!(next().await, json!({ "type": "project:deleted", "data": { "id": id, "deleted_by": user } }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_makes_one_project() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let make = || async {
        let request = member.client.request(Method::POST, "/api/v1/projects").header("idempotency-key", "one");
        member.client.send(request.json(&json!({ "name": "Website" }))).await
    };
    let (first, second) = (make().await, make().await);
    assert_eq!((tag(&first), second.headers["idempotent-replayed"].to_str().unwrap()), (tag(&second), "true"));
    assert_eq!(first.expect(201), second.expect(201));
    assert_eq!(member.client.get("/projects").await.expect(200)["pagination"]["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_a_deploy_hook_is_kept_and_never_shown() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.member(&api).await.client;
    let metadata =
        json!({ "deploy_hook_url": "https://example.com/hook", "deploy_hook_secret": "s3cret", "budget": 7 });
    let made = client.post("/projects", json!({ "name": "Shop", "metadata": metadata })).await.expect(201);
    let shown = json!({ "deploy_hook_url": "https://example.com/hook", "budget": 7 });
    assert_eq!(made["metadata"], shown);
    let id = made["id"].as_str().unwrap();
    let path = format!("/projects/{id}");
    assert_eq!(client.get(&path).await.expect(200)["metadata"], shown);
    assert_eq!(client.get("/projects").await.expect(200)["data"][0]["metadata"], shown);
    // who sends back what was shown changes nothing; who names another address has no secret for it
    for (url, kept) in [("https://example.com/hook", 1), ("https://example.com/other", 0)] {
        let metadata = json!({ "deploy_hook_url": url, "budget": 8 });
        let changed = client.put(&path, json!({ "metadata": metadata })).await.expect(200);
        assert_eq!(changed["metadata"], metadata);
        let secret = world.count_rows("projects WHERE metadata ->> 'deploy_hook_secret' = 's3cret'").await;
        assert_eq!(secret, kept, "{url}");
    }
}
