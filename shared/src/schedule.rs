//! Time tables: when a cron expression is due in a time zone. The API checks them with it, the scheduler ticks by it.

use crate::pipeline::Problem;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

/// Longest expression that is looked at.
const MAX_CHARS: usize = 200;

/// A readable cron expression in a known time zone, which is due at least once more.
#[derive(Debug, Clone)]
pub struct Timetable {
    cron: Cron,
    zone: Tz,
}

impl Timetable {
    /// Reads an expression of five fields (minute, hour, day, month, weekday), or six with seconds in front, and a name of
    /// the IANA time zone database.
    ///
    /// # Errors
    /// What is wrong, with `cron` and `timezone` as fields; both at once if both are wrong.
    pub fn read(cron: &str, timezone: &str) -> Result<Self, Vec<Problem>> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let parsed = if cron.chars().count() > MAX_CHARS {
            Err(format!("must have at most {MAX_CHARS} characters"))
        } else {
            parser.parse(cron).map_err(|error| format!("is no cron expression of five or six fields: {error}"))
        };
        let zone = timezone.parse::<Tz>().map_err(|_| "is no time zone such as UTC or Europe/Berlin".to_owned());
        match (parsed, zone) {
            (Ok(cron), Ok(zone)) => Ok(Self { cron, zone }),
            (cron, zone) => {
                let problem = |field: &str, message| Problem { field: field.to_owned(), message };
                let cron = cron.err().map(|message| problem("cron", message));
                Err(cron.into_iter().chain(zone.err().map(|message| problem("timezone", message))).collect())
            }
        }
    }

    /// The first tick after a moment. `None`: there is none, as of 30 February.
    ///
    /// Ticks follow the clocks of the zone. An hour that is left out in spring and one that comes twice in autumn cost no
    /// daily tick and double none.
    pub fn next_after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self.cron.find_next_occurrence(&at.with_timezone(&self.zone), false).ok()?;
        Some(next.to_utc())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn next(cron: &str, zone: &str, after: &str) -> Option<String> {
        let next = Timetable::read(cron, zone).unwrap().next_after(after.parse().unwrap())?;
        Some(next.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    }

    #[test]
    fn ticks_follow_the_clocks_of_the_zone() {
        for (cron, zone, after, expected) in [
            ("*/15 * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"),
            ("*/10 * * * * *", "UTC", "2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z"),
            ("0 9 * * MON-FRI", "Europe/Berlin", "2026-01-02T09:00:00Z", "2026-01-05T08:00:00Z"),
            ("0 9 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T07:00:00Z"),
            ("0 9 * * *", "America/New_York", "2026-01-01T00:00:00Z", "2026-01-01T14:00:00Z"),
            ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ] {
            assert_eq!(next(cron, zone, after).as_deref(), Some(expected), "{cron} in {zone}");
        }
    }

    #[test]
    fn a_daily_tick_comes_once_on_the_days_when_clocks_change() {
        let daily = Timetable::read("30 2 * * *", "Europe/Berlin").unwrap();
        for (from, days) in [("2026-03-27T12:00:00Z", 4), ("2026-10-23T12:00:00Z", 4)] {
            let mut at: DateTime<Utc> = from.parse().unwrap();
            let mut dates = Vec::new();
            for _ in 0..days {
                at = daily.next_after(at).unwrap();
                dates.push(at.with_timezone(&chrono_tz::Europe::Berlin).date_naive());
            }
            let mut distinct = dates.clone();
            distinct.dedup();
            assert_eq!(dates, distinct, "after {from}");
            assert_eq!((dates[days - 1] - dates[0]).num_days(), 3, "after {from}: {dates:?}");
        }
    }

    #[test]
    fn a_day_that_does_not_exist_is_never_due() {
        assert_eq!(next("0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z"), None);
    }

    #[test]
    fn what_cannot_be_read_is_named_field_by_field() {
        let fields = |cron: &str, zone: &str| -> Vec<String> {
            Timetable::read(cron, zone).err().unwrap_or_default().into_iter().map(|problem| problem.field).collect()
        };
        assert_eq!(fields("* * * *", "UTC"), ["cron"]);
        assert_eq!(fields("61 * * * *", "UTC"), ["cron"]);
        assert_eq!(fields("", "UTC"), ["cron"]);
        assert_eq!(fields(&"1,".repeat(200), "UTC"), ["cron"]);
        assert_eq!(fields("0 0 0 1 1 * 2030", "UTC"), ["cron"], "years are no part of it");
        assert_eq!(fields("* * * * *", "Mars/Olympus"), ["timezone"]);
        assert_eq!(fields("nonsense", "nowhere"), ["cron", "timezone"]);
    }
}
