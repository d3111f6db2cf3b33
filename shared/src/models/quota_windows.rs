//! The windows of quotas: which there are, and when they begin and end. They are days, ISO weeks and months of UTC.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Utc};
use std::fmt;

/// Which window it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaName {
    /// The user's day.
    Daily,
    /// The user's week.
    Weekly,
    /// The user's month.
    Monthly,
    /// The organization's month.
    Organization,
}

impl QuotaName {
    pub(super) const ALL: [Self; 4] = [Self::Daily, Self::Weekly, Self::Monthly, Self::Organization];

    /// As it is stored and told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Organization => "organization",
        }
    }
}

/// For people.
impl fmt::Display for QuotaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Daily => "The daily quota",
            Self::Weekly => "The weekly quota",
            Self::Monthly => "The monthly quota",
            Self::Organization => "The monthly quota of the organization",
        })
    }
}

/// The first days of the windows that a moment lies in, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Starts {
    pub(super) day: NaiveDate,
    pub(super) week: NaiveDate,
    pub(super) month: NaiveDate,
}

impl Starts {
    /// The windows of this moment.
    pub(super) fn at(now: DateTime<Utc>) -> Self {
        let day = now.date_naive();
        let monday = Days::new(u64::from(day.weekday().num_days_from_monday()));
        Self { day, week: day - monday, month: day - Days::new(u64::from(day.day0())) }
    }

    /// Its first day.
    pub(super) const fn of(&self, window: QuotaName) -> NaiveDate {
        match window {
            QuotaName::Daily => self.day,
            QuotaName::Weekly => self.week,
            QuotaName::Monthly | QuotaName::Organization => self.month,
        }
    }

    /// The moment at which the window is over and the next one begins.
    pub(super) fn end(&self, window: QuotaName) -> DateTime<Utc> {
        let next = match window {
            QuotaName::Daily => self.day + Days::new(1),
            QuotaName::Weekly => self.week + Days::new(7),
            QuotaName::Monthly | QuotaName::Organization => self.month + Months::new(1),
        };
        next.and_time(chrono::NaiveTime::MIN).and_utc()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn at(text: &str) -> Starts {
        Starts::at(text.parse().unwrap())
    }

    #[test]
    fn windows_are_days_iso_weeks_and_months_of_utc() {
        for (now, day, week, month) in [
            ("2026-11-26T12:00:00Z", "2026-11-26", "2026-11-23", "2026-11-01"),
            ("2026-11-23T00:00:00Z", "2026-11-23", "2026-11-23", "2026-11-01"),
            ("2026-11-22T23:59:59Z", "2026-11-22", "2026-11-16", "2026-11-01"),
            // the week at the end of a year belongs to both, and is one
            ("2026-12-31T23:59:59Z", "2026-12-31", "2026-12-28", "2026-12-01"),
            ("2027-01-01T00:00:00Z", "2027-01-01", "2026-12-28", "2027-01-01"),
            ("2027-01-03T23:59:59Z", "2027-01-03", "2026-12-28", "2027-01-01"),
            ("2027-01-04T00:00:00Z", "2027-01-04", "2027-01-04", "2027-01-01"),
            ("2024-12-30T00:00:00Z", "2024-12-30", "2024-12-30", "2024-12-01"),
            ("2028-02-29T10:00:00Z", "2028-02-29", "2028-02-28", "2028-02-01"),
            // not by the clock of wherever somebody is
            ("2027-01-01T00:30:00+01:00", "2026-12-31", "2026-12-28", "2026-12-01"),
        ] {
            let starts = at(now);
            let found = [starts.day, starts.week, starts.month].map(|date| date.to_string());
            assert_eq!(found, [day, week, month], "{now}");
        }
    }

    #[test]
    fn a_window_ends_where_the_next_one_begins() {
        let starts = at("2026-12-31T23:59:59Z");
        let end = |window| starts.end(window).to_rfc3339();
        assert_eq!(end(QuotaName::Daily), "2027-01-01T00:00:00+00:00");
        assert_eq!(end(QuotaName::Weekly), "2027-01-04T00:00:00+00:00");
        assert_eq!(end(QuotaName::Monthly), "2027-01-01T00:00:00+00:00");
        assert_eq!(end(QuotaName::Organization), end(QuotaName::Monthly));
    }
}
