//! `git_operations`: the file of a phase becomes a commit in the repository of the project.
//!
//! The repository is one object in the store, a bundle, and a row that names it. A commit makes a new object; the row is
//! changed when the step is recorded, if it still says what the commit was built on. Otherwise the whole is done again.

use super::bundle::{self, BundleError, Change};
use crate::nodes::{Trouble, output::Output, ran::Left, scope::Scope};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::json;
use shared::{
    models::{Orchestration, ProjectRepository},
    orchestration::{phase_code, phase_filename},
    storage,
};

/// Most bytes of a bundle.
const MAX: u64 = 64 * 1024 * 1024;

pub(super) async fn commit(
    scope: &Scope<'_>,
    run: &Orchestration,
    phase: usize,
    text: &str,
    at: DateTime<Utc>,
) -> Result<Output, Trouble> {
    let context = scope.run.context;
    let before = ProjectRepository::find(&mut *context.pool.get().await?, run.project_id).await?;
    let earlier = match &before {
        Some(before) => Some(load(scope, before).await?),
        None => None,
    };
    let filename = phase_filename(run, phase);
    let change = Change {
        subject: format!("{}: {}", phase_code(phase), run.phases.get(phase).map(String::as_str).unwrap_or_default()),
        run: run.id,
        phase,
        filename: filename.clone(),
        text: text.to_owned(),
        at,
    };
    let committed = tokio::task::spawn_blocking(move || bundle::commit(earlier.as_deref(), &change)).await;
    let committed = committed.map_err(|_| Trouble::integration("The commit could not be made.", true))?;
    let committed = committed.map_err(of_bundle)?;
    let left = match committed.bundle {
        // it was made before, by an attempt that could not say so
        None => None,
        Some(bundle) => {
            if u64::try_from(bundle.len()).is_ok_and(|size| size > MAX) {
                return Err(Trouble::integration("The repository of the project is full.", false));
            }
            let repository = ProjectRepository {
                project_id: run.project_id,
                s3_key: storage::repository_key(run.project_id, &committed.commit),
                head: committed.commit.clone(),
                size: i64::try_from(bundle.len()).unwrap_or(i64::MAX),
                commits: before.as_ref().map_or(0, |before| before.commits).saturating_add(1),
                updated_at: Utc::now(),
            };
            let put = context.storage.put(&repository.s3_key, Bytes::from(bundle), "application/x-git-bundle").await;
            put.map_err(of_store)?;
            Some(Left::Repository(repository, before))
        }
    };
    let text = Some(format!("The file {filename} was committed."));
    let facts = json!({ "commit": committed.commit, "branch": bundle::BRANCH, "filename": filename });
    Ok(Output { text, json: Some(facts), left, ..Output::default() })
}

async fn load(scope: &Scope<'_>, repository: &ProjectRepository) -> Result<Bytes, Trouble> {
    let bundle = scope.run.context.storage.get(&repository.s3_key, MAX).await.map_err(of_store)?;
    // somebody may have replaced it since the row was read
    bundle.ok_or_else(|| Trouble::integration("The repository of the project is not in the object store.", true))
}

fn of_store(error: anyhow::Error) -> Trouble {
    tracing::warn!(error = format!("{error:#}"), "the object store did not answer about a repository");
    Trouble::integration("The object store did not answer.", true)
}

fn of_bundle(error: BundleError) -> Trouble {
    Trouble::integration(format!("The commit could not be made: {error}."), error.is_passing())
}
