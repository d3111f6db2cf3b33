//! Limits on requests: how many pass, who is counted together, and what clients hear of it.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::{Jsonb, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::{StreamExt, stream};
use harness::{Answer, Api, Client, Member, Socket, World, eventually};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Requests that are under way at once.
const ABREAST: usize = 8;

/// Another limits.toml, in which what is used does not come back while a test runs: the same bursts, a day long.
fn slow(built_in: &str) -> String {
    built_in.replace("window = 900\n", "").replace("\nburst", "\nwindow = 86400\nburst")
}

/// An API with limits that believes the tests where they come from.
async fn limited(world: &World) -> Api {
    limited_by(world, slow).await
}

async fn limited_by(world: &World, change: impl FnOnce(&str) -> String) -> Api {
    let file = world.limits_file(change);
    world
        .api_with(&[
            ("ATELIER_RATE_LIMITS", "on"),
            ("ATELIER_LIMITS_FILE", &file),
            ("ATELIER_TRUSTED_PROXIES", "127.0.0.0/8"),
        ])
        .await
}

/// A number in a header.
fn number(answer: &Answer, header: &str) -> u64 {
    let value = answer.headers.get(header).unwrap_or_else(|| unreachable!("{header} is missing: {answer:?}"));
    value.to_str().unwrap().parse().unwrap()
}

fn text<'a>(answer: &'a Answer, header: &str) -> &'a str {
    answer.headers.get(header).map_or("", |value| value.to_str().unwrap())
}

/// Sends so many requests; says how many passed. The others were refused in the documented form.
async fn passed(client: &Client, count: usize, request: impl Fn() -> RequestBuilder) -> usize {
    let answers: Vec<_> = stream::iter(0..count).map(|_| client.send(request())).buffered(ABREAST).collect().await;
    let mut refused = 0;
    for answer in answers {
        if answer.status == 429 {
            refused += 1;
            let retry_after = number(&answer, "retry-after");
            assert!(retry_after > 0);
            assert_eq!(answer.body["error"]["retry_after"], retry_after);
            assert_eq!(number(&answer, "x-ratelimit-remaining"), 0);
            assert!(number(&answer, "x-ratelimit-reset") > 0);
            assert_eq!(answer.error(429), "RATE_LIMIT_EXCEEDED");
        }
    }
    count - refused
}

/// A request as from this address.
fn from(client: &Client, ip: &str, method: Method, path: &str) -> RequestBuilder {
    client.request(method, &format!("/api/v1{path}")).header("x-forwarded-for", ip)
}

async fn set_tier(world: &World, member: &Member, tier: &str) {
    diesel::sql_query("UPDATE organizations SET subscription_tier = $1 WHERE id = $2")
        .bind::<Text, _>(tier)
        .bind::<SqlUuid, _>(member.organization_id())
        .execute(&mut world.conn().await)
        .await
        .unwrap();
}

async fn set_custom_limits(world: &World, member: &Member, limits: Value) {
    diesel::sql_query("UPDATE organizations SET custom_limits = $1 WHERE id = $2")
        .bind::<Jsonb, _>(limits)
        .bind::<SqlUuid, _>(member.organization_id())
        .execute(&mut world.conn().await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_each_kind_exactly_the_burst_passes_at_once() {
    let world = World::new().await;
    let api = limited(&world).await;
    let member = world.member(&api).await;
    // the paces of the tier would be used up first
    set_custom_limits(&world, &member, json!({ "requests_per_minute": null, "requests_per_hour": null })).await;
    let (client, id) = (&member.client, Uuid::new_v4());
    for (category, limit, burst, method, path) in [
        ("pipelines", 60, 100, Method::GET, format!("/pipelines/{id}")),
        ("execution", 10, 20, Method::POST, format!("/pipelines/{id}/run")),
        ("profile", 30, 50, Method::GET, "/users/me".to_owned()),
        ("uploads", 30, 30, Method::POST, "/uploads/presigned-url".to_owned()),
        ("analysis", 60, 60, Method::GET, format!("/analysis/{id}")),
        ("general", 120, 200, Method::GET, format!("/products/{id}")),
    ] {
        let request = || client.request(method.clone(), &format!("/api/v1{path}")).json(&json!({}));
        assert_eq!(passed(client, burst + 1, request).await, burst, "{category}");
        let refused = client.send(request()).await;
        assert_eq!(text(&refused, "x-ratelimit-endpoint"), category);
        assert_eq!(text(&refused, "x-ratelimit-identifier"), "user");
        assert_eq!((number(&refused, "x-ratelimit-limit"), number(&refused, "x-ratelimit-window")), (limit, 86_400));
        assert!(refused.body["error"]["message"].as_str().unwrap().contains(category), "{}", refused.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_requests_without_valid_ones_are_counted_by_address() {
    let world = World::new().await;
    let api = limited(&world).await;
    let client = world.client(&api);
    let forged = client.with_token("not.a.token");
    let login = |ip: &str| from(&client, ip, Method::POST, "/auth/login").json(&json!({}));
    assert_eq!(passed(&client, 11, || login("198.51.100.1")).await, 10);
    assert_eq!(client.send(login("198.51.100.2")).await.error(400), "VALIDATION_ERROR", "another address");
    let refused = client.send(login("198.51.100.1")).await;
    assert_eq!((text(&refused, "x-ratelimit-endpoint"), text(&refused, "x-ratelimit-identifier")), ("auth", "ip"));
    // what needs credentials is another bucket, shared by all that have none
    let ask = |client: &Client, ip: &str| from(client, ip, Method::GET, "/products");
    let first = client.send(ask(&client, "198.51.100.1")).await;
    let named = (text(&first, "x-ratelimit-endpoint"), text(&first, "x-ratelimit-identifier"));
    assert_eq!((named, number(&first, "x-ratelimit-remaining")), (("anonymous", "ip"), 9));
    assert_eq!(first.error(401), "AUTHENTICATION_REQUIRED");
    assert_eq!(passed(&client, 5, || ask(&forged, "198.51.100.1")).await, 5);
    assert_eq!(passed(&client, 5, || ask(&client, "198.51.100.1")).await, 4);
    assert_eq!(client.send(ask(&forged, "198.51.100.1")).await.error(429), "RATE_LIMIT_EXCEEDED");
    assert_eq!(client.send(ask(&client, "198.51.100.2")).await.error(401), "AUTHENTICATION_REQUIRED");
    // whoever is known is not counted there
    let member = world.member(&api).await;
    client.send(ask(&member.client, "198.51.100.1")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_says_where_a_request_comes_from() {
    let world = World::new().await;
    let file = world.limits_file(slow);
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "on"), ("ATELIER_LIMITS_FILE", &file)]).await;
    let client = world.client(&api);
    for number in 1..=10 {
        let request = from(&client, &format!("198.51.100.{number}"), Method::GET, "/products");
        assert_eq!(client.send(request).await.error(401), "AUTHENTICATION_REQUIRED");
    }
    let request = from(&client, "198.51.100.11", Method::GET, "/products");
    assert_eq!(client.send(request).await.error(429), "RATE_LIMIT_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_followed_by_a_steady_refill() {
    let world = World::new().await;
    // one comes back every 200 ms
    let fast = "[requests.profile]\nlimit = 5\nwindow = 1\nburst = 5\n";
    let api = limited_by(&world, |text| text.replace("[requests.profile]\nlimit = 30\nburst = 50\n", fast)).await;
    let member = world.member(&api).await;
    let client = &member.client;
    let request = || client.request(Method::GET, "/api/v1/users/me");
    let (began, mut total) = (Instant::now(), 0);
    // by the clock of the bucket: what has come back is known only afterwards
    while total < 15 {
        total += passed(client, 10, request).await;
    }
    let refilled = usize::try_from(began.elapsed().as_millis() / 200).unwrap();
    assert!(total <= 5 + refilled, "{total} passed, {refilled} came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_requests_at_once_exactly_the_burst_passes_over_two_replicas() {
    let world = World::new().await;
    let (one, other) = (limited(&world).await, limited(&world).await);
    let member = world.member(&one).await;
    set_custom_limits(&world, &member, json!({ "requests_per_minute": null, "requests_per_hour": null })).await;
    let elsewhere = world.client(&other).with_token(member.client.token());
    let path = format!("/api/v1/pipelines/{}/run", Uuid::new_v4());
    let send = async |client: &Client| client.send(client.request(Method::POST, &path).json(&json!({}))).await.status;
    let storm = stream::iter(0..50).map(|n| send(if n % 2 == 0 { &member.client } else { &elsewhere }));
    let statuses: Vec<_> = storm.buffer_unordered(50).collect().await;
    let passed = statuses.iter().filter(|status| status.as_u16() == 404).count();
    let refused = statuses.iter().filter(|status| status.as_u16() == 429).count();
    assert_eq!((passed, refused), (20, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_sets_the_pace_of_a_user_and_of_an_organization() {
    let world = World::new().await;
    let api = limited(&world).await;
    let member = world.member(&api).await;
    let ask = || member.client.request(Method::POST, "/api/v1/ai/chat").json(&json!({}));
    for (tier, minute, hour) in
        [("free", 10, 100), ("basic", 30, 300), ("pro", 100, 1_000), ("enterprise", 500, 10_000)]
    {
        set_tier(&world, &member, tier).await;
        let answer = member.client.send(ask()).await;
        let policy = format!("\"ai\";q={minute};w=60, \"user\";q={minute};w=60, \"organization\";q={hour};w=3600");
        assert_eq!(text(&answer, "ratelimit-policy"), policy);
        assert_eq!(text(&answer, "x-ratelimit-endpoint"), "ai");
        // other work draws on the same paces, and has a bucket of its own
        let batch = member.client.post("/batch", json!({})).await;
        let policy = format!("\"analysis\";q=60;w=86400, \"user\";q={minute};w=60, \"organization\";q={hour};w=3600");
        assert_eq!(text(&batch, "ratelimit-policy"), policy);
        // reading is never stopped by a tier
        assert_eq!(text(&member.client.get("/products").await, "ratelimit-policy"), "\"general\";q=120;w=86400");
    }
    // what the whole organization may is used up by all of its members together
    set_tier(&world, &member, "free").await;
    let colleague = world.colleague(&api, &member, "member").await;
    set_custom_limits(&world, &member, json!({ "requests_per_minute": null, "requests_per_hour": 20 })).await;
    let left = number(&member.client.send(ask()).await, "x-ratelimit-remaining");
    assert!(left < 20, "what was used before is still used");
    let began = Instant::now();
    let both = [&member.client, &colleague.client];
    let answers: Vec<_> =
        stream::iter(0..60).map(|n| both[n % 2].post("/ai/chat", json!({}))).buffer_unordered(ABREAST).collect().await;
    let passed = answers.iter().filter(|answer| answer.status != 429).count();
    // one comes back in 3 minutes
    let refilled = usize::try_from(began.elapsed().as_secs() / 180).unwrap() + 1;
    let left = usize::try_from(left).unwrap();
    assert!((left..=left + refilled).contains(&passed), "{passed} of {left} passed");
    let refused = member.client.send(ask()).await;
    assert_eq!(text(&refused, "x-ratelimit-window"), "3600");
    assert_eq!(text(&refused, "x-ratelimit-endpoint"), "ai");
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("organization"), "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_paces_of_the_tiers_are_what_passes() {
    let world = World::new().await;
    let api = limited(&world).await;
    for (tier, custom, burst, interval) in [
        ("free", json!({}), 10, Duration::from_secs(6)),
        ("basic", json!({}), 30, Duration::from_secs(2)),
        ("free", json!({ "requests_per_minute": null }), 100, Duration::from_secs(36)),
        ("free", json!({ "requests_per_minute": 3 }), 3, Duration::from_secs(20)),
    ] {
        let client = world.client(&api);
        let register = json!({ "email": format!("{}@example.com", Uuid::new_v4()), "password": "correct horse 1" });
        let ip = format!("198.51.100.{}", burst % 250);
        let registered =
            client.send(from(&client, &ip, Method::POST, "/auth/register").json(&register)).await.expect(201);
        let member = client.with_token(registered["access_token"].as_str().unwrap());
        diesel::sql_query("UPDATE organizations SET subscription_tier = $1, custom_limits = $2 WHERE id = $3::uuid")
            .bind::<Text, _>(tier)
            .bind::<Jsonb, _>(&custom)
            .bind::<Text, _>(registered["user"]["organization_id"].as_str().unwrap())
            .execute(&mut world.conn().await)
            .await
            .unwrap();
        let began = Instant::now();
        let ask = || member.request(Method::POST, "/api/v1/ai/chat").json(&json!({}));
        let passed = passed(&member, burst + 20, ask).await;
        let refilled = usize::try_from(began.elapsed().as_millis() / interval.as_millis()).unwrap();
        assert!((burst..=burst + refilled).contains(&passed), "{tier} {custom}: {passed} passed, {refilled} came back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_counted_by_itself_and_draws_on_its_owners_pace() {
    let world = World::new().await;
    let api = limited(&world).await;
    let member = world.member(&api).await;
    set_custom_limits(&world, &member, json!({ "requests_per_minute": 4, "requests_per_hour": null })).await;
    let new = json!({ "name": "script", "permissions": ["*"] });
    let key = member.client.post("/api-keys", new).await.expect(201)["key"].as_str().unwrap().to_owned();
    let nobody = member.client.anonymous();
    let with_key = |method: Method, path: &str| {
        nobody.request(method, &format!("/api/v1{path}")).header("x-api-key", &key).json(&json!({}))
    };
    // reading: what the owner has used up is there for the key
    let read = || member.client.request(Method::GET, "/api/v1/users/me");
    assert_eq!(passed(&member.client, 51, read).await, 50);
    let answer = nobody.send(with_key(Method::GET, "/users/me")).await;
    assert_eq!(text(&answer, "x-ratelimit-identifier"), "api_key");
    answer.expect(200);
    assert_eq!(passed(&nobody, 50, || with_key(Method::GET, "/users/me")).await, 49);
    // work: both together have the pace of one user
    let began = Instant::now();
    let ask = || member.client.request(Method::POST, "/api/v1/ai/chat").json(&json!({}));
    let by_owner = passed(&member.client, 3, ask).await;
    let by_key = passed(&nobody, 6, || with_key(Method::POST, "/ai/chat")).await;
    // one comes back in 15 s
    let refilled = usize::try_from(began.elapsed().as_secs() / 15).unwrap();
    assert!((4..=4 + refilled).contains(&(by_owner + by_key)), "{by_owner} and {by_key} passed");
    let refused = nobody.send(with_key(Method::POST, "/ai/chat")).await;
    assert!(refused.status != 429 || refused.body["error"]["message"].as_str().unwrap().contains("\"user\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_one_bucket_refuses_takes_nothing_from_the_others() {
    let world = World::new().await;
    let api = limited(&world).await;
    let member = world.member(&api).await;
    set_custom_limits(&world, &member, json!({ "requests_per_minute": 2 })).await;
    let ask = || member.client.request(Method::POST, "/api/v1/ai/chat").json(&json!({}));
    let left = |answer: &Answer| {
        let all = text(answer, "ratelimit");
        all.split(", ").find_map(|item| item.strip_prefix("\"organization\";r=")).unwrap().to_owned()
    };
    let (one, two) = (member.client.send(ask()).await, member.client.send(ask()).await);
    assert!(left(&one).starts_with("99;") && left(&two).starts_with("98;"));
    for _ in 0..3 {
        let refused = member.client.send(ask()).await;
        assert!(left(&refused).starts_with("98;"), "{}", left(&refused));
        assert_eq!(refused.error(429), "RATE_LIMIT_EXCEEDED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_session_has_ended_takes_nothing_from_its_user() {
    let world = World::new().await;
    let api = limited(&world).await;
    let member = world.member(&api).await;
    let login = json!({ "email": member.email, "password": member.password });
    let login = member.client.anonymous().post("/auth/login", login).await.expect(200);
    let dead = member.client.with_token(login["access_token"].as_str().unwrap());
    dead.post("/auth/logout", json!({})).await.expect(200);
    for number in 0..60 {
        let answer = dead.send(from(&dead, &format!("203.0.113.{number}"), Method::GET, "/users/me")).await;
        assert_eq!(text(&answer, "x-ratelimit-endpoint"), "anonymous");
        assert_eq!(answer.error(401), "AUTHENTICATION_REQUIRED");
    }
    let request = || member.client.request(Method::GET, "/api/v1/users/me");
    assert_eq!(passed(&member.client, 51, request).await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_over_sockets_are_limited_and_the_socket_stays_open() {
    let world = World::new().await;
    let api = limited(&world).await;
    let member = world.member(&api).await;
    set_custom_limits(&world, &member, json!({ "requests_per_minute": 1 })).await;
    let mut chat = Socket::enter(&member.client, "/ws").await;
    let mut stream = Socket::enter(&member.client, "/api/v1/ai/stream").await;
    chat.send(json!({ "type": "chat", "data": {} })).await;
    assert_eq!(chat.frame().await["data"]["code"], "VALIDATION_ERROR");
    chat.send(json!({ "type": "chat", "data": {} })).await;
    let refused = chat.frame().await;
    assert_eq!((&refused["type"], &refused["data"]["code"]), (&json!("error"), &json!("RATE_LIMIT_EXCEEDED")));
    assert!(refused["data"]["retry_after"].as_u64().unwrap() > 0);
    // both sockets and the request are one kind
    stream.send(json!({ "messages": [] })).await;
    let refused = stream.frame().await;
    assert_eq!(refused["error"]["code"], "RATE_LIMIT_EXCEEDED");
    assert!(refused["error"]["retry_after"].as_u64().unwrap() > 0);
    assert_eq!(member.client.post("/ai/chat", json!({})).await.error(429), "RATE_LIMIT_EXCEEDED");
    for socket in [&mut chat, &mut stream] {
        socket.send(json!({ "type": "ping" })).await;
        assert_eq!(socket.frame().await["type"], "pong");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_api_says_how_one_stands() {
    let world = World::new().await;
    let origin = "https://app.example.com";
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "on"), ("ATELIER_CORS_ORIGINS", origin)]).await;
    let member = world.member(&api).await;
    let (client, nobody) = (&member.client, member.client.anonymous());
    let preflight = client
        .request(Method::OPTIONS, "/api/v1/products")
        .header("origin", origin)
        .header("access-control-request-method", "GET");
    let send = async |client: &Client, method: Method, path: &str| client.send(client.request(method, path)).await;
    for (answer, status, category, identifier) in [
        (send(client, Method::GET, "/api/v1/products").await, 200, "general", "user"),
        (send(client, Method::HEAD, "/api/v1/products").await, 200, "general", "user"),
        (send(client, Method::GET, "/auth/me").await, 200, "profile", "user"),
        (send(client, Method::GET, "/api/v1/products/17").await, 404, "general", "user"),
        (client.post("/products", json!({ "title": 5 })).await, 400, "general", "user"),
        (client.post("/auth/login", json!({})).await, 400, "auth", "ip"),
        (send(client, Method::GET, "/api/v1/nothing").await, 404, "general", "ip"),
        (send(client, Method::GET, "/api/v2/nothing").await, 404, "general", "ip"),
        (send(client, Method::DELETE, "/api/v1/users/profile").await, 405, "general", "ip"),
        (send(client, Method::OPTIONS, "/api/v1/users/profile").await, 204, "general", "ip"),
        (send(&nobody, Method::GET, "/api/v1/products").await, 401, "anonymous", "ip"),
        (client.send(preflight).await, 200, "general", "ip"),
    ] {
        let at = format!("{status} {category} {identifier}");
        assert_eq!(answer.status.as_u16(), status, "{at}: {}", answer.text);
        let named = (text(&answer, "x-ratelimit-endpoint"), text(&answer, "x-ratelimit-identifier"));
        assert_eq!(named, (category, identifier), "{at}");
        let (limit, left) = (number(&answer, "x-ratelimit-limit"), number(&answer, "x-ratelimit-remaining"));
        let window = number(&answer, "x-ratelimit-window");
        assert!(left <= limit && limit > 0, "{at}");
        assert!(number(&answer, "x-ratelimit-reset") > 1_700_000_000, "{at}: Unix seconds");
        assert_eq!(text(&answer, "ratelimit-policy"), format!("\"{category}\";q={limit};w={window}"), "{at}");
        assert!(text(&answer, "ratelimit").starts_with(&format!("\"{category}\";r={left};t=")), "{at}");
    }
    // pages of other origins may read them
    let answer = client.send(client.request(Method::GET, "/api/v1/products").header("origin", origin)).await;
    let exposed = text(&answer, "access-control-expose-headers").to_ascii_lowercase();
    for name in [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-ratelimit-window",
        "x-ratelimit-endpoint",
        "x-ratelimit-identifier",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "idempotent-replayed",
    ] {
        assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name} is not in {exposed}");
    }
    // operations are not limited
    for path in ["/health", "/ready", "/metrics", "/docs", "/openapi.json"] {
        let answer = send(client, Method::GET, path).await;
        assert!(!answer.headers.contains_key("x-ratelimit-limit"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_limits_off_everything_passes_and_the_headers_describe_full_buckets() {
    let world = World::new().await;
    let file = world.limits_file(slow);
    let api = world.api_with(&[("ATELIER_LIMITS_FILE", &file)]).await;
    let member = world.member(&api).await;
    let client = &member.client;
    let request = || client.request(Method::GET, "/api/v1/users/me");
    assert_eq!(passed(client, 55, request).await, 55);
    let answer = client.send(request()).await;
    assert_eq!((number(&answer, "x-ratelimit-limit"), number(&answer, "x-ratelimit-remaining")), (30, 30));
    assert_eq!(text(&answer, "ratelimit"), "\"profile\";r=30;t=0");
    let nobody = client.anonymous();
    assert_eq!(passed(client, 15, || nobody.request(Method::GET, "/api/v1/users/me")).await, 15);
}

/// How many requests were not limited because Redis did not answer, in this whole process.
async fn unlimited(client: &Client) -> u64 {
    let metrics = client.send(client.request(Method::GET, "/metrics")).await.text;
    let line = metrics.lines().find(|line| line.starts_with("atelier_rate_limit_unavailable_total"));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_requests_pass_and_limits_are_back_when_it_is() {
    let world = World::with_own_redis().await;
    let api = limited(&world).await;
    let member = world.member(&api).await;
    let client = &member.client;
    let request = || client.request(Method::GET, "/api/v1/users/me");
    assert_eq!(passed(client, 51, request).await, 50);
    let before = unlimited(client).await;

    world.redis_server(|redis| redis.stop());
    assert_eq!(passed(client, 60, request).await, 60);
    let answer = client.send(request()).await;
    assert_eq!(number(&answer, "x-ratelimit-remaining"), 30, "the headers are still sent");
    assert!(unlimited(client).await >= before + 60);

    world.redis_server(|redis| redis.start_again());
    eventually("limits to be back", async || (client.send(request()).await.status == 429).then_some(())).await;
}
