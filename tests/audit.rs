//! The log of what changed access.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{World, eventually};
use serde_json::{Value, json};

const AUDIT: &str = "/organizations/current/audit";

fn actions(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_access_is_written_down_with_who_and_from_where() {
    let world = World::new().await;
    let api = world.api().await;
    let (admin, guest, stranger) = (world.member(&api).await, world.member(&api).await, world.member(&api).await);
    let current = json!({ "name": "Yard", "settings": { "secret_of_ours": "hunter2" } });
    admin.client.put("/organizations/current", current).await.expect(200);
    let token = admin.invite(&guest.email, "viewer").await["token"].clone();
    guest.client.post("/invitations/accept", json!({ "token": token })).await.expect(200);
    let path = format!("/organizations/current/members/{}", guest.id());
    admin.client.put(&path, json!({ "role": "manager" })).await.expect(200);
    admin.client.put(&path, json!({ "role": "manager" })).await.expect(200);
    let revoked = guest.invite("nobody@example.com", "member").await["id"].clone();
    let revoked = format!("/organizations/current/invitations/{}", revoked.as_str().unwrap());
    guest.client.delete(&revoked).await.expect(204);
    assert_eq!(guest.client.get(AUDIT).await.error(403), "INSUFFICIENT_PERMISSIONS", "not even for managers");
    admin.client.delete(&path).await.expect(204);

    let page = admin.client.get(AUDIT).await.expect(200);
    let expected = [
        "member.removed",
        "invitation.revoked",
        "invitation.created",
        "member.role_changed",
        "member.joined",
        "invitation.accepted",
        "invitation.created",
        "organization.updated",
        "organization.created",
    ];
    assert_eq!(actions(&page), expected, "newest first, and a role that stays is no change");
    assert!(!page.to_string().contains("hunter2") && !page.to_string().contains(token.as_str().unwrap()));
    let role = &page["data"][3];
    assert_eq!((&role["actor_id"], &role["actor_email"]), (&json!(admin.id()), &json!(admin.email)));
    assert_eq!((&role["target_type"], &role["target_id"]), (&json!("user"), &json!(guest.id())));
    assert_eq!(role["data"], json!({ "email": guest.email, "from": "viewer", "to": "manager" }));
    assert_eq!(role["ip"], "127.0.0.1");
    assert!(role["request_id"].is_string() && role["created_at"].is_string());
    let settings =
        json!({ "name": { "from": page["data"][8]["data"]["name"], "to": "Yard" }, "settings": ["secret_of_ours"] });
    assert_eq!(page["data"][7]["data"], settings);

    for (query, count) in [
        ("action=member.removed,member.joined".to_owned(), 2),
        (format!("actor_id={}", guest.id()), 4),
        ("target_type=invitation".to_owned(), 4),
        (format!("target_type=user&target_id={}", guest.id()), 3),
        ("created_before=2020-01-01".to_owned(), 0),
    ] {
        let page = admin.client.get(&format!("{AUDIT}?{query}")).await.expect(200);
        assert_eq!(page["pagination"]["total"], count, "{query}");
    }
    assert_eq!(admin.client.get(&format!("{AUDIT}?actor_id=me")).await.error(400), "VALIDATION_ERROR");
    assert_eq!(actions(&stranger.client.get(AUDIT).await.expect(200)), ["organization.created"]);
    world.take_mails().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_entries_go_and_young_ones_stay() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    admin.client.put("/organizations/current", json!({ "name": "Yard" })).await.expect(200);
    let aged = "UPDATE audit_entries SET created_at = now() - interval '3 days' WHERE action = 'organization.created'";
    world.run_sql(aged).await;
    let settings = [("ATELIER_AUDIT_RETENTION_DAYS", "2"), ("ATELIER_PRUNE_EVERY", "1")];
    let scheduler = world.scheduler_with(&settings).await;
    let left = eventually("the old entry to go", async || {
        let page = admin.client.get(AUDIT).await.expect(200);
        (page["pagination"]["total"] == 1).then_some(page)
    })
    .await;
    assert_eq!(actions(&left), ["organization.updated"]);
    scheduler.stop().await;
}
