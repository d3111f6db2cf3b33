//! Warnings that a quota is nearly used up: once for each window and threshold.

use super::{
    NewMail, Occurrence,
    quota_windows::{QuotaName, Starts},
};
use crate::{letter::Letter, queue::Hint, schema::users, webhook_event::WebhookEvent};
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, Date, Int2, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

/// In per cent of the limit.
const THRESHOLDS: [i16; 3] = [100, 90, 80];

/// The windows are held by the transaction that has just counted in them.
const NOTE: &str = "UPDATE quota_windows AS w SET warned = reached.threshold \
    FROM UNNEST($2, $3, $4) AS reached (period, starts, threshold) \
    WHERE w.scope = $1 AND w.period = reached.period AND w.starts = reached.starts";

/// A window of a user in which a threshold was reached that nobody has been warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    window: QuotaName,
    starts: NaiveDate,
    ends: DateTime<Utc>,
    used: i64,
    limit: i64,
    threshold: i16,
}

impl Reached {
    /// `None`: there is nothing to warn of. An organization's month belongs to nobody who could be told.
    pub(super) fn new(window: QuotaName, used: i64, limit: i64, warned: i16, starts: &Starts) -> Option<Self> {
        match window {
            QuotaName::Daily | QuotaName::Weekly | QuotaName::Monthly => {}
            QuotaName::Organization => return None,
        }
        let threshold = threshold(used, limit).filter(|threshold| *threshold > warned)?;
        Some(Self { window, starts: starts.of(window), ends: starts.end(window), used, limit, threshold })
    }
}

/// The highest threshold that was reached.
fn threshold(used: i64, limit: i64) -> Option<i16> {
    let share = i128::from(used) * 100;
    THRESHOLDS.into_iter().find(|threshold| limit > 0 && share >= i128::from(limit) * i128::from(*threshold))
}

/// Notes the warnings and sends them: to the user's webhooks, and by mail if the user wants that.
pub(super) async fn announce(
    conn: &mut AsyncPgConnection,
    user_id: Uuid,
    organization_id: Uuid,
    reached: Vec<Reached>,
) -> QueryResult<Vec<Hint>> {
    if reached.is_empty() {
        return Ok(Vec::new());
    }
    diesel::sql_query(NOTE)
        .bind::<SqlUuid, _>(user_id)
        .bind::<Array<Text>, _>(reached.iter().map(|reached| reached.window.as_str()).collect::<Vec<_>>())
        .bind::<Array<Date>, _>(reached.iter().map(|reached| reached.starts).collect::<Vec<_>>())
        .bind::<Array<Int2>, _>(reached.iter().map(|reached| reached.threshold).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    let at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let occurrences: Vec<_> = reached
        .iter()
        .map(|reached| Occurrence {
            event: WebhookEvent::QuotaWarning,
            user_id,
            organization_id,
            data: json!({
                "user_id": user_id,
                "quota_type": reached.window.as_str(),
                "used": reached.used,
                "limit": reached.limit,
                "percentage": reached.threshold,
                "timestamp": at,
            }),
        })
        .collect();
    let mut hints = Occurrence::announce(conn, &occurrences).await?;
    let user = users::table.find(user_id).select((users::email, users::full_name, users::preferences));
    let (email, name, preferences): (String, String, Value) = user.first(conn).await?;
    if preferences.pointer("/notifications/email").and_then(Value::as_bool).unwrap_or(true) {
        let mail = |reached: Reached| NewMail {
            user_id,
            organization_id,
            to: email.clone(),
            letter: Letter::QuotaWarning {
                name: name.clone(),
                quota_type: reached.window.as_str().to_owned(),
                used: reached.used,
                limit: reached.limit,
                percentage: i64::from(reached.threshold),
                resets_at: reached.ends,
            },
        };
        hints.extend(NewMail::insert(conn, reached.into_iter().map(mail).collect()).await?);
    }
    Ok(hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_threshold_reached_is_told() {
        for (used, limit, expected) in [
            (39, 50, None),
            (40, 50, Some(80)),
            (44, 50, Some(80)),
            (45, 50, Some(90)),
            (49, 50, Some(90)),
            (50, 50, Some(100)),
            (51, 50, Some(100)),
            (1, 1, Some(100)),
            (0, 0, None),
            (i64::MAX, i64::MAX, Some(100)),
        ] {
            assert_eq!(threshold(used, limit), expected, "{used} of {limit}");
        }
    }
}
