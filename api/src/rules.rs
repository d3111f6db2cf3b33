//! What every route asks of its caller: one row a route, read before any handler runs. This is the matrix of who may do
//! what; a test walks it with every role, and another holds it to the list of routes.
//!
//! What depends on the thing itself stays with its handler: whose it is (another owner's is not found), and who may decide
//! about it ([`Caller::may_decide_about`](crate::auth::Caller::may_decide_about)).

use crate::{
    alias::PREFIX,
    auth::permissions::Permission::{self, *},
};
use actix_web::http::Method;
use shared::models::Role;
use std::{collections::HashMap, sync::LazyLock};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever comes; the route looks at credentials itself, if it has any use for them.
    Anyone,
    /// Every member of the current organization: it reads, or concerns nobody but the caller.
    Reader,
    /// Anyone but a viewer.
    Writer,
    /// Managers and admins.
    Manager,
    /// Admins.
    Admin,
}

impl Who {
    /// Whether a member with this role may.
    pub(crate) const fn includes(self, role: Role) -> bool {
        match self {
            Self::Anyone | Self::Reader => true,
            Self::Writer => matches!(role, Role::Admin | Role::Manager | Role::Member),
            Self::Manager => matches!(role, Role::Admin | Role::Manager),
            Self::Admin => matches!(role, Role::Admin),
        }
    }
}

/// What an API key needs to call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// No key opens it.
    Refused,
    /// Every key opens it.
    Any,
    /// A key with this permission.
    With(Permission),
}

/// What a request counts as where requests are limited; the figures are in `limits.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Category {
    /// Credentials; counted by address.
    Auth,
    /// Definitions of pipelines.
    Pipelines,
    /// Runs.
    Execution,
    /// The own account.
    Profile,
    /// Bytes.
    Uploads,
    /// Analyses and batches.
    Analysis,
    /// Language models; the tier says how many.
    Ai,
    /// Signed URLs: whoever has one may use it as often as it works.
    Signed,
    /// Everything else.
    General,
}

impl Category {
    /// As `X-RateLimit-Endpoint` has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Pipelines => "pipelines",
            Self::Execution => "execution",
            Self::Profile => "profile",
            Self::Uploads => "uploads",
            Self::Analysis => "analysis",
            Self::Ai => "ai",
            Self::Signed => "signed",
            Self::General => "general",
        }
    }
}

/// What one route asks of its caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// The canonical method.
    pub(crate) method: &'static str,
    /// Below [`PREFIX`], as the route declares it.
    pub(crate) path: &'static str,
    pub(crate) who: Who,
    pub(crate) keys: Keys,
    pub(crate) category: Category,
    /// Whether a request counts against the quotas and the pace of the tier.
    pub(crate) metered: bool,
}

use Category::*;
use Keys::{Any, Refused, With};
use Who::{Admin, Anyone, Manager, Reader, Writer};

const GET: &str = "GET";
const POST: &str = "POST";
const PUT: &str = "PUT";
const DELETE: &str = "DELETE";

const fn rule(method: &'static str, path: &'static str, who: Who, keys: Keys, category: Category) -> Rule {
    Rule { method, path, who, keys, category, metered: false }
}

const fn metered(method: &'static str, path: &'static str, who: Who, keys: Keys, category: Category) -> Rule {
    Rule { method, path, who, keys, category, metered: true }
}

/// The table.
#[rustfmt::skip]
pub(crate) const RULES: &[Rule] = &[
    // accounts
    rule(POST,   "/auth/register",                          Anyone,  Refused, Auth),
    rule(POST,   "/auth/login",                             Anyone,  Refused, Auth),
    rule(POST,   "/auth/refresh",                           Anyone,  Refused, Auth),
    rule(POST,   "/auth/logout",                            Reader,  Refused, General),
    rule(PUT,    "/auth/password",                          Reader,  Refused, Profile),
    rule(POST,   "/auth/forgot-password",                   Anyone,  Refused, Auth),
    rule(POST,   "/auth/reset-password",                    Anyone,  Refused, Auth),
    rule(POST,   "/auth/mfa/setup",                         Reader,  Refused, Auth),
    rule(POST,   "/auth/mfa/enable",                        Reader,  Refused, Auth),
    rule(POST,   "/auth/mfa/disable",                       Reader,  Refused, Auth),
    rule(GET,    "/auth/sessions",                          Reader,  Refused, General),
    rule(DELETE, "/auth/sessions/{id}",                     Reader,  Refused, General),
    rule(GET,    "/auth/me",                                Reader,  Any,     Profile),
    rule(PUT,    "/auth/profile",                           Reader,  Refused, Profile),
    rule(GET,    "/users/me",                               Reader,  Any,     Profile),
    rule(PUT,    "/users/me",                               Reader,  Refused, Profile),
    rule(GET,    "/users/profile",                          Reader,  Any,     Profile),
    rule(PUT,    "/users/profile",                          Reader,  Refused, Profile),
    rule(GET,    "/mail/unsubscribe/{token}",               Anyone,  Refused, General),
    rule(POST,   "/mail/unsubscribe/{token}",               Anyone,  Refused, General),
    // API keys; no key makes another
    rule(GET,    "/api-keys",                               Reader,  Refused, General),
    rule(POST,   "/api-keys",                               Writer,  Refused, General),
    rule(GET,    "/api-keys/{id}",                          Reader,  Refused, General),
    rule(PUT,    "/api-keys/{id}",                          Writer,  Refused, General),
    rule(DELETE, "/api-keys/{id}",                          Writer,  Refused, General),
    rule(DELETE, "/users/me",                               Reader,  Refused, Profile),
    // organizations, their members, and who is to come
    rule(GET,    "/organizations",                          Reader,  Refused, General),
    rule(POST,   "/organizations",                          Reader,  Refused, General),
    rule(GET,    "/organizations/current",                  Reader,  With(OrganizationRead), General),
    rule(PUT,    "/organizations/current",                  Admin,   Refused, General),
    rule(POST,   "/organizations/current/leave",            Reader,  Refused, General),
    rule(POST,   "/organizations/{id}/switch",              Reader,  Refused, General),
    rule(GET,    "/organizations/current/members",          Reader,  With(OrganizationRead), General),
    rule(PUT,    "/organizations/current/members/{user_id}", Admin,  Refused, General),
    rule(DELETE, "/organizations/current/members/{user_id}", Admin,  Refused, General),
    rule(GET,    "/organizations/current/invitations",      Manager, Refused, General),
    rule(POST,   "/organizations/current/invitations",      Manager, Refused, General),
    rule(DELETE, "/organizations/current/invitations/{id}", Manager, Refused, General),
    rule(POST,   "/invitations/accept",                     Reader,  Refused, General),
    rule(GET,    "/organizations/current/audit",            Admin,   Refused, General),
    // pipelines, their runs and their schedules
    rule(GET,    "/pipelines",                              Reader,  With(PipelinesRead),    Pipelines),
    rule(POST,   "/pipelines",                              Writer,  With(PipelinesWrite),   Pipelines),
    rule(GET,    "/pipelines/node-types",                   Reader,  With(PipelinesRead),    Pipelines),
    rule(GET,    "/pipelines/{id}",                         Reader,  With(PipelinesRead),    Pipelines),
    rule(PUT,    "/pipelines/{id}",                         Writer,  With(PipelinesWrite),   Pipelines),
    rule(DELETE, "/pipelines/{id}",                         Writer,  With(PipelinesWrite),   Pipelines),
    rule(POST,   "/pipelines/{id}/duplicate",               Writer,  With(PipelinesWrite),   Pipelines),
    metered(POST, "/pipelines/{id}/run",                    Writer,  With(PipelinesExecute), Execution),
    rule(GET,    "/pipelines/{id}/schedules",               Reader,  With(PipelinesRead),    Pipelines),
    rule(POST,   "/pipelines/{id}/schedules",               Writer,  With(PipelinesWrite),   Pipelines),
    rule(GET,    "/pipelines/{id}/schedules/{schedule_id}", Reader,  With(PipelinesRead),    Pipelines),
    rule(PUT,    "/pipelines/{id}/schedules/{schedule_id}", Writer,  With(PipelinesWrite),   Pipelines),
    rule(DELETE, "/pipelines/{id}/schedules/{schedule_id}", Writer,  With(PipelinesWrite),   Pipelines),
    rule(GET,    "/executions",                             Reader,  With(PipelinesRead),    General),
    rule(GET,    "/executions/{id}",                        Reader,  With(PipelinesRead),    General),
    rule(GET,    "/executions/{id}/events",                 Reader,  With(PipelinesRead),    General),
    rule(POST,   "/executions/{id}/cancel",                 Writer,  With(PipelinesExecute), General),
    rule(POST,   "/executions/{id}/retry",                  Writer,  With(PipelinesExecute), Execution),
    // orchestrations, and what they leave
    metered(POST, "/orchestrate",                           Writer,  With(OrchestrationWrite), Execution),
    rule(GET,    "/orchestration",                          Reader,  With(OrchestrationRead), General),
    rule(GET,    "/orchestration/{run_id}",                 Reader,  With(OrchestrationRead), General),
    rule(GET,    "/orchestration/{run_id}/events",          Reader,  With(OrchestrationRead), General),
    rule(POST,   "/orchestration/{run_id}/cancel",          Writer,  With(OrchestrationWrite), General),
    rule(POST,   "/orchestration/{run_id}/retry",           Writer,  With(OrchestrationWrite), Execution),
    rule(GET,    "/projects/{project_id}/repository",       Reader,  With(ProjectsRead),      General),
    // projects, and what orchestrations are made from
    rule(GET,    "/projects",                               Reader,  With(ProjectsRead),   General),
    rule(POST,   "/projects",                               Writer,  With(ProjectsWrite),  General),
    rule(GET,    "/projects/{project_id}",                  Reader,  With(ProjectsRead),   General),
    rule(PUT,    "/projects/{project_id}",                  Writer,  With(ProjectsWrite),  General),
    rule(DELETE, "/projects/{project_id}",                  Writer,  With(ProjectsWrite),  General),
    rule(GET,    "/templates",                              Reader,  With(TemplatesRead),  General),
    rule(POST,   "/templates",                              Writer,  With(TemplatesWrite), General),
    rule(GET,    "/templates/{template_id}",                Reader,  With(TemplatesRead),  General),
    rule(PUT,    "/templates/{template_id}",                Writer,  With(TemplatesWrite), General),
    rule(DELETE, "/templates/{template_id}",                Writer,  With(TemplatesWrite), General),
    // models; the socket looks at its credentials itself
    metered(POST, "/ai/chat",                               Writer,  With(AiWrite),   Ai),
    metered(POST, "/ai/generate",                           Writer,  With(AiWrite),   Ai),
    rule(GET,    "/ai/models",                              Reader,  With(AiRead),    General),
    rule(GET,    "/ai/stream",                              Anyone,  With(AiWrite),   General),
    rule(GET,    "/ai/usage",                               Reader,  With(UsageRead), General),
    rule(GET,    "/usage",                                  Reader,  With(UsageRead), General),
    metered(POST, "/chat",                                  Writer,  With(AiWrite),   Ai),
    rule(GET,    "/chat/history",                           Reader,  With(AiRead),    General),
    rule(DELETE, "/chat/history",                           Writer,  With(AiWrite),   General),
    // products and their images
    rule(GET,    "/products",                               Reader,  With(ProductsRead),  General),
    rule(POST,   "/products",                               Writer,  With(ProductsWrite), General),
    rule(GET,    "/products/{product_id}",                  Reader,  With(ProductsRead),  General),
    rule(PUT,    "/products/{product_id}",                  Writer,  With(ProductsWrite), General),
    rule(DELETE, "/products/{product_id}",                  Writer,  With(ProductsWrite), General),
    rule(PUT,    "/products/{product_id}/images/{image_id}", Writer, With(ProductsWrite), General),
    rule(DELETE, "/products/{product_id}/images/{image_id}", Writer, With(ProductsWrite), General),
    rule(POST,   "/uploads/presigned-url",                  Writer,  With(ProductsWrite), Uploads),
    metered(POST, "/uploads/confirm",                       Writer,  With(ProductsWrite), Uploads),
    metered(POST, "/uploads/direct",                        Writer,  With(ProductsWrite), Uploads),
    // webhooks and what was delivered to them
    rule(GET,    "/webhooks",                               Reader,  With(WebhooksRead),  General),
    rule(POST,   "/webhooks",                               Writer,  With(WebhooksWrite), General),
    rule(GET,    "/webhooks/{id}",                          Reader,  With(WebhooksRead),  General),
    rule(PUT,    "/webhooks/{id}",                          Writer,  With(WebhooksWrite), General),
    rule(DELETE, "/webhooks/{id}",                          Writer,  With(WebhooksWrite), General),
    rule(POST,   "/webhooks/{id}/test",                     Writer,  With(WebhooksWrite), General),
    rule(POST,   "/webhooks/{id}/rotate-secret",            Writer,  With(WebhooksWrite), General),
    rule(GET,    "/webhooks/{id}/deliveries",               Reader,  With(WebhooksRead),  General),
    rule(GET,    "/webhooks/{id}/deliveries/{delivery_id}", Reader,  With(WebhooksRead),  General),
    rule(POST,   "/webhooks/{id}/deliveries/{delivery_id}/redeliver", Writer, With(WebhooksWrite), General),
    rule(POST,   "/webhooks/{id}/replay",                   Writer,  With(WebhooksWrite), General),
    // analyses
    rule(GET,    "/products/{product_id}/analysis",         Reader,  With(AnalysisRead),  Analysis),
    rule(GET,    "/analysis/{image_id}",                    Reader,  With(AnalysisRead),  Analysis),
    metered(POST, "/analysis/{image_id}/retry",             Writer,  With(AnalysisWrite), Analysis),
    metered(POST, "/batch",                                 Writer,  With(AnalysisWrite), Analysis),
    rule(GET,    "/batch/{job_id}",                         Reader,  With(AnalysisRead),  Analysis),
    rule(DELETE, "/batch/{job_id}",                         Writer,  With(AnalysisWrite), Analysis),
    rule(GET,    "/jobs",                                   Reader,  With(AnalysisRead),  General),
    rule(GET,    "/jobs/{job_id}",                          Reader,  With(AnalysisRead),  General),
    rule(POST,   "/jobs/{job_id}/cancel",                   Writer,  With(AnalysisWrite), General),
    rule(GET,    "/dashboard/stats",                        Reader,  With(UsageRead),     General),
    rule(GET,    "/dashboard/recent",                       Reader,  With(UsageRead),     General),
    rule(GET,    "/dashboard/category-distribution",        Reader,  With(UsageRead),     General),
    // files; the bytes are for whoever has their signed URL
    rule(POST,   "/files/upload",                           Writer,  With(FilesWrite),    Uploads),
    rule(GET,    "/files",                                  Reader,  With(FilesRead),     General),
    rule(GET,    "/files/{id}",                             Reader,  With(FilesRead),     General),
    rule(DELETE, "/files/{id}",                             Writer,  With(FilesWrite),    General),
    rule(GET,    "/files/{id}/content",                     Anyone,  Refused,             Signed),
    // figures of the organization
    rule(GET,    "/analytics/usage",                        Reader,  With(UsageRead),     General),
    rule(GET,    "/analytics/performance",                  Manager, With(UsageRead),     General),
];

static BY_ROUTE: LazyLock<HashMap<(&str, &str), &Rule>> =
    LazyLock::new(|| RULES.iter().map(|rule| ((rule.method, rule.path), rule)).collect());

/// The rule of a route: its canonical method, and its pattern with [`PREFIX`].
pub(crate) fn find(method: &Method, pattern: &str) -> Option<&'static Rule> {
    let path = pattern.strip_prefix(PREFIX)?;
    BY_ROUTE.get(&(method.as_str(), path)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use utoipa::openapi::path::PathItem;

    fn methods(item: &PathItem) -> impl Iterator<Item = &'static str> {
        let there = [
            (item.get.is_some(), GET),
            (item.post.is_some(), POST),
            (item.put.is_some(), PUT),
            (item.delete.is_some(), DELETE),
        ];
        there.into_iter().filter_map(|(there, method)| there.then_some(method))
    }

    #[test]
    fn every_route_has_one_rule_and_every_rule_a_route() {
        let document = crate::routes::document();
        let routes: BTreeSet<(&str, &str)> = document
            .paths
            .paths
            .iter()
            .filter_map(|(path, item)| Some((path.strip_prefix(PREFIX)?, item)))
            .flat_map(|(path, item)| methods(item).map(move |method| (path, method)))
            .collect();
        let rules: BTreeSet<(&str, &str)> = RULES.iter().map(|rule| (rule.path, rule.method)).collect();
        assert_eq!(rules.len(), RULES.len(), "a route has two rules");
        let (bare, idle): (Vec<_>, Vec<_>) = (routes.difference(&rules).collect(), rules.difference(&routes).collect());
        assert!(bare.is_empty() && idle.is_empty(), "without a rule: {bare:?}; without a route: {idle:?}");
    }

    #[test]
    fn nobody_changes_anything_with_a_key_that_only_reads() {
        for rule in RULES.iter().filter(|rule| rule.method != GET) {
            if let With(permission) = rule.keys {
                assert!(!permission.as_str().ends_with(":read"), "{} {}", rule.method, rule.path);
            }
        }
    }
}
