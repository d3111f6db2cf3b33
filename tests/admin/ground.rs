//! Where the command line finds the installation, and what it says when there is none.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::World;
use serde_json::json;

/// Settings that name nothing.
const NONE: [(&str, &str); 2] = [("DATABASE_URL", ""), ("REDIS_URL", "")];

#[tokio::test(flavor = "multi_thread")]
async fn a_running_up_is_found_by_its_data_folder() {
    let world = World::new().await;
    let folder = world.servers.folder().join(format!("data-{}", world.prefix));
    std::fs::create_dir_all(&folder).unwrap();
    let settings: String = world
        .settings(&[])
        .iter()
        .filter(|(name, _)| ["DATABASE_URL", "REDIS_URL", "ATELIER_REDIS_PREFIX"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}='{value}'\n"))
        .collect();
    std::fs::write(folder.join("environment"), settings).unwrap();
    let data = folder.display().to_string();
    let paused = ["admin", "--json", "--data", &data, "queue", "pause", "probes"];
    assert_eq!(world.command_with(&paused, &NONE, "").await.json()["changed"], true);
    assert_eq!(world.count_rows("queue_pauses").await, 1);
    assert!(world.queue("probes").is_paused().await.unwrap(), "its Redis was told, too");
    // who names a folder means that one, whatever the environment says
    let elsewhere = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")];
    let resume = ["admin", "queue", "resume", "probes", "--data", &data];
    assert_eq!(world.command_with(&resume, &elsewhere, "").await.stdout, "probes goes on\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_installation_is_told_what_to_do() {
    let world = World::new().await;
    let empty = world.servers.folder().join(format!("empty-{}", world.prefix));
    std::fs::create_dir_all(&empty).unwrap();
    let data = empty.display().to_string();
    let list = ["admin", "--data", data.as_str(), "queue", "list"];
    let complaint = world.command_with(&list, &NONE, "").await.complaint();
    assert!(complaint.contains("atelier up") && complaint.contains(&data), "{complaint}");
    let list = ["admin", "queue", "list"];
    let half = world.command_with(&list, &[("REDIS_URL", "")], "").await.complaint();
    assert!(half.contains("REDIS_URL is not set"), "{half}");
    let away = [("DATABASE_URL", "postgres://nobody:hidden@127.0.0.1:1/nothing")];
    let complaint = world.command_with(&list, &away, "").await.complaint();
    assert!(complaint.contains("PostgreSQL cannot be reached") && complaint.contains("--data"), "{complaint}");
    assert!(!complaint.contains("hidden"), "{complaint}");
    world.run_sql("DROP TABLE queue_pauses").await;
    let complaint = world.command(&list).await.complaint();
    assert!(complaint.contains("scheduler prepare"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_explains_itself() {
    let world = World::new().await;
    for (words, said) in [
        (&["admin", "--help"][..], "Exit status"),
        (&["admin", "job", "retry", "--help"], "What is not undone"),
        (&["admin", "organization", "set-limits", "--help"], "--api-quota-limit"),
        (&["admin", "queue", "pause", "--help"], "Workers need no restart"),
    ] {
        let help = world.command(words).await;
        assert_eq!(help.status, 0, "{words:?}");
        assert!(help.stdout.contains(said) && help.stdout.contains("Examples:"), "{words:?}: {}", help.stdout);
    }
    for (words, said) in [
        (&["admin"][..], "organization"),
        (&["admin", "job", "retry"], "--all-failed"),
        (&["admin", "job", "list", "--status", "lost"], "none of: queued"),
    ] {
        let wrong = world.command(words).await;
        assert_eq!(wrong.status, 2, "{words:?}");
        assert!(wrong.stderr.contains(said), "{words:?}: {}", wrong.stderr);
    }
    let table = world.command(&["admin", "queue", "list"]).await;
    assert!(table.stdout.contains("probes") && table.stdout.contains("waiting since"), "{}", table.stdout);
    let json = world.admin(&["queue", "list"]).await;
    let names: Vec<_> = json["queues"].as_array().unwrap().iter().map(|queue| queue["queue"].clone()).collect();
    assert_eq!(json!(names), json!(shared::kind::Kind::queues()));
}
