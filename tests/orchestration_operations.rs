//! What orchestrations do outside of models: files, commits that the real git reads, and deploy hooks.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use crate::orchestration::{sql, stage};
use futures_util::future::join_all;
use harness::{Fault, LlmPeer, Member, Receiver, Reply, Running, World};
use serde_json::{Value, json};
use shared::{
    config::{ObjectStore, Reader},
    models::JobStatus,
    storage::Storage,
};
use standardwebhooks::Webhook;
use std::{collections::BTreeSet, path::Path, process::Command};
use uuid::Uuid;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What an address gives.
async fn download(url: &Value) -> Vec<u8> {
    let answer = reqwest::get(url.as_str().unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap().to_vec()
}

fn storage(world: &World) -> Storage {
    Storage::new(&ObjectStore::read(&mut Reader::new(world.settings(&[]))))
}

/// Kind and status of each operation.
fn operations(shown: &Value) -> Vec<(&str, &str)> {
    let operations = shown["integration_operations"].as_array().unwrap().iter();
    operations.map(|one| (one["operation_type"].as_str().unwrap(), one["status"].as_str().unwrap())).collect()
}

fn last(shown: &Value) -> &Value {
    shown["integration_operations"].as_array().unwrap().last().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "PATH is passed on, not read")]
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The repository of a project, cloned by the real git.
async fn clone(member: &Member, project: Uuid) -> (Value, tempfile::TempDir) {
    let shown = member.client.get(&format!("/projects/{project}/repository")).await.expect(200);
    let folder = tempfile::tempdir().unwrap();
    let bundle = download(&shown["url"]).await;
    assert_eq!(shown["size"].as_u64().unwrap(), bundle.len() as u64);
    std::fs::write(folder.path().join("x.bundle"), bundle).unwrap();
    git(folder.path(), &["clone", "--quiet", "x.bundle", "clone"]);
    git(&folder.path().join("clone"), &["bundle", "verify", "--quiet", "../x.bundle"]);
    (shown, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_completed_phase_leaves_a_file_of_its_user() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let phases = json!({ "project_id": project, "custom_phases": ["market research", "übersicht"] });
    let (id, shown) = member.orchestrated(&world, phases).await;
    assert_eq!(operations(&shown), [("file_system", "completed"); 2]);
    for (place, name) in [(0, "00-market-research.md"), (1, "01-übersicht.md")] {
        let operation = &shown["integration_operations"][place];
        assert_eq!(operation["phase_code"], format!("Phase {place}"));
        assert!(operation["execution_time_ms"].as_i64().unwrap() >= 0);
        let result = &operation["result"];
        assert_eq!((&result["success"], &result["filename"]), (&json!(true), &json!(name)));
        assert!(result["message"].as_str().unwrap().contains(name));
        let text = shown["phases"][place]["response_text"].as_str().unwrap();
        assert_eq!(String::from_utf8(download(&result["url"]).await).unwrap(), text);
        let file = result["file_id"].as_str().unwrap();
        let row = sql(&world, &format!("SELECT to_jsonb(f) FROM files f WHERE id = '{file}'")).await;
        assert_eq!((&row["user_id"], &row["orchestration_id"]), (&json!(member.id()), &json!(id)));
        assert_eq!((&row["filename"], &row["size"]), (&json!(name), &json!(text.len())));
        assert_eq!(row["mime_type"], "text/markdown");
    }
    let day = sql(&world, "SELECT to_jsonb(d) FROM orchestration_days d").await;
    assert_eq!((&day["file_system"], &day["git_operations"], &day["deployment"]), (&json!(2), &json!(0), &json!(0)));
    assert_eq!(
        member.client.get(&format!("/projects/{project}/repository")).await.error(404),
        "RESOURCE_NOT_FOUND",
        "nothing was committed"
    );
    // a file that its user has deleted is not linked any more
    world.run_sql("DELETE FROM files WHERE filename LIKE '00%'").await;
    let shown = member.orchestration(id).await;
    assert_eq!(shown["integration_operations"][0]["result"]["url"], Value::Null);
    assert!(shown["integration_operations"][1]["result"]["url"].is_string());

    let off = json!({ "project_id": project, "custom_phases": ["a"], "integration_enabled": false });
    let (_, shown) = member.orchestrated(&world, off).await;
    assert_eq!(shown["integration_operations"], json!([]));
    drop(api);
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_has_a_repository_that_git_clones() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let data = json!({ "phases": ["ideation", "review"], "integrations": ["git", "github"] });
    let template = world.template(&member, data).await;
    let body = json!({ "project_id": project, "template_id": template });
    let (first, shown) = member.orchestrated(&world, body.clone()).await;
    let both = [("file_system", "completed"), ("git_operations", "completed")];
    assert_eq!(operations(&shown), [both, both].concat());

    let (repository, folder) = clone(&member, project).await;
    assert_eq!((&repository["branch"], &repository["commits"]), (&json!("main"), &json!(2)));
    let work = folder.path().join("clone");
    assert_eq!(git(&work, &["rev-parse", "HEAD"]).trim(), repository["head"].as_str().unwrap());
    assert_eq!(git(&work, &["branch", "--show-current"]).trim(), "main");
    let log = git(
        &work,
        &[
            "log",
            "--reverse",
            "--format=%an <%ae>|%s|%(trailers:key=Run,valueonly,separator=)|%(trailers:key=Phase,valueonly,separator=)",
        ],
    );
    let expected = format!(
        "Atelier <noreply@atelier.example>|Phase 0: Ideation|{first}|0\n\
         Atelier <noreply@atelier.example>|Phase 1: Review|{first}|1\n"
    );
    assert_eq!(log, expected);
    for (phase, file) in ["00-ideation.md", "01-review.md"].iter().enumerate() {
        let text = std::fs::read_to_string(work.join(file)).unwrap();
        assert_eq!(text, shown["phases"][phase]["response_text"].as_str().unwrap(), "{file}");
    }
    let commit = &shown["integration_operations"][3]["result"];
    assert_eq!((&commit["success"], &commit["commit"]), (&json!(true), &repository["head"]));
    git(&work, &["fsck", "--strict"]);

    // the second run adds to it, and the object before is of no use any more
    let (second, _) = member.orchestrated(&world, body).await;
    let (repository, folder) = clone(&member, project).await;
    assert_eq!(repository["commits"], 4);
    let runs = git(&folder.path().join("clone"), &["log", "--format=%(trailers:key=Run,valueonly,separator=)"]);
    assert_eq!(runs.lines().collect::<BTreeSet<_>>(), BTreeSet::from([&*first.to_string(), &*second.to_string()]));
    let key = sql(&world, "SELECT s3_key FROM project_repositories").await;
    let gone = sql(&world, "SELECT jsonb_agg(key) FROM object_deletions").await;
    assert_eq!(gone.as_array().unwrap().len(), 3);
    assert!(!gone.as_array().unwrap().contains(&key));
    let day = sql(&world, "SELECT to_jsonb(d) FROM orchestration_days d").await;
    assert_eq!((&day["file_system"], &day["git_operations"]), (&json!(4), &json!(4)));

    let other = world.member(&api).await;
    let path = format!("/projects/{project}/repository");
    assert_eq!(other.client.get(&path).await.error(404), "RESOURCE_NOT_FOUND");
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_commit_at_the_same_time_lose_no_commit() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let template = world.template(&member, json!({ "phases": ["a", "b", "c"], "integrations": ["git"] })).await;
    let body = json!({ "project_id": project, "template_id": template });
    let runs = join_all((0..4).map(|_| member.orchestrated(&world, body.clone()))).await;
    for (_, shown) in &runs {
        assert!(operations(shown).iter().all(|(_, status)| *status == "completed"), "{shown}");
    }
    let (repository, folder) = clone(&member, project).await;
    assert_eq!(repository["commits"], 12);
    let format = "--format=%(trailers:key=Run,valueonly,separator=) %(trailers:key=Phase,valueonly,separator=)";
    let log = git(&folder.path().join("clone"), &["log", "--reverse", format]);
    for (id, _) in &runs {
        let of_run: Vec<_> = log.lines().filter(|line| line.starts_with(&id.to_string())).collect();
        assert_eq!(of_run, [0, 1, 2].map(|phase| format!("{id} {phase}")), "the commits of a run are in order");
    }
    // every object but the one that counts is left to the scheduler
    let (kept, gone) =
        (sql(&world, "SELECT s3_key FROM project_repositories").await, "SELECT jsonb_agg(key) FROM object_deletions");
    let gone = sql(&world, gone).await;
    assert!(gone.as_array().unwrap().len() >= 11 && !gone.as_array().unwrap().contains(&kept));
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_fails_is_recorded_and_the_run_goes_on() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let template = world.template(&member, json!({ "phases": ["a", "b"], "integrations": ["git", "docker"] })).await;
    let key = format!("projects/{project}/repository/broken.bundle");
    storage(&world).put(&key, "no bundle at all\n\n".into(), "text/plain").await.unwrap();
    let broken = format!(
        "INSERT INTO project_repositories (project_id, head, s3_key, size, commits) VALUES ('{project}', 'x', '{key}', 1, 1)"
    );
    world.run_sql(&broken).await;
    let (id, shown) = member.orchestrated(&world, json!({ "project_id": project, "template_id": template })).await;
    let expected = [
        ("file_system", "completed"),
        ("git_operations", "failed"),
        ("file_system", "completed"),
        ("git_operations", "failed"),
        ("deployment", "failed"),
    ];
    assert_eq!(operations(&shown), expected);
    assert_eq!((&shown["run"]["status"], &shown["run"]["success_rate"]), (&json!("completed"), &json!(100.0)));
    let result = &shown["integration_operations"][1]["result"];
    assert_eq!(result["success"], false);
    let message = result["message"].as_str().unwrap();
    assert!(message.starts_with("INTEGRATION_ERROR: ") && message.contains("no bundle of version 2"), "{message}");
    let message = last(&shown)["result"]["message"].as_str().unwrap();
    assert!(message.starts_with("INTEGRATION_ERROR: There is no deploy hook"), "{message}");
    let day = sql(&world, "SELECT to_jsonb(d) FROM orchestration_days d").await;
    assert_eq!((&day["file_system"], &day["git_operations"], &day["deployment"]), (&json!(2), &json!(0), &json!(0)));
    let logged = world.events(id).await.len();
    assert!(logged > 5);
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_tries_the_operations_again_that_failed() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let template = world.template(&member, json!({ "phases": ["a", "b"], "integrations": ["git"] })).await;
    let lost = format!(
        "INSERT INTO project_repositories (project_id, head, s3_key, size, commits) VALUES ('{project}', 'x', 'gone', 1, 1)"
    );
    world.run_sql(&lost).await;
    peer.fail_marked("Current phase: Phase 1:", 1, Fault::Status(401));
    let (failed, _) = member.orchestrate(json!({ "project_id": project, "template_id": template })).await;
    assert_eq!(world.ended(failed).await.status, JobStatus::Failed);
    let shown = member.orchestration(failed).await;
    assert_eq!(operations(&shown), [("file_system", "completed"), ("git_operations", "failed")]);

    world.run_sql("DELETE FROM project_repositories").await;
    let again = member.client.post(&format!("/orchestration/{failed}/retry"), json!({})).await.expect(201);
    let again: Uuid = again["run_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.ended(again).await.status, JobStatus::Completed);
    let shown = member.orchestration(again).await;
    let both = [("file_system", "completed"), ("git_operations", "completed")];
    assert_eq!(operations(&shown), [both, both].concat());
    assert_eq!((peer.asked_for_phase(0), peer.asked_for_phase(1)), (1, 2));
    let (repository, _folder) = clone(&member, project).await;
    assert_eq!(repository["commits"], 2);
    world.discard_deliveries().await;
}

/// Somebody with a template that deploys, and a worker that may reach this host.
async fn deploying(world: &World, peer: &LlmPeer, reach: &[(&str, &str)]) -> (harness::Api, Running, Member, Uuid) {
    let file = world.llm_file(peer);
    let api = world.api_with(&[("ATELIER_LLM_FILE", &file)]).await;
    let settings = [&[("ATELIER_LLM_FILE", file.as_str())][..], reach].concat();
    let worker = world.worker_with(&["pipelines"], &settings).await;
    let member = world.member(&api).await;
    let template = world.template(&member, json!({ "phases": ["a"], "integrations": ["deployment", "git"] })).await;
    (api, worker, member, template)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_hook_is_told_what_there_is_and_can_check_it() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let receiver = Receiver::start().await;
    let host = receiver.address.ip().to_string();
    let (_api, _worker, member, template) = deploying(&world, &peer, &[("ATELIER_WEBHOOK_ALLOW_LIST", &host)]).await;
    let metadata = json!({ "deploy_hook_url": receiver.url("/deploy"), "deploy_hook_secret": SECRET });
    let project = world.project(&member, "Lamps", metadata).await;
    let body = json!({ "project_id": project, "template_id": template });
    let (id, shown) = member.orchestrated(&world, body.clone()).await;
    assert_eq!(last(&shown)["operation_type"], "deployment");
    let result = &last(&shown)["result"];
    assert_eq!((&result["success"], &result["response_status"]), (&json!(true), &json!(200)));

    let received = receiver.received("/deploy");
    assert_eq!(received.len(), 1);
    assert!(Webhook::new(SECRET).unwrap().verify(&received[0].body, &received[0].headers).is_ok());
    assert_eq!(received[0].header("user-agent"), "Atelier-Webhooks/1.0");
    let told: Value = serde_json::from_slice(&received[0].body).unwrap();
    assert_eq!((&told["id"], &told["event"]), (&json!(received[0].id()), &json!("deployment.requested")));
    let data = &told["data"];
    assert_eq!((&data["run_id"], &data["project_id"]), (&json!(id), &json!(project)));
    assert_eq!((&data["topic"], &data["phases"]), (&json!("Lamps"), &json!(["A"])));
    assert_eq!(data["files"][0]["filename"], "00-a.md");
    assert_eq!(data["commit"], shown["integration_operations"][1]["result"]["commit"]);
    assert!(data["timestamp"].as_str().unwrap().ends_with('Z'));

    // one that is in trouble is asked again, under the same id
    receiver.answer_next("/deploy", [Reply::status(503)]);
    let (_, shown) = member.orchestrated(&world, body.clone()).await;
    assert_eq!(last(&shown)["status"], "completed");
    let ids: Vec<_> = receiver.received("/deploy")[1..].iter().map(|one| one.id()).collect();
    assert_eq!((ids.len(), ids[0]), (2, ids[1]));
    assert_ne!(ids[0], received[0].id());

    // one that does not want it is not asked again, and redirects are not followed
    for (reply, said) in [
        (Reply::status(400), "answered 400"),
        (Reply::status(302).with("location", &receiver.url("/else")), "redirects"),
    ] {
        receiver.answer("/deploy", reply);
        let before = receiver.received("/deploy").len();
        let (_, shown) = member.orchestrated(&world, body.clone()).await;
        assert_eq!((&last(&shown)["status"], &shown["run"]["status"]), (&json!("failed"), &json!("completed")));
        assert!(last(&shown)["result"]["message"].as_str().unwrap().contains(said), "{shown}");
        assert_eq!(receiver.received("/deploy").len(), before + 1);
    }
    assert!(receiver.received("/else").is_empty());
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_of_the_organization_is_asked_where_the_project_has_none_and_its_secret_is_never_shown() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let receiver = Receiver::start().await;
    let (_api, _worker, member, template) = deploying(&world, &peer, &[("ATELIER_WEBHOOK_ALLOW_PRIVATE", "on")]).await;
    let settings = json!({ "settings": { "deploy_hook_url": receiver.url("/all"), "deploy_hook_secret": SECRET } });
    let changed = member.client.put("/organizations/current", settings).await;
    assert!(!changed.text.contains(SECRET), "{}", changed.text);
    changed.expect(200);
    let project = world.project(&member, "Lamps", json!({ "deploy_hook_url": 7 })).await;
    let (id, shown) = member.orchestrated(&world, json!({ "project_id": project, "template_id": template })).await;
    assert_eq!(last(&shown)["status"], "completed");
    let received = receiver.received("/all");
    assert!(Webhook::new(SECRET).unwrap().verify(&received[0].body, &received[0].headers).is_ok());
    let mut seen = shown.to_string();
    for path in
        ["/organizations/current".to_owned(), "/organizations".to_owned(), format!("/orchestration/{id}/events")]
    {
        seen.push_str(&member.client.get(&path).await.text);
    }
    let audit = member.client.get("/organizations/current/audit").await;
    seen.push_str(&audit.text);
    seen.push_str(&String::from_utf8_lossy(&received[0].body));
    assert!(!seen.contains(SECRET));
    assert!(seen.contains("deploy_hook_url"), "the address is shown");

    // without a secret it is not signed
    let plain = world.project(&member, "Lamps", json!({ "deploy_hook_url": receiver.url("/plain") })).await;
    member.orchestrated(&world, json!({ "project_id": plain, "template_id": template })).await;
    assert_eq!(receiver.received("/plain")[0].header("webhook-signature"), "");
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_deploy_hook_leads_to_a_private_address_unless_that_is_allowed() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let receiver = Receiver::start().await;
    let (_api, _worker, member, template) = deploying(&world, &peer, &[]).await;
    for url in
        [receiver.url("/deploy"), format!("http://localhost:{}/deploy", receiver.address.port()), "nonsense".to_owned()]
    {
        let project = world.project(&member, "Lamps", json!({ "deploy_hook_url": url })).await;
        let (_, shown) = member.orchestrated(&world, json!({ "project_id": project, "template_id": template })).await;
        assert_eq!((&last(&shown)["status"], &shown["run"]["status"]), (&json!("failed"), &json!("completed")));
        let message = last(&shown)["result"]["message"].as_str().unwrap();
        assert!(message.starts_with("INTEGRATION_ERROR: The deploy hook was not asked"), "{message}");
    }
    assert!(receiver.received("/deploy").is_empty());
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_integration_leaves_a_summary() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, _worker, member) = stage(&world, &peer).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let template =
        world.template(&member, json!({ "phases": ["a", "b"], "integrations": ["Wiki", "slack", "wiki"] })).await;
    let (_, shown) = member.orchestrated(&world, json!({ "project_id": project, "template_id": template })).await;
    assert_eq!(operations(&shown), [("file_system", "completed"); 4]);
    let names: Vec<_> = shown["integration_operations"].as_array().unwrap()[2..]
        .iter()
        .map(|one| one["result"]["filename"].clone())
        .collect();
    assert_eq!(names, ["summary-wiki.md", "summary-slack.md"]);
    let text = String::from_utf8(download(&last(&shown)["result"]["url"]).await).unwrap();
    assert!(text.starts_with("# Lamps\n\n## Phase 0: A\n"), "{text}");
    for phase in shown["phases"].as_array().unwrap() {
        assert!(text.contains(phase["response_text"].as_str().unwrap()));
    }
    assert_eq!(last(&shown)["phase_code"], Value::Null);
    world.discard_deliveries().await;
}
