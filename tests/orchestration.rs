//! Orchestrations: what is accepted, what is asked, and what is shown.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::{QueryableByName, sql_types::Jsonb};
use diesel_async::RunQueryDsl;
use harness::{Answer, Api, LlmPeer, Member, Running, World};
use reqwest::Method;
use serde_json::{Value, json};
use shared::models::JobStatus;
use std::collections::BTreeSet;
use uuid::Uuid;

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Jsonb)]
    found: Value,
}

/// One value of SQL as JSON.
pub(crate) async fn sql(world: &World, expression: &str) -> Value {
    let query = format!("SELECT to_jsonb(({expression})) AS found");
    diesel::sql_query(query).get_result::<Found>(&mut world.conn().await).await.unwrap().found
}

/// An API and a worker over a peer's models, and somebody who uses them.
pub(crate) async fn stage(world: &World, peer: &LlmPeer) -> (Api, Running, Member) {
    let (api, member) = api(world, peer).await;
    (api, worker(world, peer).await, member)
}

pub(crate) async fn api(world: &World, peer: &LlmPeer) -> (Api, Member) {
    let api = world.api_with(&[("ATELIER_LLM_FILE", &world.llm_file(peer))]).await;
    let member = world.member(&api).await;
    (api, member)
}

pub(crate) async fn worker(world: &World, peer: &LlmPeer) -> Running {
    world.worker_with(&["pipelines"], &[("ATELIER_LLM_FILE", &world.llm_file(peer))]).await
}

fn fields(answer: &Answer) -> BTreeSet<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

pub(crate) async fn cancel(member: &Member, id: Uuid) -> Answer {
    member.client.post(&format!("/orchestration/{id}/cancel"), json!({})).await
}

pub(crate) fn statuses(shown: &Value) -> Vec<&str> {
    shown["phases"].as_array().unwrap().iter().map(|phase| phase["status"].as_str().unwrap()).collect()
}

/// The events of an orchestration that has ended, as names and data.
pub(crate) async fn followed(member: &Member, id: Uuid, query: &str) -> Vec<(String, Value)> {
    let request = member.client.request(Method::GET, &format!("/api/v1/orchestration/{id}/events{query}"));
    let text = request.send().await.unwrap().text().await.unwrap();
    let blocks = text.split("\n\n").filter(|block| block.starts_with("event: "));
    let read = |block: &str| {
        let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        (line("event: "), serde_json::from_str(&line("data: ")).unwrap())
    };
    blocks.map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_phase_sees_what_the_earlier_ones_answered() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Not asked for", json!({})).await;
    let body = json!({
        "project_id": project, "topic": "Lamps {{ 7 * 7 }} {% raw", "integration_enabled": false,
        "custom_phases": ["plan", "build {{ it }}", "quality_check"],
        "settings": { "ai_model": "peer-model", "max_tokens": 50, "temperature": 0.25 },
    });
    let (id, started) = member.orchestrate(body).await;
    assert_eq!(started["status"], "started");
    assert_eq!(started["message"], "Orchestration started successfully");
    assert!(started["estimated_completion"].as_str().unwrap().ends_with('Z'));
    let first = json!({ "code": "Phase 0", "name": "Plan", "status": "pending", "estimated_duration": "5 minutes" });
    assert_eq!(started["phases"][0], first);
    assert_eq!(started["phases"][1]["name"], "Build {{ It }}");
    assert_eq!(started["phases"][2]["name"], "Quality Check");

    world.wait_for_status(id, JobStatus::Completed).await;
    let shown = member.orchestration(id).await;
    let run = &shown["run"];
    assert_eq!((&run["id"], &run["project_id"]), (&json!(id), &json!(project)));
    assert_eq!((&run["status"], &run["topic"]), (&json!("completed"), &json!("Lamps {{ 7 * 7 }} {% raw")));
    assert_eq!((&run["total_phases"], &run["completed_phases"]), (&json!(3), &json!(3)));
    assert_eq!((&run["success_rate"], &run["integration_enabled"]), (&json!(100.0), &json!(false)));
    assert!(run["execution_time_ms"].as_i64().unwrap() >= 0);
    assert_eq!(shown["integration_operations"], json!([]));

    let calls = peer.calls();
    assert_eq!(calls.len(), 3, "a call a phase");
    for (phase, call) in calls.iter().enumerate() {
        assert!(call.prompt.contains("Topic: Lamps {{ 7 * 7 }} {% raw\n"), "{}", call.prompt);
        assert!(call.prompt.contains("Project: Lamps\nDescription: Light for all\n"), "{}", call.prompt);
        assert!(call.prompt.contains("Phases: Plan, Build {{ It }}, Quality Check"), "{}", call.prompt);
        assert_eq!(call.body["model"], "peer-model");
        assert_eq!((&call.body["max_tokens"], &call.body["temperature"]), (&json!(50), &json!(0.25)));
        let shown = &shown["phases"][phase];
        let text = shown["response_text"].as_str().unwrap();
        assert!(text.starts_with("answer to: Project: Lamps"), "{text}");
        assert_eq!((&shown["phase_code"], &shown["status"]), (&json!(format!("Phase {phase}")), &json!("completed")));
        let usage = &shown["token_usage"];
        assert!(usage["prompt_tokens"].as_i64().unwrap() > 0, "{usage}");
        assert_eq!(
            usage["total_tokens"].as_i64().unwrap(),
            usage["prompt_tokens"].as_i64().unwrap() + usage["completion_tokens"].as_i64().unwrap()
        );
        assert!(!shown["started_at"].is_null() && !shown["completed_at"].is_null());
        for later in &calls[phase + 1..] {
            assert!(later.prompt.contains(&text[..150]), "phase {phase} is seen later");
        }
    }

    let usage = member.client.get("/usage").await.expect(200);
    let rows = usage["data"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["endpoint"] == "/orchestrate" && row["status"] == "completed"), "{usage}");
    let used: i64 = rows.iter().map(|row| row["total_tokens"].as_i64().unwrap()).sum();
    assert_eq!(run["tokens_used"], used);
    let quota = &member.client.get("/users/me").await.expect(200)["quota"];
    assert_eq!(quota["daily"]["used"], 1, "a request is one, however many phases it has");
    let day = sql(&world, "SELECT jsonb_agg(to_jsonb(d)) FROM orchestration_days d").await;
    assert_eq!((&day[0]["started"], &day[0]["completed"], &day[0]["failed"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(day[0]["project_id"], json!(project));
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_request_leaves_open_comes_from_template_project_and_organization() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, member) = api(&world, &peer).await;
    let project = world.project(&member, "Of the project", json!({})).await;
    let data = json!({
        "phases": ["think", "act"], "integrations": ["Git", "docker"],
        "settings": { "ai_model": "peer-claude", "max_tokens": 700, "temperature": 0.1, "integration_enabled": false },
    });
    let template = world.template(&member, data).await;
    let row =
        async |id: Uuid| sql(&world, &format!("SELECT to_jsonb(o) FROM orchestrations o WHERE id = '{id}'")).await;

    let (plain, answer) = member.orchestrate(json!({ "project_id": project })).await;
    let names: Vec<_> = answer["phases"].as_array().unwrap().iter().map(|phase| phase["name"].clone()).collect();
    assert_eq!(names, ["Ideation", "Research", "Design", "Implementation", "Testing", "Deployment", "Review"]);
    let found = row(plain).await;
    assert_eq!((&found["topic"], &found["model"]), (&json!("Of the project"), &json!("gpt-4")));
    assert_eq!((&found["max_tokens"], &found["temperature"]), (&json!(2000), &json!(0.7)));
    assert_eq!((&found["integration_enabled"], &found["integrations"]), (&json!(true), &json!([])));

    let (templated, _) = member.orchestrate(json!({ "project_id": project, "template_id": template })).await;
    let found = row(templated).await;
    assert_eq!((&found["phases"], &found["integrations"]), (&json!(["Think", "Act"]), &json!(["git", "docker"])));
    assert_eq!((&found["model"], &found["max_tokens"]), (&json!("peer-claude"), &json!(700)));
    assert_eq!((&found["temperature"], &found["integration_enabled"]), (&json!(0.1), &json!(false)));

    let body = json!({
        "project_id": project, "template_id": template, "topic": "Mine", "integration_enabled": true,
        "custom_phases": ["only one"], "settings": { "ai_model": "peer-llama", "max_tokens": 9, "temperature": 1 },
    });
    let (own, _) = member.orchestrate(body).await;
    let found = row(own).await;
    assert_eq!((&found["topic"], &found["phases"]), (&json!("Mine"), &json!(["Only One"])));
    assert_eq!((&found["model"], &found["max_tokens"]), (&json!("peer-llama"), &json!(9)));
    assert_eq!((found["temperature"].as_f64(), &found["integration_enabled"]), (Some(1.0), &json!(true)));
    let uses = sql(&world, &format!("SELECT usage_count FROM templates WHERE id = '{template}'")).await;
    assert_eq!(uses, 2);

    let settings = json!({ "settings": { "default_ai_model": "peer-llama", "integration_enabled": false } });
    member.client.put("/organizations/current", settings).await.expect(200);
    let (changed, _) = member.orchestrate(json!({ "project_id": project })).await;
    let found = row(changed).await;
    assert_eq!((&found["model"], &found["integration_enabled"]), (&json!("peer-llama"), &json!(false)));
    for id in [plain, templated, own, changed] {
        cancel(&member, id).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_refused_with_every_reason() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (api, member) = api(&world, &peer).await;
    let (project, bare) =
        (world.project(&member, "Lamps", json!({})).await, world.project(&member, " ", json!({})).await);
    let other = world.member(&api).await;
    let (foreign, foreign_template) =
        (world.project(&other, "Lamps", json!({})).await, world.template(&other, json!({ "phases": ["a"] })).await);
    let broken = world.template(&member, json!({ "phases": ["a"], "settings": { "ai_model": "none" } })).await;

    let wrong = json!({
        "project_id": "x", "topic": 7, "integration_enabled": "yes", "custom_phases": ["", "ok", 3, "_ _"],
        "template_id": "y", "settings": { "ai_model": "none", "max_tokens": 0, "temperature": 2 },
    });
    let answer = member.client.post("/orchestrate", wrong).await;
    let expected = [
        "custom_phases[0]",
        "custom_phases[2]",
        "custom_phases[3]",
        "integration_enabled",
        "project_id",
        "settings.ai_model",
        "settings.max_tokens",
        "settings.temperature",
        "template_id",
        "topic",
    ];
    assert_eq!(fields(&answer), BTreeSet::from(expected), "{}", answer.text);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");

    let with = |key: &str, value: Value| {
        let mut body = json!({ "project_id": project });
        body[key] = value;
        body
    };
    for (body, field) in [
        (json!({}), "project_id"),
        (json!({ "project_id": bare }), "topic"),
        (json!({ "project_id": bare, "topic": "  " }), "topic"),
        (with("topic", json!("x".repeat(2001))), "topic"),
        (with("custom_phases", json!([])), "custom_phases"),
        (with("custom_phases", json!(vec!["a"; 21])), "custom_phases"),
        (with("custom_phases", json!(["x".repeat(101)])), "custom_phases[0]"),
        (with("custom_phases", json!("ideation")), "custom_phases"),
        (with("settings", json!([])), "settings"),
        (with("settings", json!({ "max_tokens": 32_001 })), "settings.max_tokens"),
        (with("settings", json!({ "max_tokens": 1.5 })), "settings.max_tokens"),
        (with("settings", json!({ "temperature": -0.1 })), "settings.temperature"),
        (with("template_id", json!(broken)), "settings.ai_model"),
    ] {
        let answer = member.client.post("/orchestrate", body.clone()).await;
        assert_eq!(fields(&answer), BTreeSet::from([field]), "{body}: {}", answer.text);
        answer.error(400);
    }
    for body in [
        json!({ "project_id": Uuid::now_v7() }),
        json!({ "project_id": foreign }),
        with("template_id", json!(Uuid::now_v7())),
        with("template_id", json!(foreign_template)),
    ] {
        assert_eq!(member.client.post("/orchestrate", body).await.error(404), "RESOURCE_NOT_FOUND");
    }
    let viewer = world.colleague(&api, &member, "viewer").await;
    assert_eq!(
        viewer.client.post("/orchestrate", with("topic", json!("x"))).await.error(403),
        "INSUFFICIENT_PERMISSIONS"
    );
    assert_eq!(world.count_rows("orchestrations").await, 0);
    assert_eq!(world.count_rows("jobs").await, 0);
    let quota = &member.client.get("/users/me").await.expect(200)["quota"];
    assert_eq!(quota["daily"]["used"], 0, "what is refused does not count");

    // the largest that is taken
    let body = json!({
        "project_id": project, "topic": "x".repeat(2000), "custom_phases": vec!["y".repeat(100); 20],
        "settings": { "max_tokens": 32_000, "temperature": 0 },
    });
    let (id, answer) = member.orchestrate(body).await;
    assert_eq!(answer["phases"].as_array().unwrap().len(), 20);
    cancel(&member, id).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_starts_one_orchestration() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, member) = api(&world, &peer).await;
    let body = json!({ "project_id": world.project(&member, "Lamps", json!({})).await });
    let send = async || {
        let request = member.client.request(Method::POST, "/api/v1/orchestrate").header("Idempotency-Key", "once");
        member.client.send(request.json(&body)).await
    };
    let (first, second) = (send().await, send().await);
    assert_eq!(second.headers["idempotent-replayed"], "true");
    let first = first.expect(201);
    assert_eq!(second.expect(201), first);
    assert_eq!(world.count_rows("orchestrations").await, 1);
    cancel(&member, first["run_id"].as_str().unwrap().parse().unwrap()).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_searched_and_sorted() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (api, member) = api(&world, &peer).await;
    let (one, two) =
        (world.project(&member, "Lamps", json!({})).await, world.project(&member, "Chairs", json!({})).await);
    let mut ids = Vec::new();
    for (project, topic) in [(one, "Red lamps"), (one, "Blue lamps"), (two, "Red chairs")] {
        ids.push(member.orchestrate(json!({ "project_id": project, "topic": topic })).await.0);
    }
    cancel(&member, ids[1]).await.expect(200);
    world
        .run_sql(&format!(
            "UPDATE orchestrations SET completed_phases = 3, failed_phases = 1 WHERE id = '{}'; \
             UPDATE orchestrations SET completed_phases = 7 WHERE id = '{}'; \
             UPDATE jobs SET started_at = now() - interval '9 seconds', finished_at = now() WHERE id = '{}'",
            ids[0], ids[2], ids[1]
        ))
        .await;
    let list = async |query: &str| {
        let page = member.client.get(&format!("/orchestration{query}")).await.expect(200);
        let found = page["data"].as_array().unwrap().iter().map(|run| run["topic"].as_str().unwrap().to_owned());
        found.collect::<Vec<_>>()
    };
    assert_eq!(list("").await, ["Red chairs", "Blue lamps", "Red lamps"]);
    assert_eq!(list(&format!("?project_id={one}")).await, ["Blue lamps", "Red lamps"]);
    assert_eq!(list("?status=cancelled").await, ["Blue lamps"]);
    assert_eq!(list("?status=started,running&search=red").await, ["Red chairs", "Red lamps"]);
    assert_eq!(list("?sort=-success_rate").await, ["Red chairs", "Red lamps", "Blue lamps"]);
    assert_eq!(list("?sort=-execution_time_ms&limit=1").await, ["Blue lamps"]);
    let page = member.client.get("/orchestration?sort=success_rate&limit=2").await.expect(200);
    assert_eq!((&page["pagination"]["total"], &page["pagination"]["has_next"]), (&json!(3), &json!(true)));
    let cursor = page["pagination"]["next_cursor"].as_str().unwrap();
    assert_eq!(list(&format!("?sort=success_rate&limit=2&cursor={cursor}")).await, ["Red chairs"]);
    let page = member.client.get("/orchestration").await.expect(200);
    assert_eq!(page["pagination"]["limit"], 50);
    let shown = &page["data"][2];
    assert_eq!(shown["project"], json!({ "id": one, "name": "Lamps" }));
    assert_eq!((&shown["success_rate"], &shown["status"]), (&json!(75.0), &json!("started")));
    for query in ["?status=queued", "?project_id=x", "?sort=topic"] {
        member.client.get(&format!("/orchestration{query}")).await.error(400);
    }
    let other = world.member(&api).await;
    assert_eq!(other.client.get("/orchestration").await.expect(200)["data"], json!([]));
    for id in [ids[0], ids[2]] {
        cancel(&member, id).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_sees_every_event_once_and_in_order() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let (id, _) = member.orchestrate(json!({ "project_id": project, "custom_phases": ["a", "b"] })).await;
    // live until the end
    let events = followed(&member, id, "").await;
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], *names.last().unwrap()), ("orchestration:started", "orchestration:completed"));
    let seqs: Vec<_> = events.iter().map(|(_, data)| data["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=i64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
    let progress: Vec<_> = events.iter().map(|(_, data)| data["progress"].as_f64().unwrap()).collect();
    assert!(progress.is_sorted() && progress.last() == Some(&1.0), "{progress:?}");
    for (name, data) in &events {
        for key in ["id", "project_id", "phase", "status", "progress", "message", "timestamp"] {
            assert!(data.get(key).is_some(), "{name} lacks {key}: {data}");
        }
        assert_eq!((&data["id"], &data["project_id"]), (&json!(id), &json!(project)));
    }
    let of = |phase: &str, status: &str| {
        events.iter().any(|(_, data)| data["phase"] == phase && data["status"] == status && data["operation"].is_null())
    };
    assert!(of("Phase 0", "running") && of("Phase 0", "completed") && of("Phase 1", "completed"), "{events:?}");
    assert!(events.iter().any(|(_, data)| data["operation"] == "file_system" && data["status"] == "completed"));
    let rest = followed(&member, id, &format!("?last_event_id={}", seqs.len() - 1)).await;
    assert_eq!(rest.len(), 1);
    let path = format!("/orchestration/{id}/events?last_event_id={}", seqs.len());
    assert_eq!(member.client.get(&path).await.status, 204);
    member.client.get(&format!("/orchestration/{id}/events?last_event_id=x")).await.error(400);
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_estimates_are_what_phases_took_lately() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    for _ in 0..3 {
        member.orchestrated(&world, json!({ "project_id": project, "custom_phases": ["plan", "build"] })).await;
    }
    world
        .run_sql(
            "UPDATE job_steps SET duration_ms = 12000 WHERE name = 'phase_0'; \
             UPDATE job_steps SET duration_ms = 120000 WHERE name = 'phase_1'",
        )
        .await;
    peer.hold();
    let phases = json!({ "project_id": project, "custom_phases": ["build", "plan", "new"] });
    let (id, answer) = member.orchestrate(phases).await;
    let told: Vec<_> =
        answer["phases"].as_array().unwrap().iter().map(|phase| phase["estimated_duration"].clone()).collect();
    assert_eq!(told, ["2 minutes", "12 seconds", "1 minute"], "a new phase takes as long as the middle of all");
    let created = sql(&world, &format!("SELECT created_at FROM orchestrations WHERE id = '{id}'")).await;
    let time = |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap();
    let left = time(&answer["estimated_completion"]) - time(&created);
    assert_eq!(left.num_seconds(), 12 + 120 + 66);
    cancel(&member, id).await.expect(200);
    world.ended(id).await;
    peer.release();
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_shown_whole() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    world.run_sql("UPDATE projects SET description = repeat(repeat('x', 60) || ' ', 1500)").await;
    let (id, shown) = member.orchestrated(&world, json!({ "project_id": project, "custom_phases": ["a", "b"] })).await;
    for phase in shown["phases"].as_array().unwrap() {
        let text = phase["response_text"].as_str().unwrap();
        assert!(text.len() > 90_000 && text.ends_with("Write the result of this phase."), "{}", text.len());
    }
    let kept = format!("SELECT result ->> 'object' FROM job_steps WHERE job_id = '{id}' AND name = 'phase_0'");
    let kept = sql(&world, &kept).await;
    assert!(kept.as_str().unwrap().starts_with("executions/"), "it is in the object store");
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_orchestration_is_not_there() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (api, member) = api(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let (id, _) = member.orchestrate(json!({ "project_id": project })).await;
    let other = world.member(&api).await;
    for id in [id.to_string(), Uuid::now_v7().to_string(), "x".to_owned()] {
        for path in ["", "/events"] {
            let answer = other.client.get(&format!("/orchestration/{id}{path}")).await;
            assert_eq!(answer.error(404), "RESOURCE_NOT_FOUND");
        }
        for path in ["cancel", "retry"] {
            let answer = other.client.post(&format!("/orchestration/{id}/{path}"), json!({})).await;
            assert_eq!(answer.error(404), "RESOURCE_NOT_FOUND");
        }
    }
    let viewer = world.colleague(&api, &member, "viewer").await;
    viewer.orchestration(id).await;
    assert_eq!(cancel(&viewer, id).await.error(403), "INSUFFICIENT_PERMISSIONS");
    cancel(&member, id).await.expect(200);
}
