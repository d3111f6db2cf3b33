//! Puts the pools on their queues: apalis runs the handlers, our queue feeds it with claimed jobs.

use crate::{
    config::Config,
    context::{Context, StopReason},
    execute::{self, Luggage, execute},
    pools::Pool,
    webhooks::Admitted,
};
use anyhow::{Result, anyhow};
use apalis::prelude::*;
use shared::{
    kind::Kind,
    models::{Job, JobStep},
    queue::{Ack, BackendOptions, LeaseBackend, Queue, spawn_handlers},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::OwnedRwLockReadGuard, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// How long after the grace time the handed-back jobs may take to be written down.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// How long claimed ids are kept from other workers because a job wants to run alone here.
const TURN: Duration = Duration::from_millis(500);

/// A job as the handler gets it.
enum Claimed {
    /// Held by this process.
    Job(Box<Held>),
    /// Not claimed yet: processes died while they held this job, so it runs alone.
    Suspect(Uuid),
}

/// A job held by this process.
struct Held {
    job: Job,
    luggage: Luggage,
    /// Keeps jobs waiting that run alone.
    turn: Arc<OwnedRwLockReadGuard<()>>,
}

/// What the handlers of one queue share.
struct Station {
    context: Arc<Context>,
    pool: Pool,
    queue: Queue,
}

/// Works until `shutdown`; then claims no more, lets handlers go on for the grace time and hands back the rest.
pub(crate) async fn run(context: &Arc<Context>, config: &Config, shutdown: CancellationToken) -> Result<()> {
    let tasks = TaskTracker::new();
    let mut monitor = Monitor::new();
    for (_, pool) in config.pools.iter() {
        for name in &pool.queues {
            let queue = Queue::new(context.redis.clone(), &context.prefix, name);
            let station = Arc::new(Station { context: context.clone(), pool: pool.clone(), queue });
            let (shutdown, tasks) = (shutdown.clone(), tasks.clone());
            monitor = monitor.register(move |restarts| {
                let name = format!("{}/{}/{restarts}", station.context.worker, station.queue.name());
                WorkerBuilder::new(name)
                    .backend(backend(&station, shutdown.clone(), tasks.clone()))
                    .data(station.clone())
                    .parallelize(spawn_handlers(tasks.clone()))
                    .concurrency(station.pool.concurrency)
                    .catch_panic()
                    .build(handle)
            });
        }
    }
    let grace = config.grace;
    let stopping = async {
        shutdown.cancelled().await;
        Ok(())
    };
    let last_call = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace).await;
        context.running.stop_all(StopReason::HandBack);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = monitor.shutdown_timeout(grace + LAST_WRITES).run_with_signal(stopping) => result?,
        () = last_call => {}
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

fn backend(station: &Arc<Station>, stop: CancellationToken, tasks: TaskTracker) -> LeaseBackend<Claimed> {
    let options = BackendOptions::new(station.context.redis_client.clone(), station.pool.concurrency, stop, tasks);
    let (claiming, returning) = (station.clone(), station.clone());
    station
        .queue
        .backend(options, move |ids| {
            let station = claiming.clone();
            async move { station.claim(ids).await }
        })
        .hand_back(move |unstarted| {
            let station = returning.clone();
            async move { station.hand_back(unstarted).await }
        })
}

async fn handle(claimed: Claimed, station: Data<Arc<Station>>) -> Ack {
    match claimed {
        Claimed::Job(held) => {
            let Held { job, luggage, turn } = *held;
            let ack = execute(&station.context, &station.pool, &station.queue, job, luggage).await;
            drop(turn);
            ack
        }
        Claimed::Suspect(id) => station.run_alone(id).await,
    }
}

impl Station {
    /// Takes a batch of jobs in Postgres, in one statement. A suspect among them is passed on unclaimed.
    async fn claim(&self, ids: Vec<Uuid>) -> Result<Vec<(Uuid, Claimed)>> {
        let context = &self.context;
        // while a suspect runs, nothing is claimed that its death would take along
        let turn = timeout(TURN, context.turn.clone().read_owned()).await;
        let turn = Arc::new(turn.map_err(|_| anyhow!("a job that runs alone has its turn in this process"))?);
        let mut conn = context.pool.get().await?;
        let attempts = self.pool.attempts;
        let delivers = self.queue.name() == Kind::WebhookDelivery.queue();
        let mut admitted =
            if delivers { context.webhooks.admit(&mut conn, &self.queue, ids).await? } else { Admitted::all(ids) };
        let ids = std::mem::take(&mut admitted.ids);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let jobs = Job::claim(&mut conn, &ids, &context.worker, attempts).await?;
        let held: Vec<_> = jobs.iter().map(|job| job.id).collect();
        // The jobs are held from here on, so no error may lose them: what cannot be read now is read by each of them.
        let mut steps = if delivers {
            admitted.load(&mut conn, &held).await;
            // they have none
            Some(HashMap::new())
        } else {
            JobStep::list_of_jobs(&mut conn, &held).await.ok().map(by_job)
        };
        let suspects = if jobs.len() < ids.len() {
            Job::list_suspects(&mut conn, &ids, attempts).await.unwrap_or_default()
        } else {
            Vec::new()
        };
        let mut claimed = Vec::with_capacity(ids.len());
        for job in jobs {
            let steps = steps.as_mut().map(|steps| steps.remove(&job.id).unwrap_or_default());
            let luggage = Luggage { steps, errand: admitted.take(job.id) };
            claimed.push((job.id, Claimed::Job(Box::new(Held { job, luggage, turn: turn.clone() }))));
        }
        claimed.extend(suspects.into_iter().map(|id| (id, Claimed::Suspect(id))));
        Ok(claimed)
    }

    async fn run_alone(&self, id: Uuid) -> Ack {
        let context = &self.context;
        let turn = context.turn.write().await;
        let job = async {
            let mut conn = context.pool.get().await?;
            anyhow::Ok(Job::claim_suspect(&mut conn, id, &context.worker, self.pool.attempts).await?)
        };
        let ack = match job.await {
            Ok(Some(job)) => {
                tracing::warn!(job = %id, crashes = job.crashes, "processes died during this job; it runs alone now");
                execute(context, &self.pool, &self.queue, job, Luggage::default()).await
            }
            Ok(None) => Ack::Done,
            Err(error) => {
                tracing::warn!(job = %id, error = format!("{error:#}"), "job not claimed, trying again");
                Ack::Release { after: Duration::from_secs(1) }
            }
        };
        drop(turn);
        ack
    }

    /// Jobs that were claimed but not begun when the worker was asked to stop: as if they had not been claimed.
    async fn hand_back(&self, unstarted: Vec<(Uuid, Claimed)>) {
        for (id, claimed) in unstarted {
            if let Claimed::Job(held) = claimed
                && let Err(error) = execute::hand_back(&self.context, &held.job).await
            {
                tracing::warn!(job = %id, %error, "job not handed back; the scheduler will rescue it");
            }
        }
    }
}

fn by_job(steps: Vec<JobStep>) -> HashMap<Uuid, Vec<JobStep>> {
    let mut jobs: HashMap<_, Vec<_>> = HashMap::new();
    for step in steps {
        jobs.entry(step.job_id).or_default().push(step);
    }
    jobs
}
