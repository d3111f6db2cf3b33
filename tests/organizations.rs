//! Organizations and their members, as clients meet them.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Answer, Member, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use uuid::Uuid;

const CURRENT: &str = "/organizations/current";

fn fields(answer: &Answer) -> BTreeSet<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

fn of(member: &Member) -> String {
    format!("{CURRENT}/members/{}", member.id())
}

/// `column` of every element, in the order of the list.
async fn column(member: &Member, list: &str, column: &str) -> Vec<Value> {
    let page = member.client.get(list).await.expect(200);
    page["data"].as_array().unwrap().iter().map(|row| row[column].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_is_changed_key_by_key_and_keeps_its_slug() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let before = admin.client.get(CURRENT).await.expect(200);
    assert_eq!(before["settings"], json!({ "default_ai_model": "gpt-4", "integration_enabled": true }));
    assert_eq!((&before["subscription_tier"], &before["api_quota_limit"]), (&json!("free"), &json!(1500)));
    assert_eq!(before["api_quota_used"], 0);

    let first = json!({ "name": "Werft & Söhne", "settings": { "default_ai_model": "minimax", "colour": { "a": 1 } } });
    admin.client.put(CURRENT, first).await.expect(200);
    let changed =
        admin.client.patch(CURRENT, json!({ "settings": { "integration_enabled": false } })).await.expect(200);
    let expected = json!({ "default_ai_model": "minimax", "integration_enabled": false, "colour": { "a": 1 } });
    assert_eq!((&changed["settings"], &changed["name"]), (&expected, &json!("Werft & Söhne")));
    assert_eq!((&changed["slug"], &changed["id"]), (&before["slug"], &before["id"]));
    assert_eq!(admin.client.get(CURRENT).await.expect(200), changed);

    let wrong = json!({ "name": " ", "settings": { "default_ai_model": 7, "integration_enabled": "yes" } });
    let refused = admin.client.put(CURRENT, wrong).await;
    let expected = BTreeSet::from(["name", "settings.default_ai_model", "settings.integration_enabled"]);
    assert_eq!(fields(&refused), expected, "{}", refused.text);
    assert_eq!(refused.error(400), "VALIDATION_ERROR");
    let large = json!({ "settings": { "notes": "n".repeat(40_000) } });
    let refused = admin.client.put(CURRENT, large).await;
    assert_eq!(fields(&refused), BTreeSet::from(["settings"]));
    refused.error(400);
    assert_eq!(admin.client.get(CURRENT).await.expect(200), changed, "nothing has changed");

    for role in ["manager", "member", "viewer"] {
        let colleague = world.colleague(&api, &admin, role).await;
        assert_eq!(colleague.client.get(CURRENT).await.expect(200), changed);
        let refused = colleague.client.put(CURRENT, json!({ "name": "Mine" })).await;
        assert_eq!(refused.error(403), "INSUFFICIENT_PERMISSIONS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_that_is_shown_is_that_of_this_month_and_of_the_operator() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let id = admin.organization_id();
    world
        .run_sql(&format!(
            "INSERT INTO quota_windows (scope, period, starts, used) VALUES \
                 ('{id}', 'monthly', date_trunc('month', now() AT TIME ZONE 'UTC')::date, 17), \
                 ('{id}', 'monthly', date_trunc('month', now() AT TIME ZONE 'UTC')::date - 40, 400), \
                 ('{id}', 'daily', (now() AT TIME ZONE 'UTC')::date, 3)"
        ))
        .await;
    for (tier, custom, limit) in [
        ("free", "NULL", json!(1_500)),
        ("basic", "NULL", json!(15_000)),
        ("enterprise", "NULL", json!(1_000_000)),
        ("enterprise", "'{\"api_quota_limit\": 10000}'", json!(10_000)),
    ] {
        world
            .run_sql(&format!("UPDATE organizations SET subscription_tier = '{tier}', custom_limits = {custom}"))
            .await;
        let shown = admin.client.get(CURRENT).await.expect(200);
        assert_eq!((&shown["api_quota_limit"], &shown["api_quota_used"]), (&limit, &json!(17)), "{tier} {custom}");
    }
    assert_eq!(column(&admin, "/organizations", "api_quota_used").await, [17]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_several_organizations_goes_from_one_to_another_with_the_same_token() {
    let world = World::new().await;
    let api = world.api().await;
    let user = world.member(&api).await;
    let first = user.organization_id();
    let pipeline = user.client.post("/pipelines", json!({ "name": "Of the first" })).await.expect(201);
    let pipeline = format!("/pipelines/{}", pipeline["id"].as_str().unwrap());
    for body in [json!({}), json!({ "name": "" }), json!({ "name": "n".repeat(201) })] {
        assert_eq!(user.client.post("/organizations", body).await.error(400), "VALIDATION_ERROR");
    }
    let made = user.client.post("/organizations", json!({ "name": "Second" })).await.expect(201);
    let again = user.client.post("/organizations", json!({ "name": "Second" })).await.expect(201);
    assert_eq!(made["slug"], "second");
    assert!(again["slug"].as_str().unwrap().starts_with("second-"), "{again}");
    assert_eq!(user.place().await.1, first, "making one is not going there");

    let switch = async |id: &Value| {
        user.client.post(&format!("/organizations/{}/switch", id.as_str().unwrap()), json!({})).await
    };
    assert_eq!(switch(&made["id"]).await.expect(200), made);
    assert_eq!(user.client.get(CURRENT).await.expect(200), made);
    assert_eq!(user.client.get(&pipeline).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(column(&user, "/organizations?sort=name&search=second", "name").await, ["Second", "Second"]);
    assert_eq!(column(&user, "/organizations", "role").await, ["admin", "admin", "admin"]);
    switch(&json!(first)).await.expect(200);
    user.client.get(&pipeline).await.expect(200);

    let other = world.member(&api).await;
    for id in [other.organization_id(), Uuid::nil()] {
        assert_eq!(switch(&json!(id)).await.error(404), "RESOURCE_NOT_FOUND");
    }
    assert_eq!(user.client.post("/organizations/no-id/switch", json!({})).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(column(&other, "/organizations", "id").await, [json!(other.organization_id())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_falls_back_to_the_latest_joined_and_to_a_new_one_at_last() {
    let world = World::new().await;
    let api = world.api().await;
    let (one, other) = (world.member(&api).await, world.member(&api).await);
    let leave = async |member: &Member| member.client.post("/organizations/current/leave", json!({})).await;
    assert_eq!(leave(&one).await.error(409), "CONFLICT", "the last admin stays");

    let user = world.colleague(&api, &one, "member").await;
    let body = json!({ "name": "Nightly", "nodes": [{ "id": "out", "type": "output" }] });
    let pipeline = user.client.post("/pipelines", body).await.expect(201);
    let schedule = json!({ "cron": "0 3 * * *", "enabled": false });
    let path = format!("/pipelines/{}/schedules", pipeline["id"].as_str().unwrap());
    user.client.post(&path, schedule).await.expect(201);
    let joined = format!(
        "INSERT INTO memberships (organization_id, user_id, role) VALUES ('{}', '{}', 'viewer'); \
         UPDATE users SET organization_id = '{}' WHERE id = '{}'",
        other.organization_id(),
        user.id(),
        one.organization_id(),
        user.id()
    );
    world.run_sql(&joined).await;
    let answer = leave(&user).await.expect(200);
    assert!(answer["message"].is_string());
    assert_eq!(user.place().await, ("viewer".to_owned(), other.organization_id()));
    assert_eq!(user.client.get(&path).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(one.client.get(&path).await.expect(200)["pagination"]["total"], 1);
    let whose = format!(
        "DO $$ BEGIN ASSERT (SELECT bool_and(created_by = '{}') FROM pipeline_schedules), 'the schedule is not the admin''s'; END $$",
        one.id()
    );
    world.run_sql(&whose).await;

    leave(&user).await.expect(200);
    assert_eq!(user.place().await, ("admin".to_owned(), user.organization_id()));
    // the personal one is gone: there is a new one to go to
    let guest = world.colleague(&api, &one, "manager").await;
    world.run_sql(&format!("DELETE FROM memberships WHERE user_id = '{}' AND role = 'admin'", guest.id())).await;
    leave(&guest).await.expect(200);
    let (role, place) = guest.place().await;
    assert_eq!(role, "admin");
    assert!(![one.organization_id(), guest.organization_id()].contains(&place));
    assert_eq!(column(&guest, &format!("{CURRENT}/members"), "user_id").await, [json!(guest.id())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_found_changed_and_removed_and_it_counts_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let member = world.colleague(&api, &admin, "member").await;
    let viewer = world.colleague(&api, &admin, "viewer").await;
    let list = format!("{CURRENT}/members");
    let page = viewer.client.get(&list).await.expect(200);
    assert_eq!(page["pagination"]["total"], 3);
    let mut keys: Vec<_> = page["data"][0].as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["email", "full_name", "joined_at", "role", "user_id", "username"]);
    let name = &member.email[..12];
    assert_eq!(column(&viewer, &format!("{list}?search={name}"), "user_id").await, [json!(member.id())]);
    assert_eq!(column(&viewer, &format!("{list}?role=viewer,admin&sort=joined_at"), "role").await, ["admin", "viewer"]);

    for somebody in [&member, &viewer] {
        let refused = somebody.client.put(&of(&admin), json!({ "role": "viewer" })).await;
        assert_eq!(refused.error(403), "INSUFFICIENT_PERMISSIONS");
        assert_eq!(somebody.client.delete(&of(&admin)).await.error(403), "INSUFFICIENT_PERMISSIONS");
    }
    for body in [json!({}), json!({ "role": "owner" }), json!({ "role": null })] {
        let refused = admin.client.put(&of(&member), body).await;
        assert_eq!(fields(&refused), BTreeSet::from(["role"]), "{}", refused.text);
        refused.error(400);
    }
    let stranger = world.member(&api).await;
    assert_eq!(admin.client.put(&of(&stranger), json!({ "role": "viewer" })).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(admin.client.delete(&of(&stranger)).await.error(404), "RESOURCE_NOT_FOUND");

    member.product("before").await;
    let changed = admin.client.put(&of(&member), json!({ "role": "viewer" })).await.expect(200);
    assert_eq!((&changed["role"], &changed["email"]), (&json!("viewer"), &json!(member.email)));
    let refused = member.client.post("/products", json!({ "title": "after" })).await;
    assert_eq!(refused.error(403), "INSUFFICIENT_PERMISSIONS");
    admin.client.patch(&of(&member), json!({ "role": "manager" })).await.expect(200);
    member.product("and again").await;

    admin.client.delete(&of(&member)).await.expect(204);
    assert_eq!(member.place().await, ("admin".to_owned(), member.organization_id()));
    assert_eq!(admin.client.delete(&of(&member)).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(viewer.client.get(&list).await.expect(200)["pagination"]["total"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_stays_one_whatever_is_tried_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    for answer in
        [admin.client.put(&of(&admin), json!({ "role": "manager" })).await, admin.client.delete(&of(&admin)).await]
    {
        assert_eq!(answer.error(409), "CONFLICT");
    }
    assert_eq!(admin.client.put(&of(&admin), json!({ "role": "admin" })).await.expect(200)["role"], "admin");

    // each of five admins demotes, removes, or leaves at the same moment
    let mut admins = vec![admin];
    while admins.len() < 5 {
        admins.push(world.colleague(&api, &admins[0], "admin").await);
    }
    let id = admins[0].organization_id();
    for round in 0..5 {
        let mut all = JoinSet::new();
        for (index, admin) in admins.iter().enumerate() {
            let (client, own, next) = (admin.client.clone(), of(admin), of(&admins[(index + 1) % admins.len()]));
            all.spawn(async move {
                match (index + round) % 4 {
                    0 => client.put(&next, json!({ "role": "viewer" })).await,
                    1 => client.put(&own, json!({ "role": "member" })).await,
                    2 => client.delete(&next).await,
                    _ => client.post("/organizations/current/leave", json!({})).await,
                }
                .status
                .as_u16()
            });
        }
        let statuses = all.join_all().await;
        assert!(statuses.iter().all(|status| [200, 204, 403, 404, 409].contains(status)), "{statuses:?}");
        let restore: String = admins
            .iter()
            .map(|admin| {
                format!(
                    "INSERT INTO memberships (organization_id, user_id, role) VALUES ('{id}', '{user}', 'admin') \
                         ON CONFLICT (organization_id, user_id) DO UPDATE SET role = 'admin'; \
                     UPDATE users SET organization_id = '{id}' WHERE id = '{user}';",
                    user = admin.id()
                )
            })
            .collect();
        let check = format!(
            "DO $$ BEGIN ASSERT (SELECT count(*) > 0 FROM memberships WHERE organization_id = '{id}' AND role = 'admin'), \
                 'nobody is an admin any more'; \
             ASSERT NOT EXISTS (SELECT FROM users u WHERE NOT EXISTS (SELECT FROM memberships m \
                 WHERE m.user_id = u.id AND m.organization_id = u.organization_id)), 'somebody is nowhere'; END $$"
        );
        world.run_sql(&check).await;
        world.run_sql(&restore).await;
    }
    // all leave: one stays
    let mut all = JoinSet::new();
    for admin in &admins {
        let client = admin.client.clone();
        all.spawn(async move { client.post("/organizations/current/leave", json!({})).await.status.as_u16() });
    }
    let mut statuses = all.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 409]);
}
