//! What is known, who holds it, and how it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::SinkExt;
use shared::queue::{Ack, BackendOptions, Depth, Ticket};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use super::fixture::{Server, TestWorker, claim_all, drain, options, receive, ticket, tickets};

#[tokio::test]
async fn pushing_an_id_again_changes_nothing_while_it_waits() {
    let server = Server::start().await;
    let queue = server.queue();
    let due = ticket(Uuid::new_v4());
    let delayed = Ticket { run_at: Some(Utc::now() + TimeDelta::hours(1)), ..ticket(due.tenant) };
    let both = [due.clone(), delayed.clone(), due.clone(), delayed.clone()];
    assert_eq!(queue.push(&both).await.unwrap(), 2);
    assert_eq!(queue.push(&both).await.unwrap(), 0);
    assert_eq!(queue.depth().await.unwrap(), Depth { ready: 1, delayed: 1, leased: 0 });
}

#[tokio::test]
async fn a_sink_takes_more_tickets_than_fit_into_one_call() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut sink = queue.sink();
    for ticket in tickets(450) {
        sink.feed(ticket.into()).await.unwrap();
    }
    sink.flush().await.unwrap();
    assert_eq!(queue.depth().await.unwrap().ready, 450);
}

#[tokio::test]
async fn a_retry_pushed_before_the_ack_comes_back_at_its_time() {
    let server = Server::start().await;
    let queue = server.queue();
    let (started, mut starts) = mpsc::unbounded_channel();
    let first = ticket(Uuid::new_v4());
    let retry_at = Utc::now() + TimeDelta::milliseconds(400);
    let worker = TestWorker::start(&server, &queue, 1, {
        let (queue, retry) = (queue.clone(), Ticket { run_at: Some(retry_at), ..first.clone() });
        move |_| {
            let (queue, retry, started) = (queue.clone(), retry.clone(), started.clone());
            async move {
                if Utc::now() < retry_at {
                    assert_eq!(queue.push(&[retry]).await.unwrap(), 0);
                }
                started.send(Utc::now()).unwrap();
                Ack::Done
            }
        }
    });
    queue.push(&[first]).await.unwrap();
    let starts = receive(&mut starts, 2).await;
    assert!(starts[0] < retry_at && starts[1] >= retry_at);
    worker.stop().await;
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_released_job_comes_back_after_its_delay() {
    let server = Server::start().await;
    let queue = server.queue();
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = TestWorker::start(&server, &queue, 1, move |_| {
        started.send(Instant::now()).unwrap();
        async { Ack::Release { after: Duration::from_millis(150) } }
    });
    queue.push(&tickets(1)).await.unwrap();
    let starts = receive(&mut starts, 3).await;
    for pair in starts.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_millis(150) && pause < Duration::from_millis(600), "{pause:?}");
    }
    worker.stop().await;
    assert_eq!(queue.depth().await.unwrap(), Depth { ready: 0, delayed: 1, leased: 0 });
}

#[tokio::test]
async fn a_removed_job_does_not_run_and_a_leased_one_is_left_alone() {
    let server = Server::start().await;
    let queue = server.queue();
    let waiting = tickets(3);
    queue.push(&waiting).await.unwrap();
    assert_eq!(queue.remove(&[waiting[1].id, Uuid::now_v7()]).await.unwrap(), 1);
    assert_eq!(drain(&server, &queue, 2).await, [waiting[0].id, waiting[2].id]);

    let (started, mut starts) = mpsc::unbounded_channel();
    let go_on = Arc::new(Notify::new());
    let worker = TestWorker::start(&server, &queue, 1, {
        let go_on = go_on.clone();
        move |id| {
            started.send(id).unwrap();
            let go_on = go_on.clone();
            async move {
                go_on.notified().await;
                Ack::Done
            }
        }
    });
    let running = ticket(Uuid::new_v4());
    queue.push(std::slice::from_ref(&running)).await.unwrap();
    receive(&mut starts, 1).await;
    assert_eq!(queue.remove(&[running.id]).await.unwrap(), 0);
    assert_eq!(queue.depth().await.unwrap().leased, 1);
    go_on.notify_one();
    worker.stop().await;
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn missing_names_the_jobs_redis_does_not_know() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut known = tickets(300);
    for ticket in known.iter_mut().skip(150) {
        ticket.run_at = Some(Utc::now() + TimeDelta::hours(1));
    }
    queue.push(&known).await.unwrap();
    let unknown: Vec<Uuid> = (0..150).map(|_| Uuid::now_v7()).collect();
    let asked: Vec<Uuid> = known.iter().map(|ticket| ticket.id).chain(unknown.iter().copied()).collect();
    assert_eq!(queue.missing(&asked).await.unwrap(), unknown);
}

#[tokio::test]
async fn jobs_of_a_worker_that_vanished_run_elsewhere_when_its_lease_is_over() {
    let server = Server::start().await;
    let queue = server.queue();
    let jobs = tickets(3);
    queue.push(&jobs).await.unwrap();

    let lease = Duration::from_millis(500);
    let (started, mut starts) = mpsc::unbounded_channel();
    let vanishing = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options_there = BackendOptions { lease, ..options(&server, 3) };
    let queue_there = {
        let _context = vanishing.enter();
        server.queue()
    };
    {
        let _context = vanishing.enter();
        TestWorker::with(queue_there.backend(options_there.clone(), claim_all), options_there, move |id: Uuid| {
            started.send(id).unwrap();
            std::future::pending()
        });
    }
    receive(&mut starts, 3).await;
    // Renewed for as long as its worker lives.
    let alive_until = Instant::now() + 2 * lease;
    while Instant::now() < alive_until {
        assert_eq!(queue.depth().await.unwrap(), Depth { ready: 0, delayed: 0, leased: 3 });
    }
    vanishing.shutdown_background();

    let vanished = Instant::now();
    let mut ran = drain(&server, &queue, 3).await;
    assert!(vanished.elapsed() < lease + Duration::from_secs(2), "{:?}", vanished.elapsed());
    ran.sort();
    let mut ids: Vec<Uuid> = jobs.iter().map(|ticket| ticket.id).collect();
    ids.sort();
    assert_eq!(ran, ids);
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_the_claim_hook_leaves_out_is_forgotten() {
    let server = Server::start().await;
    let queue = server.queue();
    let jobs = tickets(10);
    queue.push(&jobs).await.unwrap();
    let options = options(&server, 10);
    let wanted = jobs[4].id;
    let backend = queue.backend(options.clone(), move |ids: Vec<Uuid>| async move {
        Ok::<_, String>(ids.into_iter().filter(|id| *id == wanted).map(|id| (id, id)).collect())
    });
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = TestWorker::with(backend, options, move |id: Uuid| {
        started.send(id).unwrap();
        async { Ack::Done }
    });
    assert_eq!(receive(&mut starts, 1).await, [wanted]);
    worker.stop().await;
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_claim_hook_that_fails_or_panics_is_tried_again() {
    let server = Server::start().await;
    let queue = server.queue();
    let options = options(&server, 4);
    let calls = Arc::new(AtomicUsize::new(0));
    let backend = queue.backend(options.clone(), move |ids| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            assert_ne!(call, 0, "the first call panics");
            if call == 1 { Err("the database is away".to_owned()) } else { claim_all(ids).await }
        }
    });
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = TestWorker::with(backend, options, move |id: Uuid| {
        started.send(id).unwrap();
        async { Ack::Done }
    });
    queue.push(&tickets(4)).await.unwrap();
    receive(&mut starts, 4).await;
    worker.stop().await;
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_handler_that_panics_gives_its_job_back_and_harms_nobody() {
    let server = Server::start().await;
    let queue = server.queue();
    let jobs = tickets(20);
    let bad = jobs[7].id;
    let (started, mut starts) = mpsc::unbounded_channel();
    let panicked = Arc::new(AtomicUsize::new(0));
    let worker = TestWorker::start(&server, &queue, 4, move |id| {
        let (started, panicked) = (started.clone(), panicked.clone());
        async move {
            assert!(id != bad || panicked.fetch_add(1, Ordering::SeqCst) > 0, "this one panics the first time");
            started.send(id).unwrap();
            Ack::Done
        }
    });
    queue.push(&jobs).await.unwrap();
    assert_eq!(receive(&mut starts, 20).await.last(), Some(&bad));
    worker.stop().await;
    assert_eq!(server.keys().await, Vec::<String>::new());
}
