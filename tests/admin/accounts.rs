//! Organizations and users.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Member, World};
use serde_json::{Value, json};

async fn slug(member: &Member) -> String {
    member.client.get("/organizations/current").await.expect(200)["slug"].as_str().unwrap().to_owned()
}

/// Who may log in with this password.
async fn login(member: &Member, email: &str, password: &str) -> harness::Answer {
    let body = json!({ "email": email, "password": password });
    member.client.anonymous().post("/auth/login", body).await
}

async fn run_pipeline(member: &Member, pipeline: &str) -> harness::Answer {
    member.client.post(&format!("/pipelines/{pipeline}/run"), json!({ "inputs": { "in": { "text": "a" } } })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tier_counts_from_the_next_request_on() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let slug = slug(&member).await;
    let before = member.client.get("/organizations/current").await.expect(200);
    assert_eq!((&before["subscription_tier"], &before["api_quota_limit"]), (&json!("free"), &json!(1500)));

    let said = world.admin(&["organization", "set-tier", &slug, "pro"]).await;
    assert_eq!(said["organization"]["subscription_tier"], "pro");
    let after = member.client.get("/organizations/current").await.expect(200);
    assert_eq!((&after["subscription_tier"], &after["api_quota_limit"]), (&json!("pro"), &json!(60_000)));
    let me = member.client.get("/users/me").await.expect(200);
    assert_eq!((&me["tier"], &me["quota"]["daily"]["limit"]), (&json!("pro"), &json!(2000)));
    assert_eq!(other.client.get("/users/me").await.expect(200)["tier"], "free", "others stay what they are");
    // by id as well, and once more changes nothing
    world.admin(&["organization", "set-tier", &member.organization_id().to_string(), "pro"]).await;
    let audit = member.client.get("/organizations/current/audit?action=organization.tier_changed").await.expect(200);
    assert_eq!(audit["pagination"]["total"], 1);
    let entry = &audit["data"][0];
    assert_eq!((&entry["actor_id"], &entry["data"]), (&Value::Null, &json!({ "from": "free", "to": "pro" })));

    let refused = world.admin_ran(&["organization", "set-tier", "nobody", "pro"]).await.complaint();
    assert!(refused.contains("nobody") && refused.contains("organization list"), "{refused}");
    let wrong = world.admin_ran(&["organization", "set-tier", &slug, "gold"]).await;
    assert_eq!(wrong.status, 2, "wrong usage");
    assert!(wrong.stderr.contains("enterprise"), "{}", wrong.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_figures_and_budgets_are_set_and_given_back() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let slug = slug(&member).await;
    let body = json!({
        "name": "Shout", "nodes": [{ "id": "in", "type": "input" }, { "id": "out", "type": "output" }],
        "connections": [{ "source": "in", "target": "out" }],
    });
    let pipeline = member.client.post("/pipelines", body).await.expect(201)["id"].as_str().unwrap().to_owned();
    let set = ["organization", "set-limits", slug.as_str()];
    let set_limits = async |figures: &[&str]| world.admin(&[&set[..], figures].concat()).await["organization"].clone();

    let shown = set_limits(&["--daily", "1", "--weekly", "unlimited", "--requests-per-minute", "300"]).await;
    assert_eq!(shown["custom_limits"], json!({ "daily": 1, "weekly": null, "requests_per_minute": 300 }));
    let limits = json!({
        "requests_per_minute": 300, "requests_per_hour": 100, "daily": 1, "weekly": null, "monthly": 1500,
        "api_quota_limit": 1500,
    });
    assert_eq!(shown["limits"], limits);
    run_pipeline(&member, &pipeline).await.expect(202);
    assert_eq!(run_pipeline(&member, &pipeline).await.error(429), "QUOTA_EXCEEDED");
    let quota = member.client.get("/users/me").await.expect(200)["quota"].clone();
    assert_eq!((&quota["daily"], &quota["weekly"]["limit"]), (&json!({ "used": 1, "limit": 1 }), &Value::Null));

    let shown = set_limits(&["--daily", "tier", "--api-quota-limit", "7"]).await;
    assert_eq!(
        (&shown["limits"]["daily"], &shown["limits"]["api_quota_limit"], &shown["api_quota_used"]),
        (&json!(50), &json!(7), &json!(1))
    );
    run_pipeline(&member, &pipeline).await.expect(202);
    let shown = set_limits(&["--monthly-cost-budget", "12.5", "--monthly-token-budget", "1000"]).await;
    assert_eq!((&shown["monthly_cost_budget"], &shown["monthly_token_budget"]), (&json!(12.5), &json!(1000)));
    let stored = "organizations WHERE monthly_cost_budget_nanos = 12500000000 AND monthly_token_budget = 1000";
    assert_eq!(world.count_rows(stored).await, 1);
    let shown = set_limits(&["--monthly-cost-budget", "none"]).await;
    assert_eq!((&shown["monthly_cost_budget"], &shown["monthly_token_budget"]), (&Value::Null, &json!(1000)));
    let shown = set_limits(&["--reset"]).await;
    assert_eq!((&shown["custom_limits"], &shown["monthly_token_budget"]), (&Value::Null, &Value::Null));
    assert_eq!(shown["limits"]["requests_per_minute"], 10);
    assert_eq!(world.admin(&["organization", "show", &slug]).await["organization"], shown);

    for wrong in [&["--daily", "-1"][..], &["--daily", "many"], &["--monthly-cost-budget", "much"]] {
        assert_eq!(world.admin_ran(&[&set[..], wrong].concat()).await.status, 2, "{wrong:?}");
    }
    for wrong in [&[][..], &["--requests-per-hour", "0"], &["--requests-per-minute", "1000001"]] {
        assert!(!world.admin_ran(&[&set[..], wrong].concat()).await.complaint().is_empty(), "{wrong:?}");
    }
    let audit = member.client.get("/organizations/current/audit?action=organization.limits_changed").await.expect(200);
    assert_eq!(audit["pagination"]["total"], 5);
    world.run_sql("DELETE FROM jobs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn organizations_and_users_are_listed_the_newest_first_and_searched() {
    let world = World::new().await;
    let api = world.api().await;
    let (first, second) = (world.member(&api).await, world.member(&api).await);
    let colleague = world.colleague(&api, &first, "viewer").await;
    first.client.put("/organizations/current", json!({ "name": "Yard of Ada" })).await.expect(200);
    let listed = world.admin(&["organization", "list"]).await;
    let listed = listed["organizations"].as_array().unwrap();
    let ids: Vec<_> = listed.iter().map(|organization| organization["id"].clone()).collect();
    let expected = [colleague.organization_id(), second.organization_id(), first.organization_id()];
    assert_eq!(ids, expected.map(|id| json!(id)));
    assert_eq!((&listed[2]["name"], &listed[2]["members"]), (&json!("Yard of Ada"), &json!(2)));
    let found = world.admin(&["organization", "list", "--search", "yard OF"]).await;
    assert_eq!(found["organizations"].as_array().unwrap().len(), 1);
    let found = world.admin(&["organization", "list", "--limit", "2"]).await;
    assert_eq!(found["organizations"].as_array().unwrap().len(), 2);

    let users = world.admin(&["user", "list"]).await;
    let emails: Vec<_> = users["users"].as_array().unwrap().iter().map(|user| user["email"].clone()).collect();
    assert_eq!(emails, [json!(colleague.email), json!(second.email), json!(first.email)]);
    let organization = first.organization_id().to_string();
    let users = world.admin(&["user", "list", "--organization", &organization]).await;
    let roles: Vec<_> = users["users"].as_array().unwrap().iter().map(|user| user["role"].clone()).collect();
    assert_eq!(roles, ["viewer", "admin"]);
    let users = world.admin(&["user", "list", "--search", &second.email.to_uppercase()[..12]]).await;
    assert_eq!(users["users"][0]["id"], json!(second.id()));
    let keys: Vec<_> = users["users"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(!keys.iter().any(|key| key.contains("password")), "{keys:?}");

    let table = world.command(&["admin", "organization", "list"]).await;
    assert_eq!(table.status, 0);
    assert!(table.stdout.contains("Yard of Ada") && table.stdout.contains("members"), "{}", table.stdout);
    let none = world.command(&["admin", "user", "list", "--search", "nobody at all"]).await;
    assert_eq!((none.status, none.stdout.as_str()), (0, "no user fits\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_made_by_the_rules_of_registering() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let made = world.admin(&["user", "create", "Ada@Example.com", "--full-name", "Ada Lovelace"]).await;
    let password = made["password"].as_str().unwrap();
    assert_eq!(
        (&made["user"]["email"], &made["user"]["full_name"], &made["user"]["role"], &made["user"]["is_active"]),
        (&json!("ada@example.com"), &json!("Ada Lovelace"), &json!("admin"), &json!(true))
    );
    let session = login(&member, "ada@example.com", password).await.expect(200);
    let ada = member.client.with_token(session["access_token"].as_str().unwrap());
    assert_eq!(ada.get("/organizations/current").await.expect(200)["name"], "Ada Lovelace");

    let slug = slug(&member).await;
    let join = ["admin", "--json", "user", "create", "bob@example.com", "--username", "bob_1", "--organization", &slug];
    let with_password = [&join[..], &["--role", "viewer", "--password-stdin"]].concat();
    let joined = world.command_with(&with_password, &[], "correct horse 2\n").await.json();
    assert_eq!((&joined["user"]["organization"], &joined["user"]["role"]), (&json!(slug), &json!("viewer")));
    assert!(joined.get("password").is_none(), "who gives a password knows it");
    let session = login(&member, "bob@example.com", "correct horse 2").await.expect(200);
    let bob = member.client.with_token(session["access_token"].as_str().unwrap());
    assert_eq!(bob.get("/users/me").await.expect(200)["organization_id"], json!(member.organization_id()));
    bob.post("/projects", json!({ "name": "x" })).await.error(403);
    let audit = member.client.get("/organizations/current/audit?action=member.joined").await.expect(200);
    let entry = &audit["data"][0];
    assert_eq!((&entry["actor_id"], &entry["target_id"]), (&Value::Null, &joined["user"]["id"]));

    let users = world.count_rows("users").await;
    for (arguments, input, reason) in [
        (&["ada@example.com"][..], "", "already registered"),
        (&["eve@example.com", "--username", "BOB_1"], "", "taken"),
        (&["eve@example.com", "--password-stdin"], "short1\n", "8 to 128"),
        (&["eve@example.com", "--password-stdin"], "", "no password"),
        (&["no address"], "", "email"),
        (&["eve@example.com", "--username", "e"], "", "3 to 30"),
        (&["eve@example.com", "--organization", "nowhere"], "", "organization list"),
    ] {
        let whole = [&["admin", "user", "create"][..], arguments].concat();
        let complaint = world.command_with(&whole, &[], input).await.complaint();
        assert!(complaint.contains(reason), "{arguments:?}: {complaint}");
    }
    assert_eq!(world.count_rows("users").await, users, "nothing is left of those");
    let strict = [("ATELIER_PASSWORD_POLICY", "strict")];
    let weak = ["admin", "user", "create", "eve@example.com", "--password-stdin"];
    assert!(world.command_with(&weak, &strict, "all lower case 1\n").await.complaint().contains("upper case"));
    world.command_with(&["admin", "user", "create", "eve@example.com"], &strict, "").await.complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_user_is_refused_at_once_with_every_credential() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let member = world.colleague(&api, &admin, "member").await;
    let key = json!({ "name": "script", "permissions": ["projects:read"] });
    let key = member.client.post("/api-keys", key).await.expect(201)["key"].as_str().unwrap().to_owned();
    let with_key = async || {
        let request = member.client.anonymous().request(reqwest::Method::GET, "/api/v1/projects");
        member.client.send(request.header("x-api-key", &key)).await
    };
    let refresh = member.registration["refresh_token"].clone();
    let refresh = async || {
        let body = json!({ "refresh_token": refresh });
        member.client.anonymous().post("/auth/refresh", body).await
    };
    member.client.get("/projects").await.expect(200);
    with_key().await.expect(200);

    let said = world.admin(&["user", "disable", &member.email]).await;
    assert_eq!((&said["changed"], &said["user"]["is_active"]), (&json!(true), &json!(false)));
    assert_eq!(member.client.get("/projects").await.error(401), "AUTHENTICATION_REQUIRED");
    assert_eq!(with_key().await.error(401), "AUTHENTICATION_REQUIRED");
    assert_eq!(refresh().await.error(401), "AUTHENTICATION_REQUIRED");
    assert_eq!(login(&member, &member.email, &member.password).await.error(401), "INVALID_CREDENTIALS");
    admin.client.get("/projects").await.expect(200);
    let again = world.admin(&["user", "disable", &member.id().to_string()]).await;
    assert_eq!(again["changed"], false);

    let said = world.admin(&["user", "enable", &member.email.to_uppercase()]).await;
    assert_eq!((&said["changed"], &said["user"]["is_active"]), (&json!(true), &json!(true)));
    with_key().await.expect(200);
    member.client.get("/projects").await.error(401);
    refresh().await.error(401);
    login(&member, &member.email, &member.password).await.expect(200);
    let audit = admin.client.get("/organizations/current/audit?target_type=user").await.expect(200);
    let actions: Vec<_> = audit["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["user.enabled", "user.disabled"]);
    assert_eq!(audit["data"][1]["target_id"], json!(member.id()));
    let complaint = world.admin_ran(&["user", "disable", "nobody@example.com"]).await.complaint();
    assert!(complaint.contains("user list"), "{complaint}");
}
