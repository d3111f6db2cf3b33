//! The log of what changed access: written in the transaction of the change, read by admins.

use crate::schema::audit_entries;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

/// An entry as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = audit_entries, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct AuditEntry {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub actor_id: Option<Uuid>,
    pub action: String,
    pub target_type: String,
    pub target_id: Option<Uuid>,
    pub data: Value,
    pub ip: Option<String>,
    pub request_id: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// Something that changed access.
#[derive(Debug, Clone)]
pub struct NewAudit<'a> {
    /// Where.
    pub organization_id: Uuid,
    /// By whom; none: by the system.
    pub actor_id: Option<Uuid>,
    /// `member.role_changed` for example.
    pub action: &'a str,
    /// What it was done to: `user`, `invitation`, `api_key`, `organization`, `webhook`.
    pub target_type: &'a str,
    /// Which one.
    pub target_id: Option<Uuid>,
    /// What changed; never a secret.
    pub data: Value,
    /// From where.
    pub ip: Option<&'a str>,
    /// In which request.
    pub request_id: Option<&'a str>,
}

impl AuditEntry {
    /// Writes an entry; belongs into the transaction of the change.
    pub async fn insert(conn: &mut AsyncPgConnection, new: NewAudit<'_>) -> QueryResult<()> {
        diesel::insert_into(audit_entries::table)
            .values((
                audit_entries::id.eq(Uuid::now_v7()),
                audit_entries::organization_id.eq(new.organization_id),
                audit_entries::actor_id.eq(new.actor_id),
                audit_entries::action.eq(new.action),
                audit_entries::target_type.eq(new.target_type),
                audit_entries::target_id.eq(new.target_id),
                audit_entries::data.eq(new.data),
                audit_entries::ip.eq(new.ip),
                audit_entries::request_id.eq(new.request_id),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }
}
