//! How orchestrations end: by themselves, by a phase that fails, by request, and with their project or its owner.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use crate::orchestration::{api, cancel, followed, sql, stage, statuses, worker};
use harness::{Fault, LlmPeer, World, assert_whole, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use shared::models::{Job, JobStatus, Project};
use std::collections::BTreeSet;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestration_is_cancelled_in_whatever_state_it_is() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (api, member) = api(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let colleague = world.colleague(&api, &member, "member").await;
    let start = async || member.orchestrate(json!({ "project_id": project })).await.0;

    let waiting = start().await;
    assert_eq!(cancel(&colleague, waiting).await.error(403), "INSUFFICIENT_PERMISSIONS");
    let answer = cancel(&member, waiting).await.expect(200);
    let expected =
        json!({ "message": "Orchestration cancelled successfully", "run_id": waiting, "status": "cancelled" });
    assert_eq!(answer, expected);
    let shown = member.orchestration(waiting).await;
    assert_eq!((&shown["run"]["status"], &shown["run"]["success_rate"]), (&json!("cancelled"), &json!(0.0)));
    assert_eq!(statuses(&shown), ["cancelled"; 7]);
    assert_eq!(shown["run"]["execution_time_ms"], 0);
    assert_eq!(shown["integration_operations"], json!([]), "none will be done any more");
    assert_eq!(cancel(&member, waiting).await.error(409), "CONFLICT");

    // in the middle of the second phase, by a manager for a member
    let manager = world.colleague(&api, &member, "manager").await;
    let _worker = worker(&world, &peer).await;
    peer.fail_marked("Current phase: Phase 1:", 1, Fault::Hang);
    let running = {
        let answer = colleague.client.post("/orchestrate", json!({ "project_id": project })).await.expect(201);
        answer["run_id"].as_str().unwrap().parse().unwrap()
    };
    eventually("the second phase", async || (peer.asked_for_phase(1) == 1).then_some(())).await;
    cancel(&manager, running).await.expect(200);
    assert_eq!(world.ended(running).await.status, JobStatus::Cancelled);
    assert_whole(&world.events(running).await, JobStatus::Cancelled);
    let shown = member.orchestration(running).await;
    let found = statuses(&shown);
    assert_eq!(found[0], "completed");
    assert!(found[2..].iter().all(|status| *status == "cancelled"), "{found:?}");
    assert_eq!(shown["run"]["success_rate"], 100.0, "what was stopped has not failed");
    let days = sql(&world, "SELECT jsonb_agg(to_jsonb(d)) FROM orchestration_days d").await;
    assert_eq!((&days[0]["started"], &days[0]["cancelled"]), (&json!(2), &json!(2)));
    assert_eq!(days[0]["execution_ms"], 0, "how long those took that ended by themselves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_fails_ends_the_run_and_a_retry_goes_on_there() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    peer.fail_marked("Current phase: Phase 1:", 1, Fault::Status(401));
    let body = json!({ "project_id": project, "custom_phases": ["a", "b", "c"], "integration_enabled": true });
    let (failed, _) = member.orchestrate(body).await;
    let job = world.ended(failed).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert!(job.error_message.unwrap().starts_with("Phase 1: B failed: "));
    let shown = member.orchestration(failed).await;
    assert_eq!(statuses(&shown), ["completed", "failed", "cancelled"]);
    assert_eq!((&shown["run"]["status"], &shown["run"]["success_rate"]), (&json!("failed"), &json!(50.0)));
    assert_eq!(shown["run"]["error"]["code"], "AI_SERVICE_ERROR");
    assert_eq!(shown["phases"][1]["response_text"], Value::Null);
    assert_eq!(shown["integration_operations"].as_array().unwrap().len(), 1, "{shown}");
    let events = followed(&member, failed, "").await;
    let (name, last) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &last["status"], &last["phase"]),
        ("orchestration:failed", &json!("failed"), &json!("Phase 1"))
    );
    assert_eq!(last["error"]["code"], "AI_SERVICE_ERROR");

    let again = member.client.post(&format!("/orchestration/{failed}/retry"), json!({})).await.expect(201);
    let taken: Vec<_> = again["phases"].as_array().unwrap().iter().map(|phase| phase["status"].clone()).collect();
    assert_eq!(taken, ["completed", "pending", "pending"]);
    let again: Uuid = again["run_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.ended(again).await.status, JobStatus::Completed);
    let done = member.orchestration(again).await;
    assert_eq!(statuses(&done), ["completed"; 3]);
    assert_eq!((&done["run"]["completed_phases"], &done["run"]["retry_of"]), (&json!(3), &json!(failed)));
    assert_eq!(done["phases"][0]["response_text"], shown["phases"][0]["response_text"]);
    assert_eq!((0..3).map(|phase| peer.asked_for_phase(phase)).collect::<Vec<_>>(), [1, 2, 1]);
    assert_eq!(done["integration_operations"].as_array().unwrap().len(), 3);
    assert!(done["integration_operations"][0]["result"]["url"].is_string(), "the file of the first run: {done}");
    assert_eq!(world.count_rows("files").await, 3, "what was written is not written again");
    let conflict = member.client.post(&format!("/orchestration/{again}/retry"), json!({})).await;
    assert_eq!(conflict.error(409), "CONFLICT");
    let usage = member.client.get("/usage?limit=100").await.expect(200);
    let paid = usage["data"].as_array().unwrap().iter().filter(|row| row["status"] == "completed").count();
    assert_eq!(paid, 3);
    let day = sql(&world, "SELECT to_jsonb(d) FROM orchestration_days d").await;
    assert_eq!((&day["started"], &day["completed"], &day["failed"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(day["file_system"], 3);

    // the earlier run stays as long as the one that took its steps over
    let before = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    world.discard_deliveries().await;
    assert_eq!(Job::prune(&mut *world.conn().await, before, 10).await.unwrap(), 1);
    assert_eq!(world.count_rows(&format!("orchestrations WHERE id = '{failed}'")).await, 1);
    assert_eq!(Job::prune(&mut *world.conn().await, before, 10).await.unwrap(), 1);
    assert_eq!(world.count_rows("orchestrations").await, 0);
    assert_eq!(world.count_rows("files").await, 3, "files are their user's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_passes_is_not_seen() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    peer.fail_next([Fault::Status(500)]);
    let (_, shown) = member.orchestrated(&world, json!({ "project_id": project, "custom_phases": ["a"] })).await;
    assert_eq!(statuses(&shown), ["completed"]);
    assert_eq!(peer.asked_for_phase(0), 2);
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_the_organization_hear_of_the_beginning_and_of_every_end() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (api, _worker, member) = stage(&world, &peer).await;
    let colleague = world.colleague(&api, &member, "member").await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let events = ["started", "completed", "failed", "cancelled"].map(|end| format!("orchestration.{end}"));
    let hook = json!({ "url": "https://hooks.example.com/", "events": events, "name": "All" });
    colleague.client.post("/webhooks", hook).await.expect(201);
    world.run_sql(&format!("UPDATE webhooks SET organization_id = '{}'", member.organization_id())).await;

    let body = json!({ "project_id": project, "custom_phases": ["a", "b"], "integration_enabled": false });
    let (good, _) = member.orchestrated(&world, body.clone()).await;
    peer.fail_marked("Current phase: Phase 1:", 1, Fault::Status(401));
    let (bad, _) = member.orchestrate(body.clone()).await;
    world.ended(bad).await;
    peer.hold();
    let (stopped, _) = member.orchestrate(body).await;
    cancel(&member, stopped).await.expect(200);
    world.ended(stopped).await;
    peer.release();

    let told = sql(&world, "SELECT jsonb_agg(body::jsonb ORDER BY number) FROM webhook_deliveries").await;
    let told: Vec<_> =
        told.as_array().unwrap().iter().map(|body| (body["event"].as_str().unwrap(), &body["data"])).collect();
    let names: Vec<_> = told.iter().map(|(event, data)| (*event, data["run_id"].clone())).collect();
    assert_eq!(
        names,
        [
            ("orchestration.started", json!(good)),
            ("orchestration.completed", json!(good)),
            ("orchestration.started", json!(bad)),
            ("orchestration.failed", json!(bad)),
            ("orchestration.started", json!(stopped)),
            ("orchestration.cancelled", json!(stopped)),
        ]
    );
    let of = |place: usize, keys: [&str; 4]| keys.map(|key| told[place].1[key].clone());
    let keys = ["status", "total_phases", "completed_phases", "success_rate"];
    assert_eq!(of(0, keys), [json!("started"), json!(2), json!(0), json!(0.0)]);
    assert_eq!(of(1, keys), [json!("completed"), json!(2), json!(2), json!(100.0)]);
    assert_eq!(of(3, keys), [json!("failed"), json!(2), json!(1), json!(50.0)]);
    assert_eq!(of(5, keys)[0], "cancelled");
    for (event, data) in &told {
        assert_eq!((&data["project_id"], &data["topic"]), (&json!(project), &json!("Lamps")), "{event}");
        assert_eq!(data["user_id"], json!(member.id()));
        assert!(data["execution_time_ms"].is_i64() && data["timestamp"].as_str().unwrap().ends_with('Z'), "{data}");
        assert_eq!(data.get("error").is_some(), *event == "orchestration.failed");
    }
    assert_eq!(told[3].1["error"]["phase"], "Phase 1");

    let letters = world.take_letters().await;
    let said: BTreeSet<_> = letters
        .iter()
        .map(|letter| (letter["what"].as_str().unwrap(), letter["completed"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        said,
        BTreeSet::from([("Orchestration \"Lamps\"", false), ("Orchestration \"Lamps\"", true)]),
        "{letters:?}"
    );
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_takes_its_orchestrations_along() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (api, _worker, member) = stage(&world, &peer).await;
    let (project, other) =
        (world.project(&member, "Lamps", json!({})).await, world.project(&member, "Chairs", json!({})).await);
    let template = world.template(&member, json!({ "phases": ["a"], "integrations": ["git"] })).await;
    let hook = json!({ "url": "https://hooks.example.com/", "events": ["orchestration.cancelled"], "name": "Ends" });
    member.client.post("/webhooks", hook).await.expect(201);
    let body = json!({ "project_id": project, "template_id": template });
    member.orchestrated(&world, body.clone()).await;
    let (kept, _) = member.orchestrated(&world, json!({ "project_id": other, "template_id": template })).await;
    peer.hold();
    let (running, _) = member.orchestrate(body).await;
    eventually("a phase to be asked for", async || (peer.open() == 1).then_some(())).await;

    let foreign = world.member(&api).await;
    let mut conn = world.conn().await;
    assert!(Project::delete(&mut conn, project, foreign.organization_id()).await.unwrap().is_none());
    let stopped = Project::delete(&mut conn, project, member.organization_id()).await.unwrap().unwrap();
    assert!(Project::delete(&mut conn, project, member.organization_id()).await.unwrap().is_none());
    drop(conn);
    assert_eq!(stopped.running, [running]);
    assert_eq!(stopped.ended.len(), 1);
    peer.release();
    assert_eq!(world.count_rows(&format!("orchestrations WHERE project_id = '{project}'")).await, 0);
    assert_eq!(world.count_rows("jobs WHERE kind = 'orchestration'").await, 1);
    assert_eq!(world.count_rows("project_repositories").await, 1);
    assert_eq!(world.count_rows("files").await, 1);
    let noted = sql(&world, "SELECT jsonb_agg(key ORDER BY key) FROM object_deletions").await;
    let noted: Vec<_> = noted.as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(noted.len(), 2, "{noted:?}");
    assert!(
        noted[0].starts_with("orchestrations/") && noted[1].starts_with(&format!("projects/{project}/repository/"))
    );
    let told = sql(&world, "SELECT body::jsonb -> 'data' ->> 'run_id' FROM webhook_deliveries").await;
    assert_eq!(told, json!(running), "whoever listens hears of the end");
    member.orchestration(kept).await;
    let day =
        sql(&world, &format!("SELECT to_jsonb(d) FROM orchestration_days d WHERE project_id = '{project}'")).await;
    assert_eq!((&day["completed"], &day["cancelled"], &day["git_operations"]), (&json!(1), &json!(1), &json!(1)));
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_goes_leaves_projects_templates_and_runs_to_the_organization() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (api, _worker, admin) = stage(&world, &peer).await;
    let user = world.colleague(&api, &admin, "member").await;
    let project = world.project(&admin, "Lamps", json!({})).await;
    let template = world.template(&admin, json!({ "phases": ["a"], "integrations": ["git"] })).await;
    let mine = format!(
        "UPDATE projects SET created_by = '{0}'; UPDATE templates SET created_by = '{0}' WHERE NOT is_public",
        user.id()
    );
    world.run_sql(&mine).await;
    let (run, _) = user.orchestrated(&world, json!({ "project_id": project, "template_id": template })).await;
    let own = world.project(&user, "Own", json!({})).await;
    world
        .run_sql(&format!("UPDATE projects SET organization_id = '{}' WHERE id = '{own}'", user.organization_id()))
        .await;
    peer.hold();
    let (open, _) = user.orchestrate(json!({ "project_id": project })).await;

    let gone = user.client.request(Method::DELETE, "/api/v1/users/me").json(&json!({ "password": user.password }));
    user.client.send(gone).await.expect(204);
    peer.release();
    assert_eq!(world.ended(open).await.status, JobStatus::Cancelled);
    let shown = admin.orchestration(run).await;
    assert_eq!(statuses(&shown), ["completed"]);
    let file = &shown["integration_operations"][0]["result"];
    assert_eq!((&file["success"], &file["url"]), (&json!(true), &Value::Null), "the file was the user's");
    let heir = json!(admin.id());
    for owner in [
        format!("SELECT created_by FROM projects WHERE id = '{project}'"),
        format!("SELECT created_by FROM templates WHERE id = '{template}'"),
        format!("SELECT user_id FROM orchestrations WHERE id = '{run}'"),
        format!("SELECT user_id FROM jobs WHERE id = '{run}'"),
    ] {
        assert_eq!(sql(&world, &owner).await, heir, "{owner}");
    }
    assert_eq!(world.count_rows(&format!("projects WHERE id = '{own}'")).await, 0);
    assert_eq!(world.count_rows("files").await, 0);
    let noted = sql(&world, "SELECT jsonb_agg(key) FROM object_deletions WHERE key LIKE 'orchestrations/%'").await;
    assert_eq!(noted.as_array().unwrap().len(), 1);
    admin.client.get(&format!("/projects/{project}/repository")).await.expect(200);
    world.discard_deliveries().await;
}
