//! Figures of the caller's organization: what it used, and how well it was served. They are read out of sums that are kept as
//! things happen, so that a view of a whole year reads few rows.

use crate::{
    auth::Caller,
    error::{ApiError, Detail},
    list::ListParams,
    state::State,
    statistics::merged,
    views::analytics::{
        ApiUsage, ErrorRates, IntegrationUsage, PerformanceAnalytics, ResponseTimes, RunsSummary, Throughput,
        TopProject, UsageAnalytics, percentage, rounded,
    },
};
use actix_web::{HttpResponse, get, web};
use anyhow::Result;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, TimeDelta, Utc};
use shared::models::{Granularity, OrchestrationSum, RequestMinute, SECONDS, UsageSpan};
use std::{
    collections::{BTreeMap, HashMap},
    iter::successors,
};

/// Longest span that is looked at, in days.
const MOST_DAYS: u64 = 365;

const DEFAULT_DAYS: u64 = 30;

/// Most projects that are named.
const TOP_PROJECTS: i64 = 10;

/// What performance is measured over.
const AN_HOUR: TimeDelta = TimeDelta::hours(1);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    days: u64,
    granularity: Granularity,
}

impl Span {
    fn read(params: &ListParams) -> Result<Self, ApiError> {
        let mut problems = Vec::new();
        let days = params.get("days").map_or(Some(DEFAULT_DAYS), |days| days.parse().ok());
        let days = days.filter(|days| (1..=MOST_DAYS).contains(days));
        if days.is_none() {
            problems.push(Detail::new("days", format!("must be a whole number, between 1 and {MOST_DAYS}")));
        }
        let granularity = params.get("granularity").map_or(Ok(Granularity::Day), str::parse);
        let granularity = granularity.map_err(|problem| problems.push(Detail::new("granularity", problem)));
        match (days, granularity) {
            (Some(days), Ok(granularity)) => Ok(Self { days, granularity }),
            (_, _) => Err(ApiError::invalid(problems)),
        }
    }

    /// The first of so many days, of which the last is today.
    fn first_day(self, now: DateTime<Utc>) -> NaiveDate {
        let today = now.date_naive();
        today.checked_sub_days(Days::new(self.days - 1)).unwrap_or(today)
    }

    /// Where the parts of the span begin, oldest first. The first week or month may begin before the span does.
    fn parts(self, now: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let first = self.first_day(now);
        let first = match self.granularity {
            Granularity::Hour | Granularity::Day => first,
            Granularity::Week => first.week(chrono::Weekday::Mon).checked_first_day().unwrap_or(first),
            Granularity::Month => first.with_day(1).unwrap_or(first),
        };
        let next = move |starts: &DateTime<Utc>| match self.granularity {
            Granularity::Hour => starts.checked_add_signed(TimeDelta::hours(1)),
            Granularity::Day => starts.checked_add_days(Days::new(1)),
            Granularity::Week => starts.checked_add_days(Days::new(7)),
            Granularity::Month => starts.checked_add_months(Months::new(1)),
        };
        successors(Some(midnight(first)), next).take_while(move |starts| *starts <= now)
    }
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// Sum up what the organization used
///
/// Whole days in UTC, the last one is today. Of a week or month that began before the first day, only the days from it on
/// count. With hours there are at most 8,760 of them, those of a year.
#[utoipa::path(
    tag = "analytics",
    security(("bearer" = [])),
    params(
        ("days" = Option<u64>, Query, description = "How many days, today included; 30 without it", minimum = 1, maximum = 365),
        ("granularity" = Option<String>, Query, description = "`hour`, `day`, `week` or `month`; `day` without it"),
    ),
    responses((status = 200, description = "The sums", body = UsageAnalytics)),
)]
#[get("/analytics/usage")]
pub(crate) async fn get_usage_analytics(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let (span, now) = (Span::read(&params)?, Utc::now());
    let (organization, first) = (caller.organization_id, span.first_day(now));
    let mut conn = state.conn().await?;
    let used = UsageSpan::list(&mut conn, organization, span.granularity, midnight(first)).await?;
    let runs = OrchestrationSum::list(&mut conn, organization, first, TOP_PROJECTS).await?;
    drop(conn);
    let used: BTreeMap<_, _> = used.into_iter().map(|sum| (sum.starts, sum)).collect();
    let all = runs.iter().find(|sum| sum.project_id.is_none());
    Ok(HttpResponse::Ok().json(UsageAnalytics {
        api_usage: span.parts(now).map(|starts| ApiUsage::new(span.granularity, starts, used.get(&starts))).collect(),
        runs_summary: all.map(RunsSummary::from).unwrap_or_default(),
        top_projects: runs.iter().filter_map(TopProject::new).collect(),
        integration_usage: all.map(IntegrationUsage::from).unwrap_or_default(),
    }))
}

/// Show how the organization was served in the last hour
///
/// By all replicas of the API, to a few seconds ago; the use of resources is that of the machine that answers.
#[utoipa::path(
    tag = "analytics",
    security(("bearer" = [])),
    responses((status = 200, description = "The figures", body = PerformanceAnalytics)),
)]
#[get("/analytics/performance")]
pub(crate) async fn get_performance(state: web::Data<State>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let since = Utc::now() - AN_HOUR;
    let minutes = RequestMinute::list_since(&mut *state.conn().await?, caller.organization_id, since).await?;
    let load = state.machine.load();
    let figures = web::block(move || performance(&minutes)).await.map_err(ApiError::internal)?;
    let (response_times, error_rates, throughput) = figures.map_err(ApiError::internal)?;
    let resource_usage = load.into();
    Ok(HttpResponse::Ok().json(PerformanceAnalytics { response_times, error_rates, throughput, resource_usage }))
}

fn performance(minutes: &[RequestMinute]) -> Result<(ResponseTimes, ErrorRates, Throughput)> {
    let times = merged(minutes.iter().map(|minute| minute.histogram.as_slice()))?;
    let within = |share: f64| if times.is_empty() { 0.0 } else { times.value_at_quantile(share) as f64 / 1e3 };
    let sum = |of: fn(&RequestMinute) -> i64| minutes.iter().map(of).sum::<i64>();
    let requests = sum(|minute| minute.requests);
    Ok((
        ResponseTimes { p50: within(0.5), p95: within(0.95), p99: within(0.99) },
        ErrorRates {
            client: percentage(sum(|minute| minute.errors_4xx), requests),
            server: percentage(sum(|minute| minute.errors_5xx), requests),
        },
        Throughput {
            requests_per_second: rounded(requests as f64 / AN_HOUR.as_seconds_f64()),
            peak_rps: busiest_second(minutes) as f64,
        },
    ))
}

/// Requests of all replicas in the second that had the most.
fn busiest_second(minutes: &[RequestMinute]) -> i64 {
    let mut seconds: HashMap<DateTime<Utc>, [i64; SECONDS]> = HashMap::new();
    for minute in minutes {
        let sums = seconds.entry(minute.minute).or_insert([0; SECONDS]);
        for (sum, count) in sums.iter_mut().zip(&minute.seconds) {
            *sum += i64::from(*count);
        }
    }
    seconds.into_values().flatten().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn parts(days: u64, granularity: Granularity, now: &str) -> Vec<String> {
        let now = now.parse().unwrap();
        Span { days, granularity }.parts(now).map(|starts| starts.format("%Y-%m-%dT%H").to_string()).collect()
    }

    #[test]
    fn a_span_ends_today_and_has_all_of_its_parts() {
        use Granularity::{Day, Hour, Month, Week};
        // a Thursday
        let now = "2026-11-26T02:30:00Z";
        assert_eq!(parts(1, Day, now), ["2026-11-26T00"]);
        assert_eq!(parts(1, Hour, now), ["2026-11-26T00", "2026-11-26T01", "2026-11-26T02"]);
        assert_eq!(parts(1, Week, now), ["2026-11-23T00"]);
        assert_eq!(parts(5, Week, now), ["2026-11-16T00", "2026-11-23T00"], "the Sunday before is in it");
        assert_eq!(parts(26, Month, now), ["2026-11-01T00"]);
        assert_eq!(parts(27, Month, now), ["2026-10-01T00", "2026-11-01T00"]);
        assert_eq!(parts(365, Day, now).len(), 365);
        assert_eq!(parts(365, Hour, "2026-11-26T23:59:59Z").len(), 8_760);
        assert_eq!(parts(365, Month, now).len(), 13);
        let leap = parts(365, Day, "2024-12-31T12:00:00Z");
        assert_eq!((leap.len(), leap[0].as_str()), (365, "2024-01-02T00"));
    }

    #[test]
    fn every_parameter_that_is_wrong_is_named() {
        for (query, fields) in [
            ("", vec![]),
            ("days=365&granularity=hour", vec![]),
            ("days=0", vec!["days"]),
            ("days=366", vec!["days"]),
            ("days=-1&granularity=year", vec!["days", "granularity"]),
            ("days=ten", vec!["days"]),
            ("granularity=Day", vec!["granularity"]),
        ] {
            let read = Span::read(&ListParams::parse(query));
            let named: Vec<_> = read.err().iter().flat_map(|error| error.details().to_vec()).map(|d| d.field).collect();
            assert_eq!(named, fields, "{query}");
        }
        let default = Span::read(&ListParams::default()).unwrap();
        assert_eq!(default, Span { days: 30, granularity: Granularity::Day });
    }

    fn minute(at: &str, seconds: &[(usize, i32)]) -> RequestMinute {
        let mut counts = vec![0; SECONDS];
        seconds.iter().for_each(|(second, count)| counts[*second] = *count);
        RequestMinute {
            organization_id: uuid::Uuid::nil(),
            minute: at.parse().unwrap(),
            requests: counts.iter().map(|count| i64::from(*count)).sum(),
            response_ms: 0.0,
            errors_4xx: 0,
            errors_5xx: 0,
            seconds: counts,
            histogram: crate::statistics::Times::default().to_bytes().unwrap(),
        }
    }

    #[test]
    fn the_busiest_second_is_that_of_all_replicas_together() {
        let one = minute("2026-11-26T02:30:00Z", &[(0, 5), (7, 4)]);
        let other = minute("2026-11-26T02:30:00Z", &[(7, 3)]);
        let later = minute("2026-11-26T02:31:00Z", &[(7, 6)]);
        assert_eq!(busiest_second(&[one, other, later]), 7);
        assert_eq!(busiest_second(&[]), 0);
        let (times, errors, throughput) = performance(&[]).unwrap();
        assert!(times.p99 == 0.0 && errors.client == 0.0 && throughput.requests_per_second == 0.0);
    }
}
