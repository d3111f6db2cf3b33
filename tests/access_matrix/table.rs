//! The matrix, from the contract: the roles, what is shared with whom, and what keys may be allowed.

use super::people::Person;
use reqwest::Method;
use serde_json::{Value, json};
use std::fmt;

/// Who may, in the current organization.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Roles {
    /// No credentials are asked for.
    Anyone,
    All,
    /// All but viewers.
    Writers,
    Managers,
    Admins,
}

impl Roles {
    pub(super) fn include(self, role: &str) -> bool {
        let least = match self {
            Self::Anyone | Self::All => 0,
            Self::Writers => 1,
            Self::Managers => 2,
            Self::Admins => 3,
        };
        let rank = ["viewer", "member", "manager", "admin"].iter().position(|known| *known == role);
        rank.is_some_and(|rank| rank >= least)
    }
}

/// Whose the thing is that the path names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing {
    /// There is none, or it is the organization's.
    Nothing,
    /// One user's; nobody else sees it.
    Own,
    /// The organization's: whoever may at all may with everybody's.
    Shared,
    /// Shared, but this is for its owner, and for managers and admins.
    Decided,
}

/// What an API key has to be allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// No key opens it.
    None,
    /// Every key does.
    Any,
    With(&'static str),
}

pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) roles: Roles,
    pub(super) key: Key,
    pub(super) thing: Thing,
    /// A body that is right in itself.
    pub(super) body: Option<fn(&Person) -> Value>,
    /// Whether the body names things of the user.
    pub(super) names_in_body: bool,
}

impl Route {
    pub(super) fn method(&self) -> Method {
        self.method.parse().unwrap()
    }

    pub(super) fn has_id(&self) -> bool {
        self.path.contains('{')
    }

    const fn with(mut self, body: fn(&Person) -> Value) -> Self {
        self.body = Some(body);
        self
    }

    const fn naming(mut self, body: fn(&Person) -> Value) -> Self {
        self.names_in_body = true;
        self.with(body)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

use Key::{Any, With};
use Roles::{Admins, All, Anyone, Managers, Writers};
use Thing::{Decided, Nothing, Own, Shared};

const fn route(method: &'static str, path: &'static str, roles: Roles, key: Key, thing: Thing) -> Route {
    Route { method, path, roles, key, thing, body: None, names_in_body: false }
}

/// Permissions of keys.
pub(super) const PERMISSIONS: &[&str] = &[
    "ai:read",
    "ai:write",
    "usage:read",
    "webhooks:read",
    "webhooks:write",
    "pipelines:read",
    "pipelines:write",
    "pipelines:execute",
    "projects:read",
    "projects:write",
    "orchestration:read",
    "orchestration:write",
    "templates:read",
    "templates:write",
    "files:read",
    "files:write",
    "products:read",
    "products:write",
    "analysis:read",
    "analysis:write",
    "organization:read",
    "*",
];

/// Outside of the prefix: for whoever comes. Sockets look at credentials themselves.
pub(super) const OPEN: &[&str] = &[
    "/docs",
    "/docs/{file}",
    "/health",
    "/invitations/accept",
    "/metrics",
    "/openapi.json",
    "/openapi.yaml",
    "/ready",
    "/redoc",
    "/redoc/{file}",
    "/reset-password",
    "/socket.io",
    "/ws",
    "/ws/processing/{job_id}",
];

const NONE: Key = Key::None;

/// Things are deleted in the order of the table, parts before what they are a part of; the end of the own place is last.
#[rustfmt::skip]
pub(super) const ROUTES: &[Route] = &[
    // the own account: every role, and keys only read it
    route("POST",   "/auth/register",                           Anyone,   NONE,                      Nothing),
    route("POST",   "/auth/login",                              Anyone,   NONE,                      Nothing),
    route("POST",   "/auth/refresh",                            Anyone,   NONE,                      Nothing),
    route("POST",   "/auth/logout",                             All,      NONE,                      Nothing),
    route("PUT",    "/auth/password",                           All,      NONE,                      Nothing),
    route("GET",    "/auth/me",                                 All,      Any,                       Nothing),
    route("PUT",    "/auth/profile",                            All,      NONE,                      Nothing),
    route("GET",    "/users/me",                                All,      Any,                       Nothing),
    route("PUT",    "/users/me",                                All,      NONE,                      Nothing),
    route("DELETE", "/users/me",                                All,      NONE,                      Nothing),
    route("GET",    "/users/profile",                           All,      Any,                       Nothing),
    route("PUT",    "/users/profile",                           All,      NONE,                      Nothing),
    route("POST",   "/auth/forgot-password",                    Anyone,   NONE,                      Nothing),
    route("POST",   "/auth/reset-password",                     Anyone,   NONE,                      Nothing),
    route("POST",   "/auth/mfa/setup",                          All,      NONE,                      Nothing),
    route("POST",   "/auth/mfa/enable",                         All,      NONE,                      Nothing),
    route("POST",   "/auth/mfa/disable",                        All,      NONE,                      Nothing),
    route("GET",    "/auth/sessions",                           All,      NONE,                      Nothing),
    // API keys: one user's, and no key makes another
    route("GET",    "/api-keys",                                All,      NONE,                      Nothing),
    route("POST",   "/api-keys",                                Writers,  NONE,                      Nothing),
    route("GET",    "/api-keys/{id}",                           All,      NONE,                      Own),
    route("PUT",    "/api-keys/{id}",                           Writers,  NONE,                      Own)
        .with(|_| json!({ "name": "Mine" })),
    // whoever has the token of a mail
    route("GET",    "/mail/unsubscribe/{token}",                Anyone,   NONE,                      Nothing),
    route("POST",   "/mail/unsubscribe/{token}",                Anyone,   NONE,                      Nothing),
    // organizations: everybody has a place, admins decide about it
    route("GET",    "/organizations",                           All,      NONE,                      Nothing),
    route("POST",   "/organizations",                           All,      NONE,                      Nothing),
    route("GET",    "/organizations/current",                   All,      With("organization:read"), Nothing),
    route("PUT",    "/organizations/current",                   Admins,   NONE,                      Nothing),
    route("GET",    "/organizations/current/members",           All,      With("organization:read"), Nothing),
    route("PUT",    "/organizations/current/members/{user_id}", Admins,   NONE,                      Shared)
        .with(|_| json!({ "role": "viewer" })),
    route("GET",    "/organizations/current/invitations",       Managers, NONE,                      Nothing),
    route("POST",   "/organizations/current/invitations",       Managers, NONE,                      Nothing),
    route("GET",    "/organizations/current/audit",             Admins,   NONE,                      Nothing),
    route("POST",   "/organizations/{id}/switch",               All,      NONE,                      Shared),
    route("POST",   "/invitations/accept",                      All,      NONE,                      Nothing),
    // pipelines and runs: the organization's
    route("GET",    "/pipelines",                               All,      With("pipelines:read"),    Nothing),
    route("POST",   "/pipelines",                               Writers,  With("pipelines:write"),   Nothing),
    route("GET",    "/pipelines/node-types",                    All,      With("pipelines:read"),    Nothing),
    route("GET",    "/pipelines/{id}",                          All,      With("pipelines:read"),    Shared),
    route("PUT",    "/pipelines/{id}",                          Writers,  With("pipelines:write"),   Shared)
        .with(|_| json!({ "name": "Mine" })),
    route("POST",   "/pipelines/{id}/duplicate",                Writers,  With("pipelines:write"),   Shared),
    route("POST",   "/pipelines/{id}/run",                      Writers,  With("pipelines:execute"), Shared)
        .with(|_| json!({ "inputs": { "in": { "text": "hello" } } })),
    route("GET",    "/pipelines/{id}/schedules",                All,      With("pipelines:read"),    Shared),
    route("POST",   "/pipelines/{id}/schedules",                Writers,  With("pipelines:write"),   Shared)
        .with(|_| json!({ "cron": "0 3 * * *", "inputs": { "in": { "text": "hello" } } })),
    route("GET",    "/pipelines/{id}/schedules/{schedule_id}",  All,      With("pipelines:read"),    Shared),
    route("PUT",    "/pipelines/{id}/schedules/{schedule_id}",  Writers,  With("pipelines:write"),   Shared)
        .with(|_| json!({ "enabled": false })),
    route("GET",    "/executions",                              All,      With("pipelines:read"),    Nothing),
    route("GET",    "/executions/{id}",                         All,      With("pipelines:read"),    Shared),
    route("GET",    "/executions/{id}/events",                  All,      With("pipelines:read"),    Shared),
    route("POST",   "/executions/{id}/cancel",                  Writers,  With("pipelines:execute"), Decided),
    route("POST",   "/executions/{id}/retry",                   Writers,  With("pipelines:execute"), Shared),
    // orchestrations, and what they leave: the organization's
    route("POST",   "/orchestrate",                             Writers,  With("orchestration:write"), Nothing)
        .naming(|of| json!({ "project_id": of.id("/projects/{project_id}") })),
    route("GET",    "/orchestration",                           All,      With("orchestration:read"), Nothing),
    route("GET",    "/orchestration/{run_id}",                  All,      With("orchestration:read"), Shared),
    route("GET",    "/orchestration/{run_id}/events",           All,      With("orchestration:read"), Shared),
    route("POST",   "/orchestration/{run_id}/cancel",           Writers,  With("orchestration:write"), Decided),
    route("POST",   "/orchestration/{run_id}/retry",            Writers,  With("orchestration:write"), Shared),
    route("GET",    "/projects/{project_id}/repository",        All,      With("projects:read"),     Shared),
    // projects and templates: the organization's
    route("GET",    "/projects",                                All,      With("projects:read"),     Nothing),
    route("POST",   "/projects",                                Writers,  With("projects:write"),    Nothing),
    route("GET",    "/projects/{project_id}",                   All,      With("projects:read"),     Shared),
    route("PUT",    "/projects/{project_id}",                   Writers,  With("projects:write"),    Shared)
        .with(|_| json!({ "name": "Mine" })),
    route("GET",    "/templates",                               All,      With("templates:read"),    Nothing),
    route("POST",   "/templates",                               Writers,  With("templates:write"),   Nothing),
    route("GET",    "/templates/{template_id}",                 All,      With("templates:read"),    Shared),
    route("PUT",    "/templates/{template_id}",                 Writers,  With("templates:write"),   Decided)
        .with(|_| json!({ "name": "Mine" })),
    // webhooks: one user's
    route("GET",    "/webhooks",                                All,      With("webhooks:read"),     Nothing),
    route("POST",   "/webhooks",                                Writers,  With("webhooks:write"),    Nothing),
    route("GET",    "/webhooks/{id}",                           All,      With("webhooks:read"),     Own),
    route("PUT",    "/webhooks/{id}",                           Writers,  With("webhooks:write"),    Own)
        .with(|_| json!({ "name": "Mine" })),
    route("POST",   "/webhooks/{id}/test",                      Writers,  With("webhooks:write"),    Own),
    route("POST",   "/webhooks/{id}/rotate-secret",             Writers,  With("webhooks:write"),    Own),
    route("GET",    "/webhooks/{id}/deliveries",                All,      With("webhooks:read"),     Own),
    route("GET",    "/webhooks/{id}/deliveries/{delivery_id}",  All,      With("webhooks:read"),     Own),
    route("POST",   "/webhooks/{id}/deliveries/{delivery_id}/redeliver", Writers, With("webhooks:write"), Own),
    route("POST",   "/webhooks/{id}/replay",                    Writers,  With("webhooks:write"),    Own)
        .with(|_| json!({ "since": "2026-01-01T00:00:00Z" })),
    // models
    route("POST",   "/ai/chat",                                 Writers,  With("ai:write"),          Nothing),
    route("POST",   "/ai/generate",                             Writers,  With("ai:write"),          Nothing),
    route("GET",    "/ai/models",                               All,      With("ai:read"),           Nothing),
    route("GET",    "/ai/stream",                               Anyone,   NONE,                      Nothing),
    route("GET",    "/ai/usage",                                All,      With("usage:read"),        Nothing),
    route("GET",    "/usage",                                   All,      With("usage:read"),        Nothing),
    route("POST",   "/chat",                                    Writers,  With("ai:write"),          Nothing),
    route("GET",    "/chat/history",                            All,      With("ai:read"),           Nothing),
    route("DELETE", "/chat/history",                            Writers,  With("ai:write"),          Nothing),
    // products, their images and analyses: one user's
    route("GET",    "/products",                                All,      With("products:read"),     Nothing),
    route("POST",   "/products",                                Writers,  With("products:write"),    Nothing),
    route("GET",    "/products/{product_id}",                   All,      With("products:read"),     Own),
    route("PUT",    "/products/{product_id}",                   Writers,  With("products:write"),    Own)
        .with(|_| json!({ "title": "Mine" })),
    route("GET",    "/products/{product_id}/analysis",          All,      With("analysis:read"),     Own),
    route("PUT",    "/products/{product_id}/images/{image_id}", Writers,  With("products:write"),    Own)
        .with(|_| json!({ "is_primary": true })),
    route("POST",   "/uploads/presigned-url",                   Writers,  With("products:write"),    Nothing)
        .naming(|of| json!({
            "product_id": of.id("/products/{product_id}"), "filename": "mug.jpg", "content_type": "image/jpeg",
            "file_size_bytes": 1,
        })),
    route("POST",   "/uploads/confirm",                         Writers,  With("products:write"),    Nothing)
        .naming(|of| json!({ "image_id": of.id("/analysis/{image_id}") })),
    route("POST",   "/uploads/direct",                          Writers,  With("products:write"),    Nothing),
    route("GET",    "/analysis/{image_id}",                     All,      With("analysis:read"),     Own),
    route("POST",   "/analysis/{image_id}/retry",               Writers,  With("analysis:write"),    Own),
    route("POST",   "/batch",                                   Writers,  With("analysis:write"),    Nothing)
        .naming(|of| json!({
            "product_id": of.id("/products/{product_id}"), "image_ids": [of.id("/analysis/{image_id}")],
        })),
    route("GET",    "/batch/{job_id}",                          All,      With("analysis:read"),     Own),
    route("GET",    "/jobs",                                    All,      With("analysis:read"),     Nothing),
    route("GET",    "/jobs/{job_id}",                           All,      With("analysis:read"),     Own),
    route("POST",   "/jobs/{job_id}/cancel",                    Writers,  With("analysis:write"),    Own),
    route("GET",    "/dashboard/stats",                         All,      With("usage:read"),        Nothing),
    route("GET",    "/dashboard/recent",                        All,      With("usage:read"),        Nothing),
    route("GET",    "/dashboard/category-distribution",         All,      With("usage:read"),        Nothing),
    // files: one user's; their bytes are for whoever has a signed URL
    route("POST",   "/files/upload",                            Writers,  With("files:write"),       Nothing),
    route("GET",    "/files",                                   All,      With("files:read"),        Nothing),
    route("GET",    "/files/{id}",                              All,      With("files:read"),        Own),
    route("GET",    "/files/{id}/content",                      Anyone,   NONE,                      Nothing),
    // figures: the organization's
    route("GET",    "/analytics/usage",                         All,      With("usage:read"),        Nothing),
    route("GET",    "/analytics/performance",                   Managers, With("usage:read"),        Nothing),
    // what ends something
    route("DELETE", "/auth/sessions/{id}",                      All,      NONE,                      Own),
    route("DELETE", "/api-keys/{id}",                           Writers,  NONE,                      Own),
    route("DELETE", "/files/{id}",                              Writers,  With("files:write"),       Own),
    route("DELETE", "/webhooks/{id}",                           Writers,  With("webhooks:write"),    Own),
    route("DELETE", "/batch/{job_id}",                          Writers,  With("analysis:write"),    Own),
    route("DELETE", "/products/{product_id}/images/{image_id}", Writers,  With("products:write"),    Own),
    route("DELETE", "/products/{product_id}",                   Writers,  With("products:write"),    Own),
    route("DELETE", "/pipelines/{id}/schedules/{schedule_id}",  Writers,  With("pipelines:write"),   Shared),
    route("DELETE", "/pipelines/{id}",                          Writers,  With("pipelines:write"),   Decided),
    route("DELETE", "/projects/{project_id}",                   Writers,  With("projects:write"),    Decided),
    route("DELETE", "/templates/{template_id}",                 Writers,  With("templates:write"),   Decided),
    route("DELETE", "/organizations/current/invitations/{id}",  Managers, NONE,                      Shared),
    route("DELETE", "/organizations/current/members/{user_id}", Admins,   NONE,                      Shared),
    route("POST",   "/organizations/current/leave",             All,      NONE,                      Nothing),
];
