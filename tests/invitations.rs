//! Invitations: sent, read, accepted by somebody known and by somebody new, and everything that speaks against it.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Answer, Api, Member, World};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

const INVITATIONS: &str = "/organizations/current/invitations";

async fn accept(member: &Member, token: &Value) -> Answer {
    member.client.post("/invitations/accept", json!({ "token": token })).await
}

async fn register(world: &World, api: &Api, email: &str, token: &Value) -> Answer {
    let body = json!({ "email": email, "password": "correct horse 1", "invitation_token": token });
    world.client(api).post("/auth/register", body).await
}

async fn statuses(member: &Member, query: &str) -> Vec<Value> {
    let page = member.client.get(&format!("{INVITATIONS}?{query}")).await.expect(200);
    page["data"].as_array().unwrap().iter().map(|row| row["status"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_mailed_shown_once_and_brings_a_known_user_in() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_PUBLIC_URL", "https://atelier.example/")]).await;
    let manager = {
        let admin = world.member(&api).await;
        world.colleague(&api, &admin, "manager").await
    };
    let (role, organization) = manager.place().await;
    assert_eq!(role, "manager");
    let guest = world.member(&api).await;
    let sent = manager.invite(&guest.email.to_uppercase(), "viewer").await;
    let token = sent["token"].as_str().unwrap();
    assert_eq!(token.len(), 43);
    assert_eq!(sent["accept_url"], format!("https://atelier.example/invitations/accept?token={token}"));
    assert_eq!((&sent["email"], &sent["role"]), (&json!(guest.email), &json!("viewer")));
    assert_eq!((&sent["status"], &sent["invited_by"]), (&json!("pending"), &json!(manager.id())));

    let mails = world.take_mails().await;
    assert_eq!(mails.len(), 1);
    assert_eq!((mails[0].recipient.as_str(), mails[0].template.as_str()), (guest.email.as_str(), "invitation"));
    let listed = manager.client.get(INVITATIONS).await.expect(200);
    assert_eq!(listed["data"][0]["id"], sent["id"]);
    assert!(!listed.to_string().contains(token), "the token is shown once");
    let stored =
        format!("DO $$ BEGIN ASSERT (SELECT NOT (i::text LIKE '%{token}%') FROM invitations i), 'stored'; END $$");
    world.run_sql(&stored).await;

    let joined = accept(&guest, &sent["token"]).await.expect(200);
    assert_eq!(joined["id"], json!(organization));
    assert_eq!(guest.place().await, ("viewer".to_owned(), organization));
    assert_eq!(statuses(&manager, "").await, ["accepted"]);
    assert_eq!(accept(&guest, &sent["token"]).await.error(404), "RESOURCE_NOT_FOUND");
    // the way back is open
    let own = format!("/organizations/{}/switch", guest.organization_id());
    guest.client.post(&own, json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_new_joins_by_registering_and_has_no_organization_of_their_own() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let sent = admin.invite("new@example.com", "manager").await;
    let address = format!("http://{}/invitations/accept?token=", world.client(&api).address());
    assert!(sent["accept_url"].as_str().unwrap().starts_with(&address), "{sent}");
    assert_eq!(
        register(&world, &api, "other@example.com", &sent["token"]).await.error(403),
        "INSUFFICIENT_PERMISSIONS"
    );
    assert_eq!(register(&world, &api, "new@example.com", &json!("nonsense")).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(register(&world, &api, "new@example.com", &json!("")).await.error(400), "VALIDATION_ERROR");
    let taken = json!({
        "email": "new@example.com", "password": "correct horse 1", "invitation_token": sent["token"],
        "username": admin.registration["user"]["username"],
    });
    assert_eq!(world.client(&api).post("/auth/register", taken).await.error(409), "CONFLICT");

    // nothing of these was kept, and the invitation is open
    let new = register(&world, &api, "NEW@example.com", &sent["token"]).await.expect(201);
    assert_eq!((&new["user"]["role"], &new["user"]["email"]), (&json!("manager"), &json!("new@example.com")));
    assert_eq!(new["user"]["organization_id"], json!(admin.organization_id()));
    let client = world.client(&api).with_token(new["access_token"].as_str().unwrap());
    let own = client.get("/organizations").await.expect(200);
    assert_eq!((&own["pagination"]["total"], &own["data"][0]["role"]), (&json!(1), &json!("manager")));
    assert_eq!(register(&world, &api, "new@example.com", &sent["token"]).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(world.take_mails().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_invite_whom_follows_from_the_own_role() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let order = ["admin", "manager", "member", "viewer"];
    for (rank, role) in order.iter().enumerate() {
        let inviter = world.colleague(&api, &admin, role).await;
        for (other, invited) in order.iter().enumerate() {
            let email = format!("{role}-{invited}@example.com");
            let body = json!({ "email": email, "role": invited });
            let answer = inviter.client.post(INVITATIONS, body).await;
            if rank <= 1 && other >= rank {
                assert_eq!(answer.expect(201)["role"], *invited);
            } else {
                assert_eq!(answer.error(403), "INSUFFICIENT_PERMISSIONS", "{role} invites {invited}");
            }
        }
        assert_eq!(inviter.client.get(INVITATIONS).await.status.as_u16(), if rank <= 1 { 200 } else { 403 }, "{role}");
    }
    let unsaid = admin.client.post(INVITATIONS, json!({ "email": "unsaid@example.com" })).await.expect(201);
    assert_eq!(unsaid["role"], "member");
    for (body, field) in [
        (json!({}), "email"),
        (json!({ "email": "nobody" }), "email"),
        (json!({ "email": "a@example.com", "role": "owner" }), "role"),
    ] {
        let refused = admin.client.post(INVITATIONS, body).await;
        assert_eq!(refused.body["error"]["details"][0]["field"], field);
        refused.error(400);
    }
    world.take_mails().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_already_revoked_expired_or_anothers_is_refused() {
    let world = World::new().await;
    let api = world.api().await;
    let (admin, guest, stranger) = (world.member(&api).await, world.member(&api).await, world.member(&api).await);
    let revoke = async |member: &Member, sent: &Value| {
        member.client.delete(&format!("{INVITATIONS}/{}", sent["id"].as_str().unwrap())).await
    };
    let again = async || admin.client.post(INVITATIONS, json!({ "email": guest.email })).await;
    let first = admin.invite(&guest.email, "member").await;
    assert_eq!(again().await.error(409), "CONFLICT");
    // another organization may invite the same person
    let elsewhere = stranger.invite(&guest.email, "member").await;
    assert_eq!(accept(&stranger, &first["token"]).await.error(403), "INSUFFICIENT_PERMISSIONS");
    assert_eq!(revoke(&stranger, &first).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(accept(&guest, &json!("nonsense")).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(accept(&guest, &Value::Null).await.error(400), "VALIDATION_ERROR");
    revoke(&admin, &first).await.expect(204);
    assert_eq!(revoke(&admin, &first).await.error(409), "CONFLICT");
    assert_eq!(accept(&guest, &first["token"]).await.error(404), "RESOURCE_NOT_FOUND");

    let second = again().await.expect(201);
    let late = "UPDATE invitations SET expires_at = now() - interval '1 second' WHERE status = 'pending'";
    world.run_sql(late).await;
    for sent in [&second, &elsewhere] {
        assert_eq!(accept(&guest, &sent["token"]).await.error(404), "RESOURCE_NOT_FOUND");
    }
    assert_eq!(register(&world, &api, "x@example.com", &second["token"]).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(statuses(&admin, "").await, ["expired", "revoked"]);
    assert_eq!(statuses(&admin, "status=expired").await, ["expired"]);
    assert_eq!(statuses(&admin, "status=pending").await.len(), 0);
    let third = again().await.expect(201);
    assert_eq!(statuses(&admin, "status=expired,pending").await, ["pending", "expired"]);

    let join = format!(
        "INSERT INTO memberships (organization_id, user_id, role) VALUES ('{}', '{}', 'viewer')",
        admin.organization_id(),
        guest.id()
    );
    world.run_sql(&join).await;
    assert_eq!(accept(&guest, &third["token"]).await.error(409), "CONFLICT");
    assert_eq!(again().await.error(409), "CONFLICT");
    world.take_mails().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_come_with_one_invitation_one_is_let_in() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let guest = world.member(&api).await;
    let token = admin.invite(&guest.email, "member").await["token"].clone();
    let mut all = JoinSet::new();
    for _ in 0..8 {
        let (client, token) = (guest.client.clone(), token.clone());
        all.spawn(async move { client.post("/invitations/accept", json!({ "token": token })).await.status.as_u16() });
    }
    let statuses = all.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 404, 409].contains(status)), "{statuses:?}");

    let token = admin.invite("race@example.com", "member").await["token"].clone();
    let mut all = JoinSet::new();
    for _ in 0..6 {
        let (client, token) = (world.client(&api), token.clone());
        all.spawn(async move {
            let body = json!({ "email": "race@example.com", "password": "analytical1", "invitation_token": token });
            client.post("/auth/register", body).await.status.as_u16()
        });
    }
    let statuses = all.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 404, 409].contains(status)), "{statuses:?}");

    // many invite the same person: one invitation, one mail
    let mut all = JoinSet::new();
    for _ in 0..6 {
        let client = admin.client.clone();
        all.spawn(async move { client.post(INVITATIONS, json!({ "email": "one@example.com" })).await.status.as_u16() });
    }
    let mut statuses = all.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
    assert_eq!(world.take_mails().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_invitations_of_somebody_who_was_removed_are_no_way_back() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let manager = world.colleague(&api, &admin, "manager").await;
    let friend = world.member(&api).await;
    let sent = manager.invite(&friend.email, "manager").await;
    let kept = admin.invite("kept@example.com", "member").await;
    admin.client.delete(&format!("/organizations/current/members/{}", manager.id())).await.expect(204);
    assert_eq!(accept(&friend, &sent["token"]).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(statuses(&admin, "sort=created_at").await, ["revoked", "pending"]);
    register(&world, &api, "kept@example.com", &kept["token"]).await.expect(201);
    world.take_mails().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_an_invitation_says_how_to_accept_and_runs_nothing() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let name = "<script>alert(1)</script>";
    admin.client.put("/organizations/current", json!({ "name": name })).await.expect(200);
    admin.client.put("/users/me", json!({ "name": "Ada & Co" })).await.expect(200);
    let sent = admin.invite("guest@example.com", "viewer").await;
    let token = sent["token"].as_str().unwrap();
    let anonymous = world.client(&api);
    let read = async |path: &str| anonymous.send(anonymous.request(Method::GET, path)).await;

    let page = read(&format!("/invitations/accept?token={token}")).await;
    assert_eq!(page.status.as_u16(), 200, "{}", page.text);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers["cache-control"], "no-store");
    assert_eq!(page.headers["referrer-policy"], "no-referrer");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("script-src"), "{policy}");
    assert!(!page.text.contains("<script"), "{}", page.text);
    for part in
        ["Ada &amp; Co", "guest@example.com", "viewer", "/api/v1/invitations/accept", "/api/v1/auth/register", token]
    {
        assert!(page.text.contains(part), "{part} is missing in {}", page.text);
    }
    let unknown = Uuid::new_v4().to_string();
    for query in [String::new(), "?token=".to_owned(), format!("?token={unknown}"), "?token=%00".to_owned()] {
        let page = read(&format!("/invitations/accept{query}")).await;
        assert_eq!(
            (page.status.as_u16(), &page.headers["content-type"]),
            (404, &"text/html; charset=utf-8".parse().unwrap())
        );
        assert!(!page.text.contains(&unknown));
    }
    world.take_mails().await;
}
