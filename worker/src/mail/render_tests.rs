#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
use super::*;
use chrono::TimeZone;
use uuid::Uuid;

/// A name that tries everything.
const HOSTILE: &str = "<script>alert(1)</script>\r\nBcc: all@example.com\u{202e}\0 {{ 7 * 7 }} \"&'";

/// One letter of each kind in which every text is this one.
fn letters(text: &str) -> Vec<Letter> {
    let at = Utc.with_ymd_and_hms(2026, 11, 26, 14, 5, 0).unwrap();
    let own = || text.to_owned();
    let url = || "https://example.com/next?token=abc&x=1".to_owned();
    vec![
        Letter::Invitation {
            organization: own(),
            inviter: own(),
            role: "member".to_owned(),
            accept_url: url(),
            expires_at: at,
        },
        Letter::PasswordReset { name: own(), reset_url: url(), expires_at: at },
        Letter::MfaChanged { name: own(), enabled: true, at },
        Letter::MfaChanged { name: own(), enabled: false, at },
        ended(own(), None, false),
        ended(own(), Some(own()), true),
        Letter::QuotaWarning {
            name: own(),
            quota_type: "daily".to_owned(),
            used: 50,
            limit: 50,
            percentage: 100,
            resets_at: at,
        },
        Letter::WebhookDisabled { name: own(), webhook_id: Uuid::nil(), webhook: own(), url: url(), reason: own() },
    ]
}

fn ended(what: String, error: Option<String>, last_for_now: bool) -> Letter {
    let completed = error.is_none();
    Letter::JobEnded { name: what.clone(), id: Uuid::nil(), what, completed, duration_ms: 83_000, error, last_for_now }
}

fn unsubscribe() -> Url {
    "https://example.com/api/v1/mail/unsubscribe/1".parse().unwrap()
}

#[test]
fn every_letter_has_a_subject_and_both_parts_with_or_without_a_link_to_unsubscribe() {
    for letter in letters("Ann") {
        for url in [Some(unsubscribe()), None] {
            let words = words(&letter, url.as_ref()).unwrap();
            assert!((10..200).contains(&words.subject.len()), "{words:?}");
            assert!(words.text.contains("Ann") && words.html.contains("Ann"), "{words:?}");
            assert!(words.html.starts_with("<!doctype html>") && words.html.ends_with("</html>"), "{words:?}");
            for part in [&words.text, &words.html] {
                assert!(!part.contains("{{") && !part.contains("{%") && !part.contains("&lt;"), "{part}");
                let ends = part.contains("No more notices by mail") || part.contains("notifications.email");
                assert_eq!(ends, letter.is_notice(), "{part}");
                let says_where = part.contains("mail/unsubscribe/1") || part.contains("mail&#x2f;unsubscribe&#x2f;1");
                assert_eq!(says_where, letter.is_notice() && url.is_some(), "{part}");
            }
        }
    }
}

#[test]
fn the_link_of_a_letter_is_a_button_and_can_be_read() {
    for letter in letters("Ann") {
        let words = words(&letter, None).unwrap();
        let Some((label, url)) = link(&letter) else {
            assert!(!words.html.contains("<a "), "{}", words.html);
            continue;
        };
        assert!(words.text.lines().any(|line| line == url), "{}", words.text);
        assert!(words.html.contains(&format!(">{label}</a>")), "{}", words.html);
        assert_eq!(words.html.matches("token=abc&amp;x=1").count(), 3, "{}", words.html);
    }
}

#[test]
fn a_hostile_name_is_only_a_name() {
    for letter in letters(HOSTILE) {
        let words = words(&letter, Some(&unsubscribe())).unwrap();
        assert!(!words.subject.contains(['\r', '\n', '\0', '\u{202e}']), "{:?}", words.subject);
        assert!(!words.html.contains("<script") && words.html.contains("&lt;script"), "{}", words.html);
        for part in [&words.text, &words.html] {
            assert!(!part.contains(['\r', '\0', '\u{202e}']), "{part:?}");
            assert!(!part.lines().any(|line| line.starts_with("Bcc:")), "{part}");
            assert!(part.contains("{{ 7 * 7 }}"), "it is shown and not worked out: {part}");
        }
    }
}

#[test]
fn a_name_without_end_has_one() {
    for letter in letters(&"long ".repeat(10_000)) {
        let words = words(&letter, None).unwrap();
        assert!(words.subject.chars().count() <= 2 * LONGEST_NAME, "{}", words.subject);
        assert!(words.text.len() < 3_000, "{}", words.text);
    }
}

#[test]
fn times_and_durations_are_as_people_say_them() {
    assert_eq!(time("2026-11-06T04:05:06.123456Z").unwrap(), "6 November 2026, 04:05 UTC");
    assert!(time("soon").is_err());
    for (ms, said) in
        [(0, "0.0 s"), (1_250, "1.2 s"), (12_900, "12 s"), (83_000, "1 min 23 s"), (7_500_000, "2 h 5 min")]
    {
        assert_eq!(duration(ms), said);
    }
}
