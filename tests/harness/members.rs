//! Several people in one organization.

use crate::{Api, Member, World};
use diesel::{
    QueryableByName,
    sql_types::{Jsonb, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};
use uuid::Uuid;

/// A mail that waited to be sent.
#[derive(Debug, QueryableByName)]
pub struct WaitingMail {
    /// The address.
    #[diesel(sql_type = Text)]
    pub recipient: String,
    /// Which one.
    #[diesel(sql_type = Text)]
    pub template: String,
    /// What its job is told.
    #[diesel(sql_type = Jsonb)]
    pub payload: Value,
}

impl World {
    /// Lets every organization that is there send as many metered requests as it likes.
    pub async fn unlimited(&self) {
        diesel::sql_query("UPDATE organizations SET subscription_tier = 'enterprise'")
            .execute(&mut self.conn().await)
            .await
            .unwrap();
    }

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

    /// What others read of a user.
    pub async fn names(&self, member: &Member) -> String {
        let user = shared::models::User::get(&mut *self.conn().await, member.id()).await.unwrap();
        user.full_name
    }

    /// The mails that wait, oldest first; nobody will send them.
    pub async fn take_mails(&self) -> Vec<WaitingMail> {
        diesel::sql_query(
            "WITH taken AS (DELETE FROM jobs WHERE kind = 'mail' AND status = 'queued' RETURNING id, payload) \
             SELECT recipient, template, payload FROM taken JOIN mails USING (id) ORDER BY mails.created_at, id",
        )
        .load(&mut self.conn().await)
        .await
        .unwrap()
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

    /// What the user is now, and where.
    pub async fn place(&self) -> (String, Uuid) {
        let me = self.client.get("/users/me").await.expect(200);
        (me["role"].as_str().unwrap().to_owned(), me["organization_id"].as_str().unwrap().parse().unwrap())
    }

    /// Invites somebody into the current organization; returns the answer, which holds the token.
    pub async fn invite(&self, email: &str, role: &str) -> Value {
        let body = json!({ "email": email, "role": role });
        self.client.post("/organizations/current/invitations", body).await.expect(201)
    }
}
