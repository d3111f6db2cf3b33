//! Several people in one organization.

use crate::{Api, Member, World};
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

impl World {
    /// A new user, logged in, who belongs to the organization of `of` with this role.
    pub async fn colleague(&self, api: &Api, of: &Member, role: &str) -> Member {
        let colleague = self.member(api).await;
        diesel::sql_query(
            "WITH joined AS (INSERT INTO memberships (organization_id, user_id, role) VALUES ($1, $2, $3)) \
             UPDATE users SET organization_id = $1 WHERE id = $2",
        )
        .bind::<SqlUuid, _>(of.organization_id())
        .bind::<SqlUuid, _>(colleague.id())
        .bind::<Text, _>(role)
        .execute(&mut self.conn().await)
        .await
        .unwrap();
        colleague
    }
}

impl Member {
    /// The id of the user.
    pub fn id(&self) -> Uuid {
        self.registration["id"].as_str().unwrap().parse().unwrap()
    }

    /// The organization that the user made by registering.
    pub fn organization_id(&self) -> Uuid {
        self.registration["user"]["organization_id"].as_str().unwrap().parse().unwrap()
    }
}
