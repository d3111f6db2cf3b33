//! Who leads: the scheduler whose connection holds an advisory lock in Postgres.
//!
//! The lock belongs to the session of one dedicated connection, so it goes when that process ends. A leader that
//! vanishes without a word (its host lost power, the network drops its packets, it was stopped and hangs) closes
//! nothing; therefore the leader shows itself every [`PULSE`], and Postgres is told to end the session if it stays idle
//! for [`PATIENCE`]. Candidates ask every [`PULSE`], so a successor is found within seven seconds whatever happened.
//!
//! Two leaders at once would cost work, not truth: every chore is safe to run twice. So nothing more is fenced here.

use anyhow::{Context, Result};
use diesel::{QueryableByName, sql_types::Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use shared::{config::Postgres, db};
use std::{convert::Infallible, time::Duration};
use tokio::time::{sleep, timeout};

/// Between two signs of life of the leader, and between two attempts of a candidate.
const PULSE: Duration = Duration::from_millis(1_500);

/// How long Postgres waits for a sign of life before it gives the lock away.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one question to Postgres may take; then the connection counts as broken.
const ANSWER: Duration = Duration::from_secs(3);

/// The lock ("leader" in ASCII); unlike that of the migrations.
const LOCK: i64 = 0x6c_65_61_64_65_72;

/// The connection of one scheduler to the seat of the leader, whether it sits there or not.
pub(crate) struct Candidacy {
    connection: AsyncPgConnection,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

impl Candidacy {
    /// Connects, and has Postgres watch over the connection.
    pub(crate) async fn announce(postgres: &Postgres) -> Result<Self> {
        let connect = timeout(ANSWER, db::connect(postgres.url.expose()));
        let mut connection =
            connect.await.context("PostgreSQL did not answer")?.context("PostgreSQL cannot be reached")?;
        let settings = format!(
            "SET application_name = 'atelier scheduler'; SET idle_session_timeout = {}; SET statement_timeout = {}",
            PATIENCE.as_millis(),
            ANSWER.as_millis(),
        );
        timeout(ANSWER, connection.batch_execute(&settings)).await.context("PostgreSQL did not answer")??;
        Ok(Self { connection })
    }

    /// Waits until nobody else leads; then this one does, as long as [`Candidacy::hold`] runs. An error ends the
    /// candidacy.
    pub(crate) async fn win(&mut self) -> Result<()> {
        while !self.ask(&format!("SELECT pg_try_advisory_lock({LOCK}) AS yes")).await? {
            sleep(PULSE).await;
        }
        Ok(())
    }

    /// Keeps the seat; comes back only when it is lost, because the connection broke.
    pub(crate) async fn hold(&mut self) -> Result<Infallible> {
        loop {
            sleep(PULSE).await;
            self.ask("SELECT true AS yes").await?;
        }
    }

    async fn ask(&mut self, question: &str) -> Result<bool> {
        let answer = diesel::sql_query(question).get_result::<Answer>(&mut self.connection);
        Ok(timeout(ANSWER, answer).await.context("PostgreSQL did not answer")??.yes)
    }
}
