//! Git repositories of projects: one object in the store each, a bundle, that is replaced with every commit. The row says
//! which one counts.

use crate::schema::{object_deletions, project_repositories, projects};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// A repository as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = project_repositories, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct ProjectRepository {
    pub project_id: Uuid,
    pub head: String,
    pub s3_key: String,
    pub size: i64,
    pub commits: i32,
    pub updated_at: DateTime<Utc>,
}

impl ProjectRepository {
    /// The repository of a project, whoever owns it.
    pub async fn find(conn: &mut AsyncPgConnection, project_id: Uuid) -> QueryResult<Option<Self>> {
        project_repositories::table.find(project_id).select(Self::as_select()).first(conn).await.optional()
    }

    /// The repository, if the project belongs to this organization.
    pub async fn find_in_organization(
        conn: &mut AsyncPgConnection,
        project_id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Option<Self>> {
        project_repositories::table
            .inner_join(projects::table.on(projects::id.eq(project_repositories::project_id)))
            .filter(projects::id.eq(project_id).and(projects::organization_id.eq(organization_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// Puts this state in the place of `before` and leaves the object of that one to the scheduler, in the caller's
    /// transaction. `false`: somebody else has put another state there meanwhile.
    pub async fn replace(&self, conn: &mut AsyncPgConnection, before: Option<&Self>) -> QueryResult<bool> {
        let written = match before {
            None => {
                let insert = diesel::insert_into(project_repositories::table).values(self).on_conflict_do_nothing();
                insert.execute(conn).await?
            }
            Some(before) => {
                let there = project_repositories::table
                    .find(self.project_id)
                    .filter(project_repositories::head.eq(&before.head));
                diesel::update(there)
                    .set((
                        project_repositories::head.eq(&self.head),
                        project_repositories::s3_key.eq(&self.s3_key),
                        project_repositories::size.eq(self.size),
                        project_repositories::commits.eq(self.commits),
                        project_repositories::updated_at.eq(self.updated_at),
                    ))
                    .execute(conn)
                    .await?
            }
        };
        if written == 1
            && let Some(before) = before
            && before.s3_key != self.s3_key
        {
            discard(conn, &before.s3_key).await?;
        }
        Ok(written == 1)
    }

    /// Leaves an object to the scheduler that was stored for a state which came too late.
    pub async fn discard(conn: &mut AsyncPgConnection, key: &str) -> QueryResult<()> {
        let counts = project_repositories::table.filter(project_repositories::s3_key.eq(key));
        if diesel::select(diesel::dsl::exists(counts)).get_result::<bool>(conn).await? {
            return Ok(());
        }
        discard(conn, key).await
    }
}

async fn discard(conn: &mut AsyncPgConnection, key: &str) -> QueryResult<()> {
    let row = (object_deletions::key.eq(key), object_deletions::created_at.eq(Utc::now()));
    diesel::insert_into(object_deletions::table).values(row).on_conflict_do_nothing().execute(conn).await?;
    Ok(())
}
