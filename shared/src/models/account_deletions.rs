//! The end of an account: what was the user's own goes, what organizations share stays.

use super::{
    AuditEntry, Cancelled, Job, JobStatus, Membership, NewAudit, ObjectDeletion, StoppedJobs, memberships::hold_all_of,
};
use crate::{
    kind::Kind,
    schema::{
        executions, idempotency_keys, jobs, llm_calls, memberships, orchestrations, organizations, pipelines,
        product_images, quota_windows, users,
    },
};
use diesel::{
    dsl::{exists, not, select},
    prelude::*,
    sql_types::{Array, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::json;
use uuid::Uuid;

/// What became of a request to delete an account.
#[derive(Debug)]
pub enum AccountDeletion {
    /// It is gone, if the caller's transaction commits.
    Done(DeletedAccount),
    /// The user is the last admin of an organization with other members; its name.
    LastAdmin(String),
}

/// What is to be told when an account is gone.
#[derive(Debug, Default)]
pub struct DeletedAccount {
    /// Jobs that were open: runs that others can still read, and work that is gone with its row.
    pub stopped: StoppedJobs,
}

impl DeletedAccount {
    /// Deletes an account in the caller's transaction.
    ///
    /// Pipelines, schedules, projects, templates and runs in organizations with other members are handed over to the admin who has been there
    /// longest; the organizations' figures of usage stay without a name. Organizations that nobody else belongs to go with
    /// all that is in them. Objects are left to the scheduler.
    ///
    /// Rows are locked as everybody does who locks several: organizations, jobs by their ids, the user.
    pub async fn delete(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<AccountDeletion> {
        let (mut left_alone, mut shared) = (Vec::new(), Vec::new());
        for membership in hold_all_of(conn, user_id).await? {
            if !has_others(conn, &membership).await? {
                left_alone.push(membership.organization_id);
            } else if membership.is_last_admin(conn).await? {
                let name = organizations::table.find(membership.organization_id).select(organizations::name);
                return Ok(AccountDeletion::LastAdmin(name.first(conn).await?));
            } else {
                shared.push(membership);
            }
        }
        let mut stopped = StoppedJobs::default();
        for membership in &shared {
            hand_over(conn, membership, &mut stopped).await?;
            note(conn, membership).await?;
        }
        delete_jobs(conn, user_id, &left_alone, &mut stopped).await?;
        if !lock_user(conn, user_id).await? {
            return Ok(AccountDeletion::Done(Self { stopped }));
        }
        // from here on the user joins nothing: what was founded in between goes, too
        let left_alone = organizations_without_others(conn, user_id).await?;
        let images = product_images::table.filter(product_images::user_id.eq(user_id)).select(product_images::id);
        let images: Vec<Uuid> = images.load(conn).await?;
        ObjectDeletion::insert_of_images(conn, &images).await?;
        note_objects(conn, user_id, &left_alone).await?;
        hand_over_projects(conn, user_id).await?;
        // these do not point at the user, who may be any scope
        let scopes: Vec<Uuid> = left_alone.iter().copied().chain([user_id]).collect();
        diesel::delete(quota_windows::table.filter(quota_windows::scope.eq_any(scopes))).execute(conn).await?;
        let answers = idempotency_keys::table.filter(idempotency_keys::user_id.eq(user_id));
        diesel::delete(answers).execute(conn).await?;
        diesel::delete(users::table.find(user_id)).execute(conn).await?;
        diesel::delete(organizations::table.filter(organizations::id.eq_any(left_alone))).execute(conn).await?;
        Ok(AccountDeletion::Done(Self { stopped }))
    }
}

/// `false`: the account has gone in between.
async fn lock_user(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<bool> {
    let found: Option<Uuid> = users::table.find(user_id).select(users::id).for_update().first(conn).await.optional()?;
    Ok(found.is_some())
}

async fn organizations_without_others(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<Vec<Uuid>> {
    let others = diesel::alias!(memberships as others);
    let there = others
        .filter(others.field(memberships::organization_id).eq(memberships::organization_id))
        .filter(others.field(memberships::user_id).ne(user_id));
    memberships::table
        .filter(memberships::user_id.eq(user_id).and(not(exists(there))))
        .select(memberships::organization_id)
        .load(conn)
        .await
}

async fn has_others(conn: &mut AsyncPgConnection, of: &Membership) -> QueryResult<bool> {
    let others = memberships::table
        .filter(memberships::organization_id.eq(of.organization_id).and(memberships::user_id.ne(of.user_id)));
    select(exists(others)).get_result(conn).await
}

/// What the organization shares becomes the longest-serving admin's; runs that have not ended are stopped first.
async fn hand_over(conn: &mut AsyncPgConnection, from: &Membership, stopped: &mut StoppedJobs) -> QueryResult<()> {
    let heir = from.find_other_admin(conn).await?.ok_or(diesel::result::Error::NotFound)?;
    from.hand_over_schedules(conn, heir).await?;
    let theirs = pipelines::table
        .filter(pipelines::organization_id.eq(from.organization_id).and(pipelines::created_by.eq(from.user_id)));
    diesel::update(theirs).set(pipelines::created_by.eq(heir)).execute(conn).await?;

    let runs = jobs::table
        .filter(jobs::user_id.eq(from.user_id).and(jobs::organization_id.eq(from.organization_id)))
        .filter(jobs::kind.eq_any([Kind::PipelineRun, Kind::Orchestration]));
    let open: Vec<Uuid> = runs
        .clone()
        .filter(jobs::status.eq_any([JobStatus::Queued, JobStatus::Running]))
        .order(jobs::id)
        .select(jobs::id)
        .load(conn)
        .await?;
    for id in open {
        match Job::cancel(conn, id, from.user_id).await? {
            Some(Cancelled::AtOnce(ended)) => stopped.ended.push(ended),
            Some(Cancelled::Requested) => stopped.running.push(id),
            Some(Cancelled::TooLate(_)) | None => {}
        }
    }
    let runs: Vec<Uuid> =
        diesel::update(runs).set(jobs::user_id.eq(heir)).returning(jobs::id).get_results(conn).await?;
    diesel::update(executions::table.filter(executions::id.eq_any(&runs)))
        .set(executions::user_id.eq(heir))
        .execute(conn)
        .await?;
    diesel::update(orchestrations::table.filter(orchestrations::id.eq_any(&runs)))
        .set(orchestrations::user_id.eq(heir))
        .execute(conn)
        .await?;
    diesel::update(llm_calls::table.filter(llm_calls::job_id.eq_any(&runs)))
        .set(llm_calls::user_id.eq(heir))
        .execute(conn)
        .await?;
    Ok(())
}

/// The other members can see why somebody is missing.
async fn note(conn: &mut AsyncPgConnection, of: &Membership) -> QueryResult<()> {
    let entry = NewAudit {
        organization_id: of.organization_id,
        actor_id: Some(of.user_id),
        action: "member.left",
        target_type: "user",
        target_id: Some(of.user_id),
        data: json!({ "account_deleted": true, "role": of.role }),
        ip: None,
        request_id: None,
    };
    AuditEntry::insert(conn, entry).await
}

/// Projects and templates, also those in organizations that the user has left, become the longest-serving admin's: the runs
/// of others hang on them.
async fn hand_over_projects(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<()> {
    for table in ["projects", "templates"] {
        diesel::sql_query(format!(
            "UPDATE {table} SET created_by = heir.user_id FROM ( \
                 SELECT DISTINCT ON (organization_id) organization_id, user_id FROM memberships \
                 WHERE role = 'admin' AND user_id <> $1 \
                     AND organization_id IN (SELECT organization_id FROM {table} WHERE created_by = $1) \
                 ORDER BY organization_id, joined_at, user_id \
             ) AS heir WHERE {table}.organization_id = heir.organization_id AND created_by = $1"
        ))
        .bind::<SqlUuid, _>(user_id)
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Notes the objects of the account's files, and those that go with organizations: files and repositories.
async fn note_objects(conn: &mut AsyncPgConnection, user_id: Uuid, organizations: &[Uuid]) -> QueryResult<()> {
    diesel::sql_query(
        "INSERT INTO object_deletions (key) \
         SELECT s3_key FROM files WHERE user_id = $1 OR organization_id = ANY($2) \
         UNION SELECT s3_key FROM project_repositories JOIN projects ON projects.id = project_id \
             WHERE projects.organization_id = ANY($2) \
         ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(user_id)
    .bind::<Array<SqlUuid>, _>(organizations)
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes the jobs that go with the account, in the order of their ids, and notes the objects their nodes have left.
async fn delete_jobs(
    conn: &mut AsyncPgConnection,
    user_id: Uuid,
    organizations: &[Uuid],
    stopped: &mut StoppedJobs,
) -> QueryResult<()> {
    let held: Vec<(Uuid, JobStatus)> = jobs::table
        .filter(jobs::user_id.eq(user_id).or(jobs::organization_id.eq_any(organizations)))
        .order(jobs::id)
        .select((jobs::id, jobs::status))
        .for_update()
        .load(conn)
        .await?;
    stopped.running.extend(held.iter().filter(|(_, status)| *status == JobStatus::Running).map(|(id, _)| *id));
    let ids: Vec<Uuid> = held.into_iter().map(|(id, _)| id).collect();
    diesel::sql_query(
        "INSERT INTO object_deletions (key) SELECT DISTINCT result ->> 'object' FROM job_steps \
         WHERE job_id = ANY($1) AND result ->> 'object' LIKE 'executions/' || job_id || '/%' ON CONFLICT DO NOTHING",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .execute(conn)
    .await?;
    diesel::delete(jobs::table.filter(jobs::id.eq_any(ids))).execute(conn).await?;
    Ok(())
}
