//! How a worker ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apalis::prelude::*;
use shared::queue::{Ack, Depth, spawn_handlers};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use uuid::Uuid;

use super::fixture::{PATIENCE, Server, TestWorker, claim_all, options, receive, tickets};

#[tokio::test]
async fn a_worker_that_stops_lets_handlers_end_and_hands_back_what_it_had_not_started() {
    let server = Server::start().await;
    let queue = server.queue();
    let options = options(&server, 2);
    let (claimed, mut claims) = mpsc::unbounded_channel();
    let (handed_back, mut handbacks) = mpsc::unbounded_channel();
    let go_on = Arc::new(Notify::new());
    // The second batch is in the claim hook when the worker is told to stop.
    let backend = queue
        .backend(options.clone(), {
            let (go_on, calls) = (go_on.clone(), Arc::new(AtomicUsize::new(0)));
            move |ids| {
                let (go_on, claimed, call) = (go_on.clone(), claimed.clone(), calls.fetch_add(1, Ordering::SeqCst));
                async move {
                    claimed.send(ids.len()).unwrap();
                    if call > 0 {
                        go_on.notified().await;
                    }
                    claim_all(ids).await
                }
            }
        })
        .hand_back(move |rows| {
            let handed_back = handed_back.clone();
            async move { handed_back.send(rows).unwrap() }
        });
    let (finish, stop) = (Arc::new(Notify::new()), options.stop.clone());
    let worker = TestWorker::with(backend, options, {
        let finish = finish.clone();
        move |_: Uuid| {
            let finish = finish.clone();
            async move {
                finish.notified().await;
                Ack::Done
            }
        }
    });
    queue.push(&tickets(1)).await.unwrap();
    assert_eq!(receive(&mut claims, 1).await, [1]);
    let unstarted = tickets(1);
    queue.push(&unstarted).await.unwrap();
    assert_eq!(receive(&mut claims, 1).await, [1]);

    stop.cancel();
    go_on.notify_one();
    let rows = receive(&mut handbacks, 1).await.remove(0);
    assert_eq!(rows, [(unstarted[0].id, unstarted[0].id)]);
    finish.notify_one();
    worker.stop().await;
    assert_eq!(queue.depth().await.unwrap(), Depth { ready: 1, delayed: 0, leased: 0 });
    assert_eq!(queue.position(unstarted[0].id).await.unwrap(), Some(0));
}

#[tokio::test]
async fn handlers_that_are_cut_off_give_their_jobs_back_at_once() {
    let server = Server::start().await;
    let queue = server.queue();
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = TestWorker::start(&server, &queue, 5, move |id| {
        started.send(id).unwrap();
        std::future::pending()
    });
    queue.push(&tickets(5)).await.unwrap();
    receive(&mut starts, 5).await;
    worker.ended.abort();
    worker.tasks.close();
    timeout(PATIENCE, worker.tasks.wait()).await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), Depth { ready: 5, delayed: 0, leased: 0 });
}

#[tokio::test]
async fn a_monitor_whose_grace_time_is_over_hands_back_what_still_runs() {
    let server = Server::start().await;
    let queue = server.queue();
    let options = options(&server, 5);
    let (started, mut starts) = mpsc::unbounded_channel();
    let backend = queue.backend(options.clone(), claim_all);
    let tasks = options.tasks.clone();
    let worker = WorkerBuilder::new("monitored")
        .backend(backend)
        .concurrency(5)
        .parallelize(spawn_handlers(tasks.clone()))
        .catch_panic()
        .build(move |id: Uuid| {
            started.send(id).unwrap();
            std::future::pending::<Ack>()
        });
    let worker = std::sync::Mutex::new(Some(worker));
    let monitor = Monitor::new()
        .register(move |_| worker.lock().unwrap().take().unwrap())
        .shutdown_timeout(Duration::from_millis(100));
    queue.push(&tickets(8)).await.unwrap();
    let signal = options.stop.clone();
    let monitor = tasks.spawn(monitor.run_with_signal(async move {
        signal.cancelled().await;
        Ok(())
    }));
    receive(&mut starts, 5).await;
    options.stop.cancel();
    timeout(PATIENCE, monitor).await.unwrap().unwrap().unwrap();
    tasks.close();
    timeout(PATIENCE, tasks.wait()).await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), Depth { ready: 8, delayed: 0, leased: 0 });
}
