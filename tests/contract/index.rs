//! Every request line that a document prints, as it prints it: method, path, alias. None of them is unknown here.

use harness::World;
use reqwest::{Method, StatusCode};
use uuid::Uuid;

/// Methods and paths, document by document; a word after a colon, or in braces, stands for an id.
const PRINTED: &[(&str, &[(&str, &str)])] = &[
    (
        "Imaginarium",
        &[
            ("POST", "/auth/login /auth/register /auth/refresh /auth/logout"),
            ("GET POST", "/api/pipelines"),
            ("GET PUT DELETE", "/api/pipelines/:id"),
            ("POST", "/api/pipelines/:id/run"),
            ("GET", "/api/executions /api/executions/:id"),
            ("GET PUT", "/api/users/profile"),
        ],
    ),
    (
        "AI API Playground",
        &[
            ("POST", "/api/auth/register /api/auth/login /api/auth/logout"),
            ("GET", "/api/auth/me"),
            ("PUT", "/api/auth/profile /api/auth/password"),
            ("POST", "/api/v1/ai/chat /api/v1/ai/generate"),
            ("GET", "/api/v1/ai/models /api/v1/ai/usage"),
            ("POST GET", "/api/v1/api-keys"),
            ("GET PUT DELETE", "/api/v1/api-keys/:id"),
            ("POST GET", "/api/v1/webhooks"),
            ("PUT DELETE", "/api/v1/webhooks/:id"),
            ("GET", "/api/v1/usage"),
        ],
    ),
    (
        "Dev-PyNode",
        &[
            ("GET", "/health /ready /metrics /docs /openapi.json /openapi.yaml"),
            ("POST", "/api/auth/register /api/auth/login /api/auth/refresh /api/auth/logout"),
            ("GET PUT", "/api/users/me"),
            ("POST", "/api/chat"),
            ("GET", "/api/chat/history"),
            ("POST", "/api/files/upload"),
            ("GET", "/api/files"),
            ("GET DELETE", "/api/files/{id}"),
        ],
    ),
    (
        "ImagineAI",
        &[
            ("POST", "/api/v1/auth/register /api/v1/auth/login /api/v1/auth/refresh"),
            ("GET", "/api/v1/auth/me"),
            ("GET POST", "/api/v1/products"),
            ("GET PATCH DELETE", "/api/v1/products/{product_id}"),
            ("GET", "/api/v1/products/{product_id}/analysis"),
            ("POST", "/api/v1/uploads/presigned-url /api/v1/uploads/confirm /api/v1/uploads/direct"),
            ("GET", "/api/v1/analysis/{image_id}"),
            ("POST", "/api/v1/analysis/{image_id}/retry"),
            ("POST", "/api/v1/batch"),
            ("GET DELETE", "/api/v1/batch/{job_id}"),
            ("GET", "/api/v1/jobs /api/v1/jobs/{job_id}"),
            ("GET", "/api/v1/dashboard/stats /api/v1/dashboard/recent /api/v1/dashboard/category-distribution"),
            ("GET", "/health /ready /docs /redoc"),
        ],
    ),
    (
        "AI Orchestrator Platform",
        &[
            ("POST", "/v1/auth/login /v1/auth/refresh /v1/auth/logout"),
            ("GET PUT", "/v1/organizations/current"),
            ("GET POST", "/v1/projects"),
            ("GET PUT DELETE", "/v1/projects/{project_id}"),
            ("POST", "/v1/orchestrate"),
            ("GET", "/v1/orchestration /v1/orchestration/{run_id}"),
            ("POST", "/v1/orchestration/{run_id}/cancel"),
            ("GET POST", "/v1/templates"),
            ("GET", "/v1/templates/{template_id}"),
            ("GET", "/v1/analytics/usage /v1/analytics/performance"),
            ("GET POST", "/v1/webhooks"),
            ("PUT", "/v1/webhooks/{webhook_id}"),
        ],
    ),
];

/// A path with an id in each of its places.
fn filled(path: &str) -> String {
    let parts = path
        .split('/')
        .map(|part| if part.starts_with([':', '{']) { Uuid::now_v7().to_string() } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_printed_request_line_leads_to_its_endpoint() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let mut lines = 0;
    for (document, rows) in PRINTED {
        for (methods, paths) in *rows {
            for (method, path) in methods.split(' ').flat_map(|method| paths.split(' ').map(move |path| (method, path)))
            {
                let request = client.request(method.parse::<Method>().unwrap(), &filled(path));
                let answer = client.send(request).await;
                // without credentials: what is there asks for them, or for a body, or answers; what is not there is a 404
                let there = [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED];
                assert!(there.contains(&answer.status), "{document}: {method} {path} answers {}", answer.status);
                lines += 1;
            }
        }
    }
    assert!(lines > 80, "{lines} lines were walked");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_path_is_the_same_endpoint_and_nothing_else_is() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    for path in ["/api/v1/projects", "/api/projects", "/v1/projects", "/v1/projects/"] {
        assert_eq!(client.send(client.request(Method::GET, path)).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    // sockets are there, too: a plain request is told what they want
    for path in ["/ws", "/v1/ai/stream", "/api/v1/ai/stream"] {
        let status = client.send(client.request(Method::GET, path)).await.status;
        assert!(status.is_client_error() && status != StatusCode::NOT_FOUND, "{path}: {status}");
    }
    for path in ["/api/v2/projects", "/v2/projects", "/projects", "/docs/api/migrations/v1-to-v2.md", "/api/v1/nothing"]
    {
        let answer = client.send(client.request(Method::GET, path)).await;
        assert_eq!(
            (answer.status, answer.body["error"]["code"].as_str()),
            (StatusCode::NOT_FOUND, Some("RESOURCE_NOT_FOUND")),
            "{path}"
        );
    }
}
