//! Templates of orchestrations: those that ship with the system, public ones and private ones.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Answer, Member, World};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

fn fields(answer: &Answer) -> BTreeSet<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|template| template["name"].as_str().unwrap()).collect()
}

fn data() -> Value {
    json!({ "phases": ["Ideation", "Design"] })
}

async fn make(member: &Member, body: Value) -> Value {
    member.client.post("/templates", body).await.expect(201)
}

fn path(template: &Value) -> String {
    format!("/templates/{}", template["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_comes_back_as_it_was_sent_with_its_defaults() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let me = member.client.get("/users/me").await.expect(200);
    let plain = make(&member, json!({ "name": "Plain", "template_data": data() })).await;
    let expected = json!({
        "id": plain["id"], "name": "Plain", "description": "", "category": "custom", "is_public": false,
        "usage_count": 0, "created_by": { "username": me["username"], "full_name": me["full_name"] },
        "template_data": { "phases": ["Ideation", "Design"], "integrations": [], "settings": {} },
        "created_at": plain["created_at"], "updated_at": plain["created_at"],
    });
    assert_eq!(plain, expected);
    assert_eq!(member.client.get(&path(&plain)).await.expect(200), plain);

    let whole = json!({
        "phases": [" Ideation ", "design", "x".repeat(100)], "integrations": ["git", "docker", "slack"],
        "settings": {
            "ai_model": "gpt-4", "max_tokens": 32000, "temperature": 0, "integration_enabled": false,
            "ownKey": { "nested": [1, null, "two"] }, "top_p": null,
        },
        "notes": "further keys are kept",
    });
    let body = json!({
        "name": "Whole", "description": "All of it", "category": "web-development", "is_public": true,
        "template_data": whole, "usage_count": 7,
    });
    let made = make(&member, body).await;
    assert_eq!(made["template_data"], whole, "letter for letter");
    assert_eq!((&made["category"], &made["is_public"]), (&json!("web-development"), &json!(true)));
    assert_eq!(made["usage_count"], 0, "nobody says how often a template was used");
    let nulls = json!({ "phases": ["One"], "integrations": null, "settings": null });
    let made = make(&member, json!({ "name": "Nulls", "template_data": nulls })).await;
    assert_eq!(made["template_data"], json!({ "phases": ["One"], "integrations": [], "settings": {} }));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_named_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let wrong = json!({
        "name": "", "description": 1, "category": " ", "is_public": "yes",
        "template_data": {
            "phases": ["good", "", 3, "x".repeat(101)], "integrations": ["git", {}],
            "settings": { "ai_model": 4, "max_tokens": 1.5, "temperature": "hot", "integration_enabled": 1 },
        },
    });
    let every = BTreeSet::from([
        "name",
        "description",
        "category",
        "is_public",
        "template_data.phases[1]",
        "template_data.phases[2]",
        "template_data.phases[3]",
        "template_data.integrations[1]",
        "template_data.settings.ai_model",
        "template_data.settings.max_tokens",
        "template_data.settings.temperature",
        "template_data.settings.integration_enabled",
    ]);
    let answer = member.client.post("/templates", wrong.clone()).await;
    assert_eq!(fields(&answer), every, "{}", answer.text);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    let many = |count: usize| vec!["phase"; count];
    for (data, field) in [
        (json!({}), "template_data.phases"),
        (json!({ "phases": null }), "template_data.phases"),
        (json!({ "phases": "Ideation" }), "template_data.phases"),
        (json!({ "phases": [] }), "template_data.phases"),
        (json!({ "phases": many(21) }), "template_data.phases"),
        (json!({ "phases": ["a"], "integrations": "git" }), "template_data.integrations"),
        (json!({ "phases": ["a"], "integrations": many(21) }), "template_data.integrations"),
        (json!({ "phases": ["a"], "settings": [] }), "template_data.settings"),
        (json!({ "phases": ["a"], "settings": { "max_tokens": 0 } }), "template_data.settings.max_tokens"),
        (json!({ "phases": ["a"], "settings": { "max_tokens": 32001 } }), "template_data.settings.max_tokens"),
        (json!({ "phases": ["a"], "settings": { "temperature": 1.01 } }), "template_data.settings.temperature"),
    ] {
        let answer = member.client.post("/templates", json!({ "name": "a", "template_data": data })).await;
        assert_eq!(fields(&answer), BTreeSet::from([field]), "{}", answer.text);
        answer.error(400);
    }
    let answer = member.client.post("/templates", json!({ "name": "a" })).await;
    assert!(fields(&answer).contains("template_data"), "{}", answer.text);
    answer.error(400);
    for none in [json!([]), json!("phases"), json!(1)] {
        let answer = member.client.post("/templates", json!({ "name": "a", "template_data": none })).await;
        assert!(fields(&answer).contains("template_data"), "{}", answer.text);
        answer.error(400);
    }
    let made = make(&member, json!({ "name": "Twenty", "template_data": { "phases": many(20) } })).await;
    let answer = member.client.put(&path(&made), wrong).await;
    assert_eq!(fields(&answer), every, "{}", answer.text);
    answer.error(400);
    assert_eq!(member.client.get(&path(&made)).await.expect(200), made, "nothing has changed");
    let answer = member.client.get("/templates?is_public=maybe&sort=description").await;
    assert_eq!(fields(&answer), BTreeSet::from(["is_public", "sort"]));
    answer.error(400);
    for id in ["1", "%00", &Uuid::now_v7().to_string()] {
        assert_eq!(member.client.get(&format!("/templates/{id}")).await.error(404), "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_sent_changes() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let made = make(&member, json!({ "name": "Plain", "category": "ops", "template_data": data() })).await;
    let changed =
        member.client.patch(&path(&made), json!({ "is_public": true, "description": "New" })).await.expect(200);
    assert_eq!((&changed["is_public"], &changed["description"]), (&json!(true), &json!("New")));
    for same in ["id", "name", "category", "template_data", "created_by", "created_at", "usage_count"] {
        assert_eq!(changed[same], made[same], "{same}");
    }
    assert!(changed["updated_at"].as_str() > made["updated_at"].as_str());
    let other = json!({ "phases": ["Only"], "settings": { "temperature": 0.2 } });
    let changed = member.client.put(&path(&made), json!({ "template_data": other, "name": "Other" })).await.expect(200);
    let whole = json!({ "phases": ["Only"], "integrations": [], "settings": { "temperature": 0.2 } });
    assert_eq!((&changed["template_data"], &changed["name"]), (&whole, &json!("Other")));
    member.client.delete(&path(&made)).await.expect(204);
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let request = member.client.request(method, &format!("/api/v1{}", path(&made))).json(&json!({}));
        assert_eq!(member.client.send(request).await.error(404), "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_filtered_searched_and_sorted() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    world.run_sql("DELETE FROM templates").await;
    for (day, name, category, public, uses) in [
        (1, "Alpha site", "web", true, 5),
        (2, "Beta site", "web", false, 0),
        (3, "Gamma report", "research", true, 9),
        (4, "Delta plan", "operations", false, 5),
    ] {
        let body = json!({ "name": name, "category": category, "is_public": public, "template_data": data() });
        let made = make(&member, body).await;
        world
            .run_sql(&format!(
                "UPDATE templates SET created_at = '2026-03-0{day}T12:00:00Z', usage_count = {uses} WHERE id = '{}'",
                made["id"].as_str().unwrap()
            ))
            .await;
    }
    let all = ["Delta plan", "Gamma report", "Beta site", "Alpha site"];
    for (query, expected) in [
        ("", &all[..]),
        ("category=web", &["Beta site", "Alpha site"]),
        ("category=web,research", &["Gamma report", "Beta site", "Alpha site"]),
        ("category=nothing", &[]),
        ("is_public=true", &["Gamma report", "Alpha site"]),
        ("is_public=false", &["Delta plan", "Beta site"]),
        ("is_public=true,false", &all[..]),
        ("is_public=false&category=web", &["Beta site"]),
        ("search=SITE%20alpha", &["Alpha site"]),
        ("search=site&is_public=true", &["Alpha site"]),
        ("created_after=2026-03-02&created_before=2026-03-03", &["Gamma report", "Beta site"]),
        ("sort=name", &["Alpha site", "Beta site", "Delta plan", "Gamma report"]),
        ("sort=-usage_count,+name", &["Gamma report", "Alpha site", "Delta plan", "Beta site"]),
        ("sort=category,-name", &["Delta plan", "Gamma report", "Beta site", "Alpha site"]),
        ("limit=1&offset=2", &["Beta site"]),
    ] {
        let list = member.client.get(&format!("/templates?{query}")).await.expect(200);
        assert_eq!(names(&list), expected, "{query}");
        assert_eq!(list["pagination"]["limit"], if query.starts_with("limit") { 1 } else { 50 });
    }
    let (mut seen, mut query) = (Vec::new(), "limit=1&sort=-usage_count,name".to_owned());
    loop {
        let page = member.client.get(&format!("/templates?{query}")).await.expect(200);
        seen.extend(names(&page).into_iter().map(ToOwned::to_owned));
        make(&member, json!({ "name": "Zeta newcomer", "template_data": data() })).await;
        let Some(next) = page["pagination"]["next_cursor"].as_str() else { break };
        query = format!("limit=1&sort=-usage_count,name&cursor={next}");
        if seen.len() == 6 {
            break;
        }
    }
    let known: Vec<_> = seen.iter().filter(|name| *name != "Zeta newcomer").collect();
    assert_eq!(known, ["Gamma report", "Alpha site", "Delta plan", "Beta site"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_templates_stay_in_the_organization_and_public_ones_are_everybodys_to_read() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let manager = world.colleague(&api, &admin, "manager").await;
    let member = world.colleague(&api, &admin, "member").await;
    let viewer = world.colleague(&api, &admin, "viewer").await;
    let stranger = world.member(&api).await;
    let private = make(&member, json!({ "name": "Private", "template_data": data() })).await;
    let public = make(&member, json!({ "name": "Public", "is_public": true, "template_data": data() })).await;
    for reader in [&admin, &manager, &viewer] {
        assert_eq!(reader.client.get(&path(&private)).await.expect(200), private);
        let list = reader.client.get("/templates?search=p").await.expect(200);
        assert!(names(&list).contains(&"Private") && names(&list).contains(&"Public"), "{list}");
    }
    assert_eq!(stranger.client.get(&path(&public)).await.expect(200), public);
    assert_eq!(stranger.client.get(&path(&private)).await.error(404), "RESOURCE_NOT_FOUND");
    let list = stranger.client.get("/templates?limit=100").await.expect(200);
    assert!(names(&list).contains(&"Public") && !names(&list).contains(&"Private"), "{list}");
    assert_eq!(names(&stranger.client.get("/templates?is_public=false").await.expect(200)), [""; 0]);
    assert_eq!(names(&stranger.client.get("/templates?search=Private").await.expect(200)), [""; 0]);

    viewer.client.post("/templates", json!({ "name": "Mine", "template_data": data() })).await.error(403);
    let other = world.colleague(&api, &admin, "member").await;
    for (who, template, status) in [
        (&viewer, &private, 403),
        (&other, &private, 403),
        (&other, &public, 403),
        (&stranger, &private, 404),
        (&stranger, &public, 403),
    ] {
        who.client.put(&path(template), json!({ "name": "Mine" })).await.error(status);
        who.client.delete(&path(template)).await.error(status);
    }
    member.client.patch(&path(&private), json!({ "name": "Still private" })).await.expect(200);
    manager.client.patch(&path(&private), json!({ "description": "Ours" })).await.expect(200);
    manager.client.delete(&path(&private)).await.expect(204);
    let hidden = member.client.patch(&path(&public), json!({ "is_public": false })).await.expect(200);
    assert_eq!(hidden["is_public"], false);
    assert_eq!(stranger.client.get(&path(&public)).await.error(404), "RESOURCE_NOT_FOUND");
    member.client.delete(&path(&public)).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_that_ship_with_the_system_are_there_for_everybody_and_nobodys_to_change() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let list = admin.client.get("/templates?is_public=true").await.expect(200);
    assert!(names(&list).len() >= 5, "{list}");
    let author = json!({ "username": "atelier", "full_name": "Atelier" });
    assert!(list["data"].as_array().unwrap().iter().all(|template| template["created_by"] == author));
    let web = admin.client.get("/templates?category=web-development").await.expect(200);
    assert_eq!(names(&web), ["Web Application Starter"]);
    let starter = &web["data"][0];
    assert!(starter["template_data"]["phases"].as_array().is_some_and(|phases| !phases.is_empty()));
    assert_eq!(admin.client.get(&path(starter)).await.expect(200), *starter);
    let refused = admin.client.put(&path(starter), json!({ "name": "Mine" })).await;
    assert_eq!(refused.error(403), "INSUFFICIENT_PERMISSIONS");
    assert_eq!(admin.client.delete(&path(starter)).await.error(403), "INSUFFICIENT_PERMISSIONS");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_start_brings_shipped_templates_up_to_date_and_leaves_what_people_made() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let own = make(&member, json!({ "name": "Own", "is_public": true, "template_data": data() })).await;
    let before = member.client.get("/templates?sort=name&limit=100").await.expect(200);
    world
        .run_sql(
            "UPDATE templates SET usage_count = 3 WHERE name = 'Web Application Starter'; \
             UPDATE templates SET description = 'Out of date' WHERE name = 'Mobile App'; \
             DELETE FROM templates WHERE name = 'Data Analysis'; \
             INSERT INTO templates (id, name, is_public, template_data) \
                 VALUES ('00000000-0000-4000-8000-000000000001', 'No longer shipped', TRUE, '{\"phases\": [\"a\"]}')",
        )
        .await;
    shared::db::migrate(&world.database()).await.unwrap();
    let after = member.client.get("/templates?sort=name&limit=100").await.expect(200);
    assert_eq!(names(&after), names(&before));
    let find = |list: &Value, name: &str| {
        list["data"].as_array().unwrap().iter().find(|template| template["name"] == name).unwrap().clone()
    };
    let ids = |list: &Value| -> Vec<Value> {
        list["data"].as_array().unwrap().iter().map(|template| template["id"].clone()).collect()
    };
    assert_eq!(ids(&after), ids(&before), "each has the id it had");
    let starter = find(&after, "Web Application Starter");
    assert_eq!(
        (&starter["usage_count"], &starter["updated_at"]),
        (&json!(3), &find(&before, "Web Application Starter")["updated_at"])
    );
    let (app, app_before) = (find(&after, "Mobile App"), find(&before, "Mobile App"));
    assert_eq!(app["description"], app_before["description"]);
    assert!(app["updated_at"].as_str() > app_before["updated_at"].as_str());
    assert_eq!(find(&after, "Own"), own);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_makes_one_template() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let make = || async {
        let request = member.client.request(Method::POST, "/api/v1/templates").header("idempotency-key", "one");
        member.client.send(request.json(&json!({ "name": "Plain", "template_data": data() }))).await.expect(201)
    };
    assert_eq!(make().await, make().await);
    assert_eq!(member.client.get("/templates?is_public=false").await.expect(200)["pagination"]["total"], 1);
}
