//! Accounts, logins and tokens, as clients meet them.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel_async::RunQueryDsl;
use harness::{Client, Member, World};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Invalid fields of an error, sorted.
fn fields(body: &Value) -> Vec<&str> {
    let details = body["error"]["details"].as_array().unwrap();
    let mut fields: Vec<_> = details.iter().map(|detail| detail["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    fields
}

async fn login(client: &Client, member: &Member) -> Value {
    client.post("/auth/login", json!({ "email": member.email, "password": member.password })).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_answers_with_the_user_in_both_forms_and_with_tokens_that_work() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let body = json!({
        "email": "Ada.Lovelace@Example.com", "password": "analytical1", "confirm_password": "analytical1",
        "full_name": "Ada Lovelace",
    });
    let answer = client.post("/auth/register", body).await.expect(201);
    assert_eq!(answer["email"], "ada.lovelace@example.com");
    assert_eq!(answer["user"]["username"], "ada_lovelace");
    assert_eq!(answer["user"]["name"], "Ada Lovelace");
    assert_eq!((&answer["user"]["role"], &answer["user"]["tier"]), (&json!("admin"), &json!("free")));
    assert_eq!(answer["token"], answer["access_token"]);
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("bearer"), &json!(3600)));
    for (outer, inner) in
        [("id", "id"), ("full_name", "full_name"), ("is_active", "is_active"), ("created_at", "created_at")]
    {
        assert_eq!(answer[outer], answer["user"][inner]);
    }
    let me = client.with_token(answer["access_token"].as_str().unwrap()).get("/users/me").await.expect(200);
    assert_eq!(me["id"], answer["id"]);
    assert_eq!(me["organization_id"], answer["user"]["organization_id"]);
    assert!(me["last_login_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_hears_of_every_invalid_field_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let answer = client.post("/auth/register", json!({})).await;
    assert_eq!(fields(&answer.body), ["email", "password"]);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    let answer = client
        .post(
            "/auth/register",
            json!({
                "email": "nobody", "password": "short", "confirm_password": "other", "username": "no spaces",
                "name": 7, "full_name": "",
            }),
        )
        .await;
    assert_eq!(fields(&answer.body), ["confirm_password", "email", "full_name", "name", "password", "username"]);
    for body in ["", "{", "[]", "null", "\"text\""] {
        let request = client.request(Method::POST, "/api/v1/auth/register").body(body);
        assert_eq!(client.send(request).await.error(400), "VALIDATION_ERROR", "{body:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn email_and_username_are_unique_without_case_and_derived_names_make_way() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let register = async |email: &str, username: Option<&str>| {
        let body = json!({ "email": email, "password": "analytical1", "username": username, "name": "Same Name" });
        client.post("/auth/register", body).await
    };
    register("one@example.com", Some("Somebody")).await.expect(201);
    let again = register("ONE@example.com", None).await;
    assert_eq!(fields(&again.body), ["email"]);
    assert_eq!(again.error(409), "CONFLICT");
    let taken = register("two@example.com", Some("somebody")).await;
    assert_eq!(fields(&taken.body), ["username"]);
    assert_eq!(taken.error(409), "CONFLICT");
    let (first, second) = (register("same@one.example", None).await, register("same@two.example", None).await);
    let (first, second) = (first.expect(201), second.expect(201));
    assert_eq!(first["user"]["username"], "same");
    assert!(second["user"]["username"].as_str().unwrap().starts_with("same_"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_registrations_with_one_email_exactly_one_succeeds() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let mut all = JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        all.spawn(async move {
            let body = json!({ "email": "race@example.com", "password": "analytical1" });
            client.post("/auth/register", body).await.status.as_u16()
        });
    }
    let mut statuses = all.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_fails_alike_for_a_wrong_password_an_unknown_email_and_a_disabled_account() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let member = world.member(&api).await;
    let upper = json!({ "email": member.email.to_uppercase(), "password": member.password });
    assert_eq!(client.post("/auth/login", upper).await.expect(200)["user"]["email"], json!(member.email));
    let attempt = async |email: &str, password: &str| {
        client.post("/auth/login", json!({ "email": email, "password": password })).await
    };
    let wrong = attempt(&member.email, "wrong horse 1").await;
    let unknown = attempt("nobody@example.com", "wrong horse 1").await;
    world.run_sql("UPDATE users SET is_active = false").await;
    let disabled = attempt(&member.email, &member.password).await;
    for answer in [&wrong, &unknown, &disabled] {
        assert_eq!(answer.body["error"]["message"], wrong.body["error"]["message"]);
    }
    for answer in [wrong, unknown, disabled] {
        assert_eq!(answer.error(401), "INVALID_CREDENTIALS");
    }
    assert_eq!(member.client.get("/users/me").await.error(401), "AUTHENTICATION_REQUIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_works_once_and_its_second_use_ends_the_login() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let member = world.member(&api).await;
    let refresh = async |token: &Value| client.post("/auth/refresh", json!({ "refresh_token": token })).await;
    let first = refresh(&member.registration["refresh_token"]).await.expect(200);
    assert_ne!(first["refresh_token"], member.registration["refresh_token"]);
    assert_eq!(first["token"], first["access_token"]);
    let fresh = client.with_token(first["access_token"].as_str().unwrap());
    fresh.get("/users/me").await.expect(200);
    let second = refresh(&first["refresh_token"]).await.expect(200);
    assert_eq!(refresh(&first["refresh_token"]).await.error(401), "AUTHENTICATION_REQUIRED");
    assert_eq!(refresh(&second["refresh_token"]).await.error(401), "AUTHENTICATION_REQUIRED", "the login has ended");
    assert_eq!(fresh.get("/users/me").await.error(401), "AUTHENTICATION_REQUIRED", "and its access tokens with it");
    assert_eq!(refresh(&json!("rubbish")).await.error(401), "AUTHENTICATION_REQUIRED");
    login(&client, &member).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_refreshes_at_once_with_one_token_at_most_one_succeeds() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_API_THREADS", "2")]).await;
    let client = world.client(&api);
    let member = world.member(&api).await;
    let mut both = JoinSet::new();
    for _ in 0..2 {
        let (client, token) = (client.clone(), member.registration["refresh_token"].clone());
        both.spawn(
            async move { client.post("/auth/refresh", json!({ "refresh_token": token })).await.status.as_u16() },
        );
    }
    let mut statuses = both.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_both_tokens_of_this_login_at_once_and_no_other() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let member = world.member(&api).await;
    let other = login(&client, &member).await;
    let answer = member.client.send(member.client.request(Method::POST, "/auth/logout")).await;
    assert_eq!(answer.expect(200), json!({ "message": "Successfully logged out" }));
    assert_eq!(member.client.get("/auth/me").await.error(401), "AUTHENTICATION_REQUIRED");
    let spent = json!({ "refresh_token": member.registration["refresh_token"] });
    assert_eq!(client.post("/auth/refresh", spent).await.error(401), "AUTHENTICATION_REQUIRED");
    client.with_token(other["access_token"].as_str().unwrap()).get("/auth/me").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_the_other_logins_and_replaces_the_old_one() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let member = world.member(&api).await;
    let other = login(&client, &member).await;
    let change = async |old: &str, new: &str| {
        member.client.put("/auth/password", json!({ "old_password": old, "new_password": new })).await
    };
    assert_eq!(change("wrong horse 1", "another horse 2").await.error(401), "INVALID_CREDENTIALS");
    for weak in ["short1", "onlyletters", member.password.as_str(), member.email.as_str()] {
        let refused = change(&member.password, weak).await;
        assert_eq!(fields(&refused.body), ["new_password"]);
        assert_eq!(refused.error(400), "VALIDATION_ERROR", "{weak}");
    }
    let done = change(&member.password, "another horse 2").await.expect(200);
    assert_eq!(done, json!({ "message": "Password changed successfully" }));
    member.client.get("/users/me").await.expect(200);
    let other = client.with_token(other["access_token"].as_str().unwrap());
    assert_eq!(other.get("/users/me").await.error(401), "AUTHENTICATION_REQUIRED");
    let old = json!({ "email": member.email, "password": member.password });
    assert_eq!(client.post("/auth/login", old).await.error(401), "INVALID_CREDENTIALS");
    client.post("/auth/login", json!({ "email": member.email, "password": "another horse 2" })).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_valid_bearer_token_is_refused() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_ACCESS_TOKEN_TTL", "1")]).await;
    let member = world.member(&api).await;
    let token = member.client.token().to_owned();
    let claims = token.split('.').nth(1).unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
    let client = world.client(&api);
    let refresh = member.registration["refresh_token"].as_str().unwrap();
    for header in
        ["", "Bearer", "Bearer ", "Bearer x.y.z", &format!("Basic {token}"), &format!("Bearer {unsigned}"), refresh]
    {
        let request = client.request(Method::GET, "/api/v1/users/me").header("authorization", header);
        assert_eq!(client.send(request).await.error(401), "AUTHENTICATION_REQUIRED", "{header}");
    }
    let scheme =
        client.request(Method::GET, "/api/v1/health-is-elsewhere").header("authorization", format!("bearer {token}"));
    assert_eq!(client.send(scheme).await.error(404), "RESOURCE_NOT_FOUND");
    harness::eventually("the token to expire", async || {
        (member.client.get("/users/me").await.status.as_u16() == 401).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_reads_and_changes_alike_on_all_its_paths() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    let me = client.get("/users/me").await.expect(200);
    let keys = [
        "id",
        "email",
        "username",
        "name",
        "full_name",
        "role",
        "tier",
        "organization_id",
        "is_active",
        "preferences",
        "usage",
        "quota",
        "api_keys",
        "created_at",
        "updated_at",
        "last_login_at",
        "mfa_enabled",
    ];
    for key in keys {
        assert!(me.get(key).is_some(), "{key} is missing in {me}");
    }
    assert_eq!(me["quota"]["daily"], json!({ "used": 0, "limit": 50 }));
    assert_eq!(me["preferences"]["notifications"], json!({ "email": true, "browser": true }));
    for path in ["/auth/me", "/users/profile"] {
        assert_eq!(client.get(path).await.expect(200), me);
    }
    let changed = client.patch("/users/profile", json!({ "name": "New Name" })).await.expect(200);
    assert_eq!((&changed["name"], &changed["full_name"]), (&json!("New Name"), &json!("New Name")));
    assert_eq!(changed["email"], me["email"], "what is not sent stays");
    let preferences = json!({ "preferences": { "theme": "dark", "notifications": { "email": false } } });
    let changed = client.put("/auth/profile", preferences).await.expect(200);
    assert_eq!(
        changed["preferences"],
        json!({ "theme": "dark", "notifications": { "email": false, "browser": true }, "default_model": "gpt-4" })
    );
    let changed =
        client.put("/users/me", json!({ "email": "New@Example.com", "username": "new_name" })).await.expect(200);
    assert_eq!((&changed["email"], &changed["username"]), (&json!("new@example.com"), &json!("new_name")));
    assert_eq!(changed["preferences"]["theme"], "dark");
    for list in [json!(["light", null, null]), json!({ "notifications": [true, true] })] {
        let answer = client.put("/auth/profile", json!({ "preferences": list })).await;
        assert_eq!(answer.error(400), "VALIDATION_ERROR", "a list is no object");
    }
    client.put("/auth/profile", json!({ "preferences": { "notifications": null } })).await.expect(200);

    let bad = json!({
        "name": "One", "full_name": "Two", "username": "a b", "email": "x",
        "preferences": { "theme": "pink", "notifications": { "email": "yes" } },
    });
    let bad = client.put("/users/me", bad).await;
    assert_eq!(
        fields(&bad.body),
        ["email", "full_name", "preferences.notifications.email", "preferences.theme", "username"]
    );
    assert_eq!(bad.error(400), "VALIDATION_ERROR");
    let other = world.member(&api).await;
    let taken = other.client.put("/users/me", json!({ "email": "new@example.com" })).await;
    assert_eq!(fields(&taken.body), ["email"]);
    assert_eq!(taken.error(409), "CONFLICT");
    assert_eq!(other.client.put("/users/me", json!({ "username": "NEW_NAME" })).await.error(409), "CONFLICT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_role_counts_at_once_and_a_viewer_only_reads() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    member.product("before").await;
    let user: Uuid = member.registration["id"].as_str().unwrap().parse().unwrap();
    diesel::sql_query("UPDATE memberships SET role = 'viewer' WHERE user_id = $1")
        .bind::<diesel::sql_types::Uuid, _>(user)
        .execute(&mut world.conn().await)
        .await
        .unwrap();
    let refused = member.client.post("/products", json!({ "title": "after" })).await;
    assert_eq!(refused.error(403), "INSUFFICIENT_PERMISSIONS");
    assert_eq!(member.client.get("/products").await.expect(200)["pagination"]["total"], 1);
    let me = member.client.put("/users/me", json!({ "name": "Still mine" })).await.expect(200);
    assert_eq!((&me["role"], &me["name"]), (&json!("viewer"), &json!("Still mine")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_installation_asks_for_more_of_a_password() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_PASSWORD_POLICY", "strict")]).await;
    let client = world.client(&api);
    let register = async |password: &str| {
        client.post("/auth/register", json!({ "email": "strict@example.com", "password": password })).await
    };
    assert_eq!(fields(&register("password123").await.body), ["password"]);
    register("Password123").await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_ten_wrong_tries_an_account_is_closed_for_a_while_whether_it_exists_or_not() {
    let world = World::new().await;
    // each try comes from another address, as those of somebody do who has many
    let settings = [("ATELIER_RATE_LIMITS", "on"), ("ATELIER_TRUSTED_PROXIES", "127.0.0.1")];
    let api = world.api_with(&settings).await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let client = world.client(&api);
    let attempt = async |email: &str, password: &str, address: usize| {
        let request = client.request(Method::POST, "/api/v1/auth/login");
        let request = request.header("x-forwarded-for", format!("198.51.100.{address}"));
        client.send(request.json(&json!({ "email": email, "password": password }))).await
    };
    for email in [member.email.as_str(), "nobody@example.com"] {
        let tries = (0..16).map(|address| attempt(email, "wrong horse 1", address + 1));
        let answers = futures_util::future::join_all(tries).await;
        let wrong = answers.iter().filter(|answer| answer.status.as_u16() == 401).count();
        // one comes back every twelve seconds
        assert!((10..16).contains(&wrong), "{wrong} were looked at, even side by side");
        let refused = answers.into_iter().find(|answer| answer.status.as_u16() == 429).unwrap();
        assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        assert_eq!(refused.error(429), "RATE_LIMIT_EXCEEDED");
    }
    let right = attempt(&member.email.to_uppercase(), &member.password, 100).await;
    assert_eq!(right.error(429), "RATE_LIMIT_EXCEEDED", "the right password is not looked at either");
    attempt(&other.email, &other.password, 101).await.expect(200);
}
