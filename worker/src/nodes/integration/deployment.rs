//! `deployment`: tells a deploy hook that everything is there. The hook is called under the rules of webhooks and signed
//! like them, with the same id at each try.

use crate::{
    nodes::{
        Trouble,
        output::Output,
        scope::{Arrived, Scope},
    },
    outbound::OutboundError,
};
use bytes::Bytes;
use chrono::SecondsFormat;
use serde_json::{Value, json};
use shared::{
    models::{Orchestration, Organization, Project},
    orchestration::{DEPLOY_HOOK_SECRET, DEPLOY_HOOK_URL, plan},
};
use uuid::Uuid;

/// Where to, and what it is signed with. The secret is told nobody.
struct Hook {
    url: String,
    secret: Option<String>,
}

impl Hook {
    /// The hook among free-form settings, if there is one.
    fn read(settings: &Value) -> Option<Self> {
        let text = |key: &str| settings.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty());
        Some(Self { url: text(DEPLOY_HOOK_URL)?.to_owned(), secret: text(DEPLOY_HOOK_SECRET).map(ToOwned::to_owned) })
    }

    /// The project's, or else the organization's.
    async fn find(scope: &Scope<'_>, run: &Orchestration) -> Result<Self, Trouble> {
        let mut conn = scope.run.context.pool.get().await?;
        let project = Project::find(&mut conn, run.project_id, run.organization_id).await?;
        if let Some(hook) = project.as_ref().and_then(|project| Self::read(&project.metadata)) {
            return Ok(hook);
        }
        let organization = Organization::get(&mut conn, run.organization_id).await?;
        Self::read(&organization.settings).ok_or_else(|| {
            let message = format!(
                "There is no deploy hook: neither the project's metadata nor the organization's settings have {DEPLOY_HOOK_URL}."
            );
            Trouble::integration(message, false)
        })
    }
}

pub(super) async fn request(
    scope: &Scope<'_>,
    run: &Orchestration,
    step: &str,
    arrived: &Arrived,
) -> Result<Output, Trouble> {
    let hook = Hook::find(scope, run).await?;
    let id = Uuid::new_v5(&run.id, step.as_bytes());
    let body = json!({ "id": id, "event": "deployment.requested", "data": data(run, arrived) }).to_string();
    let sent = scope.run.context.webhooks.post(&hook.url, id, hook.secret.as_deref(), Bytes::from(body)).await;
    let status = sent.map_err(of_outbound)?;
    let code = status.as_u16();
    if status.is_success() {
        let text = Some(format!("The deploy hook answered {code}."));
        return Ok(Output { text, json: Some(json!({ "response_status": code })), ..Output::default() });
    }
    let why = if status.is_redirection() { "; redirects are not followed" } else { "" };
    // a receiver in trouble may recover; one that does not like the request will not
    let passing = status.is_server_error() || matches!(code, 408 | 425 | 429);
    Err(Trouble::integration(format!("The deploy hook answered {code}{why}."), passing))
}

/// What the hook is told: the run, and what it has left.
fn data(run: &Orchestration, arrived: &Arrived) -> Value {
    let operations = plan(run).into_iter().filter(|planned| planned.operation().is_some());
    let facts: Vec<Value> = operations.filter_map(|planned| arrived.known.get(&planned.step)?.json.clone()).collect();
    let files = facts.iter().filter(|facts| facts.get("file_id").is_some());
    let newest = facts.iter().rev().find_map(|facts| facts.get("commit"));
    json!({
        "run_id": run.id,
        "project_id": run.project_id,
        "topic": run.topic,
        "phases": run.phases,
        "files": files.collect::<Vec<_>>(),
        "commit": newest,
        "timestamp": arrived.since.to_rfc3339_opts(SecondsFormat::Micros, true),
    })
}

fn of_outbound(error: OutboundError) -> Trouble {
    Trouble::integration(format!("The deploy hook was not asked or gave no answer: {error}."), error.is_passing())
}
