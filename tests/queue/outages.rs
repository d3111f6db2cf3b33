//! Redis stalls, stops, restarts and forgets; handlers never notice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::queue::{Ack, Depth, Queue};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, timeout};
use uuid::Uuid;

use super::fixture::{PATIENCE, Server, TestWorker, claim_all, options, receive, tickets};

const LEASE: Duration = Duration::from_secs(15);

/// A worker whose handlers run until they are told to end, and what it started and finished.
struct Held {
    worker: TestWorker,
    started: mpsc::UnboundedReceiver<Uuid>,
    finished: mpsc::UnboundedReceiver<Uuid>,
    end: watch::Sender<bool>,
}

impl Held {
    fn start(server: &Server, queue: &Queue, slots: usize, lease: Duration) -> Self {
        let (start, started) = mpsc::unbounded_channel();
        let (finish, finished) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(false);
        let mut options = options(server, slots);
        options.lease = lease;
        let worker = TestWorker::with(queue.backend(options.clone(), claim_all), options, move |id| {
            let (start, finish, mut ended) = (start.clone(), finish.clone(), ended.clone());
            async move {
                start.send(id).unwrap();
                ended.wait_for(|ended| *ended).await.unwrap();
                finish.send(id).unwrap();
                Ack::Done
            }
        });
        Self { worker, started, finished, end }
    }
}

fn runs(ids: Vec<Uuid>) -> HashMap<Uuid, usize> {
    ids.into_iter().fold(HashMap::new(), |mut runs, id| {
        *runs.entry(id).or_default() += 1;
        runs
    })
}

#[tokio::test]
async fn handlers_run_once_through_a_restart_that_keeps_the_data() {
    let mut server = Server::start().await;
    let queue = server.queue();
    let jobs = tickets(40);
    queue.push(&jobs).await.unwrap();
    let mut held = Held::start(&server, &queue, 20, LEASE);
    let mut started = receive(&mut held.started, 20).await;
    server.stop();
    held.end.send(true).unwrap();
    let mut finished = receive(&mut held.finished, 20).await;
    assert!(queue.depth().await.is_err());
    server.start_again();
    started.extend(receive(&mut held.started, 20).await);
    finished.extend(receive(&mut held.finished, 20).await);
    held.worker.stop().await;
    assert_eq!(runs(started), jobs.iter().map(|job| (job.id, 1)).collect());
    assert_eq!(runs(finished), jobs.iter().map(|job| (job.id, 1)).collect());
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn flushing_everything_stops_no_handler_and_what_is_pushed_again_runs() {
    let server = Server::start().await;
    let queue = server.queue();
    let jobs = tickets(60);
    queue.push(&jobs).await.unwrap();
    let mut held = Held::start(&server, &queue, 20, LEASE / 10);
    let running = receive(&mut held.started, 20).await;
    server.flush_all().await;
    assert_eq!(queue.depth().await.unwrap(), Depth::default());

    let waiting: Vec<_> = jobs.iter().filter(|job| !running.contains(&job.id)).cloned().collect();
    assert_eq!(queue.missing(&waiting.iter().map(|job| job.id).collect::<Vec<_>>()).await.unwrap().len(), 40);
    assert_eq!(queue.push(&waiting).await.unwrap(), 40);
    // A second renewal has found the leases lost by now or will; neither it nor the acks may bring anything back.
    held.end.send(true).unwrap();
    let finished = receive(&mut held.finished, 60).await;
    held.worker.stop().await;
    assert_eq!(runs(finished), jobs.iter().map(|job| (job.id, 1)).collect());
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_redis_that_stands_still_longer_than_the_answers_may_take_ends_nothing() {
    let mut server = Server::start().await;
    let queue = server.queue();
    let jobs = tickets(10);
    queue.push(&jobs).await.unwrap();
    let mut held = Held::start(&server, &queue, 10, LEASE);
    let started = receive(&mut held.started, 10).await;
    server.pause();
    held.end.send(true).unwrap();
    let finished = receive(&mut held.finished, 10).await;
    // The connection's response timeout is a second: acks and claims fail at least once meanwhile.
    assert!(queue.depth().await.is_err());
    server.resume();
    held.worker.stop().await;
    assert_eq!(runs(started), jobs.iter().map(|job| (job.id, 1)).collect());
    assert_eq!(runs(finished), jobs.iter().map(|job| (job.id, 1)).collect());
    until_empty(&server).await;
}

#[tokio::test]
async fn an_idle_worker_hears_of_a_push_right_after_a_restart() {
    let mut server = Server::start().await;
    let queue = server.queue();
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = TestWorker::start(&server, &queue, 2, move |id| {
        started.send(id).unwrap();
        async { Ack::Done }
    });
    queue.push(&tickets(1)).await.unwrap();
    receive(&mut starts, 1).await;
    server.stop();
    server.start_again();
    let mut tries = interval(Duration::from_millis(50));
    let job = Arc::new(tickets(1));
    let pushed = async {
        while queue.push(&job).await.is_err() {
            tries.tick().await;
        }
    };
    timeout(PATIENCE, pushed).await.unwrap();
    let pushed = Instant::now();
    receive(&mut starts, 1).await;
    assert!(pushed.elapsed() < Duration::from_millis(3_500), "{:?}", pushed.elapsed());
    worker.stop().await;
}

async fn until_empty(server: &Server) {
    let mut looks = interval(Duration::from_millis(20));
    let empty = async {
        while !server.keys().await.is_empty() {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, empty).await.unwrap();
}
