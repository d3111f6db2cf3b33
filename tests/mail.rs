//! Mails on their way: what arrives, and what becomes of them when the server is away, slow, or does not want them.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use chrono::{TimeDelta, Utc};
use harness::{World, eventually, mail_sink};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    letter::Letter,
    models::{Cancelled, Job, JobStatus},
};
use standalone::services::{Mail, MailSink, ports};
use std::collections::BTreeSet;
use uuid::Uuid;

const TOKEN: &str = "token-that-opens-an-account";

fn reset(name: &str) -> Letter {
    let reset_url = format!("https://atelier.example/reset?token={TOKEN}");
    Letter::PasswordReset { name: name.to_owned(), reset_url, expires_at: Utc::now() + TimeDelta::hours(1) }
}

fn invitation(organization: &str, inviter: &str) -> Letter {
    Letter::Invitation {
        organization: organization.to_owned(),
        inviter: inviter.to_owned(),
        role: "member".to_owned(),
        accept_url: format!("https://atelier.example/join?token={TOKEN}"),
        expires_at: Utc::now() + TimeDelta::days(7),
    }
}

fn notice() -> Letter {
    Letter::JobEnded {
        name: "Ann".to_owned(),
        id: Uuid::nil(),
        what: "Pipeline \"Countries\"".to_owned(),
        completed: true,
        duration_ms: 1_500,
        error: None,
        last_for_now: false,
    }
}

fn one_of_each() -> Vec<Letter> {
    let name = || "Ann Müller".to_owned();
    let quota_type = "daily".to_owned();
    vec![
        invitation("Tea House", "Bo"),
        reset("Ann Müller"),
        Letter::MfaChanged { name: name(), enabled: true, at: Utc::now() },
        notice(),
        Letter::QuotaWarning { name: name(), quota_type, used: 40, limit: 50, percentage: 80, resets_at: Utc::now() },
        Letter::WebhookDisabled {
            name: name(),
            webhook_id: Uuid::nil(),
            webhook: "Orders".to_owned(),
            url: "https://shop.example/hook".to_owned(),
            reason: "It answered 410 Gone.".to_owned(),
        },
    ]
}

/// Nothing of what a mail said is left in its job or told in its events.
async fn assert_forgotten(world: &World, id: Uuid) {
    let (job, events) = (world.job(id).await, world.events(id).await);
    assert_eq!(job.payload, json!({ "kind": "mail", "letter": null }));
    let told = format!("{job:?} {events:?}");
    assert!(!told.contains(TOKEN), "{told}");
}

fn mail_of(sink: &MailSink, id: Uuid) -> Mail {
    let mails: Vec<_> =
        sink.mails().into_iter().filter(|mail| mail.header("Message-ID").contains(&id.to_string())).collect();
    assert_eq!(mails.len(), 1, "once: {mails:?}");
    mails.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_letter_arrives_once_with_text_and_html_and_is_forgotten() {
    let (world, sink) = (World::new().await, mail_sink());
    let tenant = world.tenant(1).await;
    let _worker = world.mail_worker(&sink.smtp_url()).await;
    for letter in one_of_each() {
        let id = world.write(&tenant, "ann@example.com", letter.clone()).await;
        let job = world.wait_for_status(id, JobStatus::Completed).await;
        let mail = mail_of(&sink, id);
        assert_eq!(job.result, Some(json!({ "sent": true, "message_id": mail.header("Message-ID") })));
        assert_eq!(
            (mail.to.as_slice(), mail.header("To").as_str()),
            (&["ann@example.com".to_owned()][..], "ann@example.com")
        );
        assert_eq!(
            (mail.header("From").as_str(), mail.from.as_str()),
            ("Atelier <no-reply@localhost>", "no-reply@localhost")
        );
        assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
        assert!(!mail.header("Date").is_empty() && !mail.subject().is_empty(), "{}", mail.data);
        let html = mail.html().unwrap();
        assert!(html.starts_with("<!doctype html>") && mail.text().contains("Hello"), "{}", mail.data);
        assert!(!mail.text().contains('<') && !html.contains("{{"), "{}", mail.data);
        if matches!(letter, Letter::PasswordReset { .. } | Letter::Invitation { .. }) {
            assert!(mail.text().contains(&format!("?token={TOKEN}")) && html.contains(TOKEN), "{}", mail.data);
        }
        let (unsubscribe, by) = (mail.header("List-Unsubscribe"), mail.header("List-Unsubscribe-Post"));
        if letter.is_notice() {
            assert!(unsubscribe.starts_with("<https://atelier.example/api/v1/mail/unsubscribe/"), "{unsubscribe}");
            assert_eq!(by, "List-Unsubscribe=One-Click");
        } else {
            assert_eq!((unsubscribe.as_str(), by.as_str()), ("", ""));
        }
        assert_forgotten(&world, id).await;
    }
    assert_eq!(sink.mails().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_loses_nothing() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let listener = ports::listen(None).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let _worker = world.mail_worker(&format!("smtp://{address}")).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.write(&tenant, "ann@example.com", reset("Ann")).await);
    }
    for id in &ids {
        let job = eventually("a second try", async || Some(world.job(*id).await).filter(|job| job.attempt >= 2)).await;
        assert_eq!(job.errors[0]["code"], "mail_server_unavailable");
    }
    let listener = std::net::TcpListener::bind(address).unwrap();
    let sink = MailSink::start(None, listener, ports::listen(None).unwrap()).unwrap();
    world.wait_for_count(&ids, JobStatus::Completed, ids.len()).await;
    for id in ids {
        mail_of(&sink, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_now_is_tried_again_and_never_is_not() {
    let (world, sink) = (World::new().await, mail_sink());
    let tenant = world.tenant(1).await;
    let _worker = world.mail_worker(&sink.smtp_url()).await;
    let later = world.write(&tenant, "later@example.com", reset("Ann")).await;
    let never = world.write(&tenant, "bounce@example.com", reset("Ann")).await;
    let job = world.wait_for_status(later, JobStatus::Completed).await;
    assert_eq!(job.attempt, 2);
    assert!(job.errors[0]["message"].as_str().unwrap().starts_with("450 "), "{}", job.errors);
    let job = world.wait_for_status(never, JobStatus::Failed).await;
    assert_eq!((job.attempt, job.error_code.as_deref()), (1, Some("bounced")));
    assert_eq!(job.error_message.as_deref(), Some("550 5.1.1 no such mailbox"));
    assert_forgotten(&world, never).await;
    assert_eq!(sink.mails(), [mail_of(&sink, later)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_sends_sends_again_under_the_same_name() {
    let (world, sink) = (World::new().await, mail_sink());
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler().await;
    let changes = [("ATELIER_SMTP_URL", sink.smtp_url()), ("ATELIER_LOG", "trace".to_owned())];
    let changes = changes.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut first = world.process(&["worker", "--pool", "mails"], &changes);
    sink.stall(true);
    let id = world.write(&tenant, "ann@example.com", reset("Ann")).await;
    let once = sink.wait_for(|_| true).await;
    first.kill();
    assert!(!first.log().contains(TOKEN), "no log holds a link: {}", first.log());
    sink.stall(false);
    let _second = world.mail_worker(&sink.smtp_url()).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!((job.attempt, &job.errors[0]["code"]), (2, &json!("worker_died")));
    let mails = sink.mails();
    assert_eq!(mails.len(), 2, "the server had the first one already");
    for name in ["Message-ID", "Date", "Subject"] {
        assert_eq!(mails[1].header(name), once.header(name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_mail_is_forgotten_and_its_connection_is_not_used_again() {
    let (world, sink) = (World::new().await, mail_sink());
    let tenant = world.tenant(1).await;
    let waiting = world.write(&tenant, "ann@example.com", reset("Ann")).await;
    assert!(matches!(world.cancel(&tenant, waiting).await, Cancelled::AtOnce(_)));
    assert_forgotten(&world, waiting).await;

    let _worker = world.mail_worker(&sink.smtp_url()).await;
    sink.stall(true);
    let sending = world.write(&tenant, "ann@example.com", reset("Ann")).await;
    sink.wait_for(|_| true).await;
    assert!(matches!(world.cancel(&tenant, sending).await, Cancelled::Requested));
    world.wait_for_status(sending, JobStatus::Cancelled).await;
    assert_forgotten(&world, sending).await;
    sink.stall(false);
    for to in ["bounce@example.com", "bo@example.com"] {
        let next = world.write(&tenant, to, reset("Bo")).await;
        let expected = if to.starts_with("bounce") { JobStatus::Failed } else { JobStatus::Completed };
        assert_eq!(world.wait_for_status(next, expected).await.attempt, 1, "{to}");
    }
    assert_eq!(sink.mails().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_notices_gets_none_and_still_a_link_for_a_new_password() {
    let (world, sink) = (World::new().await, mail_sink());
    let api = world.api().await;
    let member = world.member(&api).await;
    let tenant = harness::Tenant { user: member.id(), organization: member.organization_id(), weight: 1 };
    let _worker = world.mail_worker(&sink.smtp_url()).await;
    let off = json!({ "preferences": { "notifications": { "email": false } } });
    member.client.put("/users/me", off).await.expect(200);
    let unwanted = world.write(&tenant, &member.email, notice()).await;
    let wanted = world.write(&tenant, &member.email, reset("Ann")).await;
    world.wait_for_status(wanted, JobStatus::Completed).await;
    let job = world.wait_for_status(unwanted, JobStatus::Completed).await;
    assert_eq!(job.result, Some(json!({ "sent": false, "reason": "unsubscribed" })));
    assert_eq!(sink.mails(), [mail_of(&sink, wanted)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_click_unsubscribes_and_opening_the_link_does_not() {
    let (world, sink) = (World::new().await, mail_sink());
    let api = world.api().await;
    let member = world.member(&api).await;
    let other = world.member(&api).await;
    let tenant = harness::Tenant { user: member.id(), organization: member.organization_id(), weight: 1 };
    let _worker = world.mail_worker(&sink.smtp_url()).await;
    let id = world.write(&tenant, &member.email, notice()).await;
    world.wait_for_status(id, JobStatus::Completed).await;
    let link = mail_of(&sink, id).header("List-Unsubscribe");
    let path = link.trim_matches(['<', '>']).strip_prefix("https://atelier.example").unwrap().to_owned();
    let anonymous = world.client(&api);
    let wants = async |member: &harness::Member| {
        member.client.get("/users/me").await.expect(200)["preferences"]["notifications"].clone()
    };

    let page = anonymous.send(anonymous.request(Method::GET, &path)).await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("form-action 'self'") && policy.contains("default-src 'none'"), "{policy}");
    assert!(page.text.contains("<form method=\"post\">"), "{}", page.text);
    assert_eq!(wants(&member).await, json!({ "email": true, "browser": true }), "scanners open every link");

    for _ in 0..2 {
        let post = anonymous
            .request(Method::POST, &path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("List-Unsubscribe=One-Click");
        assert_eq!(anonymous.send(post).await.status, 200);
        assert_eq!(wants(&member).await, json!({ "email": false, "browser": true }));
    }
    assert_eq!(wants(&other).await["email"], true);
    for unknown in [Uuid::new_v4().to_string(), "nonsense".to_owned()] {
        let path = format!("/mail/unsubscribe/{unknown}");
        assert_eq!(anonymous.get(&path).await.error(404), "RESOURCE_NOT_FOUND");
        assert_eq!(anonymous.post(&path, Value::Null).await.error(404), "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_the_awaited_links_are_in_the_log_once() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let worker = world.process(&["worker", "--pool", "mails"], &[]);
    let mut ids = Vec::new();
    for letter in one_of_each() {
        ids.push(world.write(&tenant, "ann@example.com", letter).await);
    }
    world.wait_for_count(&ids, JobStatus::Completed, ids.len()).await;
    let log = worker.log();
    for link in [format!("/reset?token={TOKEN}"), format!("/join?token={TOKEN}")] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&link)).collect();
        assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains("ann@example.com"), "{log}");
    }
    assert_eq!(log.matches("a mail is dropped").count(), 4, "{log}");
    assert_eq!(world.job(ids[0]).await.result, Some(json!({ "sent": false, "reason": "no_mail_server" })));
    for id in ids {
        assert_forgotten(&world, id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_and_no_address_adds_a_header_or_a_receiver() {
    let (world, sink) = (World::new().await, mail_sink());
    let tenant = world.tenant(1).await;
    let _worker = world.mail_worker(&sink.smtp_url()).await;
    let name = "Tea\r\nBcc: all@example.com\r\n\r\n<script>x()</script>\r\n.\r\nMAIL FROM:<x@example.com>";
    let id = world.write(&tenant, "ann@example.com", invitation(name, name)).await;
    world.wait_for_status(id, JobStatus::Completed).await;
    let mail = mail_of(&sink, id);
    let names: BTreeSet<_> = mail.headers().into_iter().map(|(name, _)| name.to_lowercase()).collect();
    let expected = ["auto-submitted", "content-type", "date", "from", "message-id", "mime-version", "subject", "to"];
    assert_eq!(names, expected.map(str::to_owned).into());
    assert_eq!(mail.to, ["ann@example.com"]);
    assert!(mail.subject().starts_with("Tea Bcc: all@example.com") && !mail.html().unwrap().contains("<script"));

    for address in ["ann@example.com\r\nRCPT TO:<all@example.com>", "ann@example.com, all@example.com", "ann"] {
        let id = world.write(&tenant, address, reset("Ann")).await;
        let job: Job = world.wait_for_status(id, JobStatus::Failed).await;
        assert_eq!(job.error_code.as_deref(), Some("mail_unwritable"), "{address:?}");
    }
    assert_eq!(sink.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_leads_nowhere_any_more_is_not_sent() {
    let (world, sink) = (World::new().await, mail_sink());
    let tenant = world.tenant(1).await;
    let expires_at = Utc::now() - TimeDelta::seconds(1);
    let late = Letter::PasswordReset { name: "Ann".to_owned(), reset_url: TOKEN.to_owned(), expires_at };
    let _worker = world.mail_worker(&sink.smtp_url()).await;
    let id = world.write(&tenant, "ann@example.com", late).await;
    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert_eq!(job.error_code.as_deref(), Some("letter_expired"));
    assert_forgotten(&world, id).await;
    assert!(sink.mails().is_empty());
}
