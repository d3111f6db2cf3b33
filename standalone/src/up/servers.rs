//! The servers `atelier up` needs: started, or those it was told to use.

use std::{path::PathBuf, thread, time::Instant};

use anyhow::{Context, bail};
use diesel_async::RunQueryDsl;
use shared::{
    config::{ObjectStore, Secret},
    storage::Storage,
};

use super::{
    Arguments,
    data::{DataFolder, Ports},
    local_model,
};
use crate::{
    config::{self, Surroundings},
    services::{Durability, LocalLlm, MailSink, Postgres, PostgresBinaries, Redis, S3, Service, Toolbox, ports},
    terminal::Terminal,
};

const DATABASE: &str = "atelier";
const BUCKET: &str = "atelier";

/// Where the programs find what they need.
pub(super) struct Servers {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    local_llm: Option<LocalLlm>,
    local_llm_url: Option<String>,
    _s3: Option<S3>,
    mail: MailSink,
    onnxruntime: PathBuf,
    /// A connection to the whole PostgreSQL of ours, to make the database in.
    maintenance_url: Option<String>,
    database_url: String,
    redis_url: String,
    store: ObjectStore,
    surroundings: Surroundings,
}

impl Servers {
    /// Starts what is to be started; PostgreSQL, Redis, the local model and the look for ONNX Runtime side by side.
    /// Blocks.
    pub(super) fn start(arguments: &Arguments, data: &DataFolder, terminal: &Terminal) -> anyhow::Result<Self> {
        let surroundings = Surroundings::from_env()?;
        let tools = config::tools_folder(data.path());
        let toolbox = Toolbox::new(arguments.servers, &tools, surroundings.clone(), terminal.clone());
        let before = data.ports();
        let (postgres, redis, onnxruntime, local_llm) = thread::scope(|scope| {
            let postgres = scope.spawn(|| match arguments.database_url {
                Some(_) => Ok(None),
                None => start_postgres(&toolbox, data, before, terminal).map(Some),
            });
            let redis = scope.spawn(|| match arguments.redis_url {
                Some(_) => Ok(None),
                None => start_redis(&toolbox, data, before, terminal).map(Some),
            });
            let onnxruntime = scope.spawn(|| toolbox.onnxruntime());
            let local_llm = scope.spawn(|| local_model::start(arguments, &toolbox, &surroundings, data, terminal));
            let panicked = || anyhow::anyhow!("a start broke off; please report this");
            (
                postgres.join().unwrap_or_else(|_| Err(panicked())),
                redis.join().unwrap_or_else(|_| Err(panicked())),
                onnxruntime.join().unwrap_or_else(|_| Err(panicked())),
                local_llm.join().unwrap_or_default(),
            )
        });
        let (postgres, redis, onnxruntime) = all(postgres, redis, onnxruntime)?;
        terminal.say(format_args!("  ONNX Runtime   {}", onnxruntime.display()));

        let (s3, store) = start_store(arguments, data, before, &surroundings)?;
        terminal.say(format_args!("  S3 store       {}", store.endpoint));
        let mail_folder = data.path().join("mail");
        let mail = MailSink::start(Some(&mail_folder), ports::listen(before.smtp)?, ports::listen(before.mail_page)?)?;
        terminal.say(format_args!("  mail sink      {}", mail.smtp_url()));

        let (smtp, mail_page) = mail.ports();
        data.remember_ports(Ports {
            postgres: postgres.as_ref().map(Postgres::port).or(before.postgres),
            redis: redis.as_ref().map(Redis::port).or(before.redis),
            s3: s3.as_ref().map(S3::port).or(before.s3),
            smtp: Some(smtp),
            mail_page: Some(mail_page),
            local_llm: local_llm.as_ref().map(LocalLlm::port).or(before.local_llm),
        })?;
        let database_url = arguments.database_url.clone().or_else(|| Some(postgres.as_ref()?.url(DATABASE)));
        let redis_url = arguments.redis_url.clone().or_else(|| Some(redis.as_ref()?.url()));
        Ok(Self {
            maintenance_url: postgres.as_ref().map(|server| server.url("postgres")),
            database_url: database_url.context("no PostgreSQL")?,
            redis_url: redis_url.context("no Redis")?,
            postgres,
            redis,
            local_llm_url: local_llm.as_ref().map(LocalLlm::url),
            local_llm,
            _s3: s3,
            mail,
            onnxruntime,
            store,
            surroundings,
        })
    }

    /// The child processes among them, for a supervisor to watch; once.
    pub(super) fn children(&mut self) -> Vec<Box<dyn Service>> {
        let mut children: Vec<Box<dyn Service>> = Vec::new();
        children.extend(self.postgres.take().map(|server| Box::new(server) as Box<dyn Service>));
        children.extend(self.redis.take().map(|server| Box::new(server) as Box<dyn Service>));
        children.extend(self.local_llm.take().map(|server| Box::new(server) as Box<dyn Service>));
        children
    }

    /// Makes the database and the bucket and brings the tables up to date.
    pub(super) async fn prepare(&self, terminal: &Terminal) -> anyhow::Result<()> {
        let begun = Instant::now();
        if let Some(url) = &self.maintenance_url {
            make_database(url).await?;
        }
        let applied = shared::db::migrate(&self.database_url).await.context("cannot bring the tables up to date")?;
        Storage::new(&self.store)
            .ensure_bucket()
            .await
            .with_context(|| format!("cannot make the bucket {BUCKET} in {}", self.store.endpoint))?;
        let news = match applied.len() {
            0 => "up to date".to_owned(),
            1 => "1 migration applied".to_owned(),
            count => format!("{count} migrations applied"),
        };
        terminal.say(format_args!("  tables         {news} ({:.1} s)", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    /// The settings of the programs.
    pub(super) fn environment(&self, port: u16, data: &DataFolder) -> anyhow::Result<Vec<(String, String)>> {
        let mut settings = vec![
            ("DATABASE_URL", self.database_url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("ATELIER_S3_ENDPOINT", self.store.endpoint.clone()),
            ("ATELIER_S3_BUCKET", self.store.bucket.clone()),
            ("ATELIER_S3_ACCESS_KEY", self.store.access_key.expose().to_owned()),
            ("ATELIER_S3_SECRET_KEY", self.store.secret_key.expose().to_owned()),
            ("ATELIER_BIND", format!("127.0.0.1:{port}")),
            ("ORT_DYLIB_PATH", self.onnxruntime.display().to_string()),
        ];
        settings.extend(self.local_llm_url.clone().map(|url| (local_model::ADDRESS, url)));
        if !self.surroundings.sets("ATELIER_MODELS_DIR") {
            settings.push(("ATELIER_MODELS_DIR", config::models_folder()?.display().to_string()));
        }
        // What a developer may well want to set, with what suits one who did not.
        let defaults = [
            ("ATELIER_JWT_SECRET", data.secret("jwt")?),
            ("ATELIER_PUBLIC_URL", format!("http://127.0.0.1:{port}")),
            ("ATELIER_SMTP_URL", self.mail.smtp_url()),
            // ONNX Runtime uses the C library's memory; without this a worker keeps 40 MB that it does not use
            ("MALLOC_TRIM_THRESHOLD_", "131072".to_owned()),
            ("ATELIER_SHUTDOWN_GRACE", "5".to_owned()),
            ("ATELIER_WORKER_GRACE", "10".to_owned()),
            // who tries webhooks out receives them here
            ("ATELIER_WEBHOOK_ALLOW_LIST", "localhost,127.0.0.1,::1".to_owned()),
        ];
        settings.extend(defaults.into_iter().filter(|(name, _)| !self.surroundings.sets(name)));
        Ok(settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// What is to be found where.
    pub(super) fn overview(&self, base: &str, data: &DataFolder) -> comfy_table::Table {
        let mut table = crate::terminal::table();
        let local_model = match &self.local_llm_url {
            Some(url) => format!("{url} (SmolLM2 135M, demo quality)"),
            None => "not started".to_owned(),
        };
        let mails = match self.surroundings.sets("ATELIER_SMTP_URL") {
            true => "by the server of ATELIER_SMTP_URL".to_owned(),
            false => self.mail.web_url(),
        };
        let rows = [
            ("API", format!("{base}/api/v1")),
            ("API documentation", format!("{base}/docs")),
            ("health", format!("{base}/ready")),
            ("mails sent", mails),
            ("S3 store", self.store.endpoint.clone()),
            ("local model", local_model),
            ("logs", data.logs().display().to_string()),
            ("settings, passwords", data.environment_file().display().to_string()),
        ];
        for (name, place) in rows {
            table.add_row([name, &place]);
        }
        table
    }
}

/// All three, or everything that is missing at once.
fn all<A, B, C>(
    first: anyhow::Result<A>,
    second: anyhow::Result<B>,
    third: anyhow::Result<C>,
) -> anyhow::Result<(A, B, C)> {
    match (first, second, third) {
        (Ok(first), Ok(second), Ok(third)) => Ok((first, second, third)),
        (first, second, third) => {
            let problems = [first.err(), second.err(), third.err()];
            let told: Vec<String> =
                problems.into_iter().flatten().map(|problem| format!("\n  - {problem:#}")).collect();
            bail!("not all that is needed can be started:{}", told.concat())
        }
    }
}

fn start_postgres(
    toolbox: &Toolbox,
    data: &DataFolder,
    before: Ports,
    terminal: &Terminal,
) -> anyhow::Result<Postgres> {
    let binaries = fitting_postgres(toolbox, data, terminal)?;
    let begun = Instant::now();
    let server = Postgres::start(&binaries, data.path(), Durability::Durable, before.postgres)?;
    let (port, seconds) = (server.port(), begun.elapsed().as_secs_f64());
    let (name, place) = (binaries.to_string(), binaries.folder.display());
    terminal.say(format_args!("  {name:<14} 127.0.0.1:{port} ({place}, {seconds:.1} s)"));
    Ok(server)
}

/// The best PostgreSQL there is, unless the data folder holds data of another version that can be had, too.
fn fitting_postgres(toolbox: &Toolbox, data: &DataFolder, terminal: &Terminal) -> anyhow::Result<PostgresBinaries> {
    let best = toolbox.postgres()?;
    let kept = data.postgres_versions();
    let Some(newest) = kept.last().copied().filter(|_| !kept.contains(&best.major)) else {
        return Ok(best);
    };
    let same = kept.iter().rev().find_map(|major| toolbox.postgres_of(*major));
    if same.is_none() {
        terminal
            .say(format_args!("  the data in pg{newest} need PostgreSQL {newest}, which is not here; starting empty"));
    }
    Ok(same.unwrap_or(best))
}

fn start_redis(toolbox: &Toolbox, data: &DataFolder, before: Ports, terminal: &Terminal) -> anyhow::Result<Redis> {
    let binary = toolbox.redis()?;
    let begun = Instant::now();
    let server = Redis::start(&binary, data.path(), before.redis)?;
    let (port, seconds) = (server.port(), begun.elapsed().as_secs_f64());
    let (name, place) = (binary.to_string(), binary.program.display());
    terminal.say(format_args!("  {name:<14} 127.0.0.1:{port} ({place}, {seconds:.1} s)"));
    Ok(server)
}

fn start_store(
    arguments: &Arguments,
    data: &DataFolder,
    before: Ports,
    surroundings: &Surroundings,
) -> anyhow::Result<(Option<S3>, ObjectStore)> {
    let store = |endpoint: String, access_key: &str, secret_key: &str| ObjectStore {
        public_endpoint: endpoint.clone(),
        endpoint,
        bucket: BUCKET.to_owned(),
        region: "us-east-1".to_owned(),
        access_key: Secret::new(access_key),
        secret_key: Secret::new(secret_key),
    };
    if let Some(endpoint) = &arguments.s3_endpoint {
        let Some((access_key, secret_key)) = &surroundings.s3_keys else {
            bail!("--s3-endpoint needs that store's keys in ATELIER_S3_ACCESS_KEY and ATELIER_S3_SECRET_KEY");
        };
        return Ok((None, store(endpoint.clone(), access_key, secret_key)));
    }
    let (access_key, secret_key) = (data.secret("s3-access-key")?, data.secret("s3-secret-key")?);
    let listener = ports::listen(before.s3)?;
    let server = S3::start(&data.path().join("s3"), listener, BUCKET, &access_key, &secret_key)?;
    let settings = store(server.endpoint(), &access_key, &secret_key);
    Ok((Some(server), settings))
}

async fn make_database(maintenance_url: &str) -> anyhow::Result<()> {
    #[derive(diesel::QueryableByName)]
    struct Found {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        found: bool,
    }
    let mut connection = shared::db::connect(maintenance_url).await.context("cannot reach PostgreSQL")?;
    let question = format!("SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') AS found");
    let answer: Found = diesel::sql_query(question).get_result(&mut connection).await?;
    if !answer.found {
        diesel::sql_query(format!("CREATE DATABASE {DATABASE}")).execute(&mut connection).await?;
    }
    Ok(())
}
