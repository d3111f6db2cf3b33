//! Postgres: the pool, TLS, and the migrations that are part of the binary.

use crate::{config, models::shipped_templates};
use anyhow::{Context, Result, anyhow};
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{
    AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, PoolableConnection, RecyclingMethod, deadpool as pooled,
    },
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use futures_util::{FutureExt, future::BoxFuture};
use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};
use tokio_postgres::config::SslMode;

/// Every migration, newest last.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../migrations");

/// Connections to Postgres; cheap to clone.
#[derive(Clone)]
pub struct Pool(pooled::Pool<AsyncPgConnection>);

/// One connection out of the pool; it goes back when dropped. One that is dropped in the middle of a transaction, with the
/// task that used it, is closed instead, so that what it holds is free at once: in the pool it would be held until somebody
/// takes the connection out again.
pub struct Connection(Option<pooled::Object<AsyncPgConnection>>);

/// Why no connection was to be had.
pub type PoolError = pooled::PoolError;

/// How long a caller waits for a free connection, and for a new one to be made.
const PATIENCE: Duration = Duration::from_secs(5);

/// A transaction that is left in the middle (its task was dropped, its process is frozen) gives back what it holds after a
/// while. Nobody of ours thinks for so long between two statements.
const ABANDONED: &str = "SET idle_in_transaction_session_timeout = '15s'";

/// The advisory lock that lets one process at a time migrate ("atelier" in ASCII, shortened to 63 bits).
const MIGRATION_LOCK: i64 = 0x61_74_65_6c_69_65_72;

/// A pool that connects when first used.
pub fn pool(settings: &config::Postgres) -> Result<Pool> {
    let mut manager = ManagerConfig::<AsyncPgConnection>::default();
    manager.custom_setup = Box::new(establish);
    manager.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::new_with_config(settings.url.expose(), manager);
    let pool = pooled::Pool::builder(manager)
        .max_size(settings.pool_size)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .context("the connection pool could not be built")?;
    Ok(Pool(pool))
}

impl Pool {
    /// A connection that nobody else uses.
    ///
    /// # Errors
    /// If none is to be had within [`PATIENCE`].
    pub async fn get(&self) -> Result<Connection, PoolError> {
        Ok(Connection(Some(self.0.get().await?)))
    }
}

impl Deref for Connection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        self.0.as_deref().unwrap_or_else(|| unreachable!("only its drop takes a connection apart"))
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        self.0.as_deref_mut().unwrap_or_else(|| unreachable!("only its drop takes a connection apart"))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(mut conn) = self.0.take()
            && conn.is_broken()
        {
            drop(pooled::Object::take(conn));
        }
    }
}

/// One connection outside the pool: for a lock that a session holds, or for the migrations.
pub async fn connect(url: &str) -> ConnectionResult<AsyncPgConnection> {
    establish(url).await
}

/// TLS when the URL says `sslmode=require`, plain TCP otherwise.
fn establish(url: &str) -> BoxFuture<'_, ConnectionResult<AsyncPgConnection>> {
    async move {
        let settings: tokio_postgres::Config = url.parse().map_err(bad_connection)?;
        let mut conn = if settings.get_ssl_mode() == SslMode::Require {
            let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls_settings()?);
            let (client, connection) = settings.connect(tls).await.map_err(bad_connection)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?
        } else {
            let (client, connection) = settings.connect(tokio_postgres::NoTls).await.map_err(bad_connection)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?
        };
        conn.batch_execute(ABANDONED).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    }
    .boxed()
}

fn tls_settings() -> ConnectionResult<rustls::ClientConfig> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn bad_connection(error: tokio_postgres::Error) -> ConnectionError {
    // tokio-postgres keeps the telling part (the server's own message) in the source
    ConnectionError::BadConnection(match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// Applies what is missing and returns the names; processes that start together take turns. The templates that ship
/// with the system are brought up to date, too.
///
/// Needs a multi-threaded tokio runtime: the migration harness blocks its thread.
pub async fn migrate(url: &str) -> Result<Vec<String>> {
    let mut connection = connect(url).await.context("PostgreSQL cannot be reached")?;
    diesel::sql_query(format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).execute(&mut connection).await?;
    let mut harness = AsyncMigrationHarness::new(connection);
    let applied = harness.run_pending_migrations(MIGRATIONS).map_err(|error| anyhow!("a migration failed: {error}"))?;
    let applied = applied.iter().map(ToString::to_string).collect();
    // after a failure the lock goes with the connection
    let mut connection = harness.into_inner();
    shipped_templates::ship(&mut connection).await?;
    let unlock = format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})");
    diesel::sql_query(unlock).execute(&mut connection).await?;
    Ok(applied)
}
