//! Figures of an organization.

use super::Time;
use crate::statistics::Load;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::models::{Granularity, OrchestrationSum, UsageSpan};
use utoipa::ToSchema;
use uuid::Uuid;

/// What an organization did in some days.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageAnalytics {
    /// Oldest first; spans in which nothing happened are there, with zeros.
    pub(crate) api_usage: Vec<ApiUsage>,
    pub(crate) runs_summary: RunsSummary,
    /// Those with the most runs first, at most ten.
    pub(crate) top_projects: Vec<TopProject>,
    pub(crate) integration_usage: IntegrationUsage,
}

/// One span of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiUsage {
    /// Where the span begins, in UTC: a day (`2025-01-31`), of weeks their Monday, of months their first; of hours a time.
    date: String,
    /// Answered requests.
    requests: i64,
    /// Tokens that models have read and written.
    tokens: i64,
    /// Milliseconds; 0 without requests.
    avg_response_time: f64,
}

impl ApiUsage {
    /// A span that begins then; `None`: nothing happened in it.
    pub(crate) fn new(granularity: Granularity, starts: DateTime<Utc>, sum: Option<&UsageSpan>) -> Self {
        let date = match granularity {
            Granularity::Hour => Time(starts).to_string(),
            Granularity::Day | Granularity::Week | Granularity::Month => starts.date_naive().to_string(),
        };
        let requests = sum.map_or(0, |sum| sum.requests);
        Self {
            date,
            requests,
            tokens: sum.map_or(0, |sum| sum.tokens),
            avg_response_time: average(sum.map_or(0.0, |sum| sum.response_ms), requests),
        }
    }
}

/// All orchestrations.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct RunsSummary {
    /// Runs that were started.
    total_runs: i64,
    /// Runs that completed, whenever they were started.
    completed_runs: i64,
    failed_runs: i64,
    /// Milliseconds, over the runs that completed or failed; 0 without any.
    avg_execution_time: f64,
    /// Per cent of the runs that completed or failed; 0 without any.
    success_rate: f64,
}

impl From<&OrchestrationSum> for RunsSummary {
    fn from(sum: &OrchestrationSum) -> Self {
        Self {
            total_runs: sum.started,
            completed_runs: sum.completed,
            failed_runs: sum.failed,
            avg_execution_time: average(sum.execution_ms as f64, sum.completed + sum.failed),
            success_rate: success_rate(sum),
        }
    }
}

/// A project and its orchestrations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopProject {
    project_id: Uuid,
    project_name: String,
    /// Runs that were started.
    run_count: i64,
    /// Per cent of the runs that completed or failed; 0 without any.
    success_rate: f64,
}

impl TopProject {
    /// `None`: it is not the sum of a project.
    pub(crate) fn new(sum: &OrchestrationSum) -> Option<Self> {
        Some(Self {
            project_id: sum.project_id?,
            project_name: sum.project_name.clone()?,
            run_count: sum.started,
            success_rate: success_rate(sum),
        })
    }
}

/// What orchestrations did elsewhere.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct IntegrationUsage {
    /// Files written.
    file_system: i64,
    /// Commits made.
    git_operations: i64,
    /// Deploy hooks called.
    deployment: i64,
}

impl From<&OrchestrationSum> for IntegrationUsage {
    fn from(sum: &OrchestrationSum) -> Self {
        Self { file_system: sum.file_system, git_operations: sum.git_operations, deployment: sum.deployment }
    }
}

/// How an organization was answered in the last hour.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PerformanceAnalytics {
    pub(crate) response_times: ResponseTimes,
    pub(crate) error_rates: ErrorRates,
    pub(crate) throughput: Throughput,
    pub(crate) resource_usage: ResourceUsage,
}

/// Milliseconds within which so many per cent of the requests were answered; 0 without requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResponseTimes {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
}

/// Per cent of the requests; 0 without requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorRates {
    #[serde(rename = "4xx")]
    pub(crate) client: f64,
    #[serde(rename = "5xx")]
    pub(crate) server: f64,
}

/// Requests in time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Throughput {
    /// Over the whole hour.
    pub(crate) requests_per_second: f64,
    /// In the busiest second.
    pub(crate) peak_rps: f64,
}

/// Per cent of what the machine has that answers this request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResourceUsage {
    cpu_utilization: f64,
    memory_usage: f64,
    disk_usage: f64,
}

impl From<Load> for ResourceUsage {
    fn from(load: Load) -> Self {
        Self { cpu_utilization: rounded(load.cpu), memory_usage: rounded(load.memory), disk_usage: rounded(load.disk) }
    }
}

fn success_rate(sum: &OrchestrationSum) -> f64 {
    percentage(sum.completed, sum.completed + sum.failed)
}

/// Per cent; 0 of nothing.
pub(crate) fn percentage(part: i64, whole: i64) -> f64 {
    average(part as f64 * 100.0, whole)
}

/// 0 of nothing.
pub(crate) fn average(sum: f64, count: i64) -> f64 {
    if count == 0 { 0.0 } else { rounded(sum / count as f64) }
}

/// To three digits after the point: nobody measures more.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
