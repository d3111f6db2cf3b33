#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at a broken assumption, and here one panics on purpose"
)]

use std::sync::mpsc as std_mpsc;

use super::*;

async fn counters(threads: usize) -> Pool<usize> {
    Pool::start("test", threads, || Ok::<_, String>(0), |lost| lost).await.unwrap()
}

#[tokio::test]
async fn each_thread_keeps_its_own_state() {
    let pool = counters(1).await;
    for expected in 1..=3 {
        let count = pool.run(|count| {
            *count += 1;
            *count
        });
        assert_eq!(count.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_panic_fails_its_own_call_and_the_thread_goes_on() {
    let pool = counters(1).await;
    let panicked = pool.run(|_| panic!("an odd photo")).await;
    assert!(matches!(panicked, Err(Lost::Panicked(text)) if text == "an odd photo"));
    assert_eq!(pool.run(|count| *count).await.unwrap(), 0);
}

#[tokio::test]
async fn a_thread_that_cannot_load_fails_the_start() {
    let started = Pool::<usize>::start("test", 2, || Err("no model"), |_| "lost").await;
    assert_eq!(started.unwrap_err(), "no model");
}

#[tokio::test]
async fn callers_wait_when_all_threads_are_busy_and_work_of_gone_callers_is_dropped() {
    let pool = counters(1).await;
    let (release, held) = std_mpsc::channel::<()>();
    let (started, has_started) = oneshot::channel();
    let mut busy = Box::pin(pool.run(move |_| {
        started.send(()).unwrap();
        held.recv().unwrap();
    }));
    assert!(futures_util::poll!(&mut busy).is_pending());
    has_started.await.unwrap();

    // The channel takes two more; both callers go away, the third never gets in.
    for _ in 0..WAITING_PER_THREAD {
        let mut waiting = Box::pin(pool.run(|count| *count += 100));
        assert!(futures_util::poll!(&mut waiting).is_pending());
    }
    assert_eq!(pool.work.capacity(), 0);
    let mut refused = Box::pin(pool.run(|count| *count += 100));
    assert!(futures_util::poll!(&mut refused).is_pending());
    drop(refused);

    release.send(()).unwrap();
    busy.await.unwrap();
    assert_eq!(pool.run(|count| *count).await.unwrap(), 0);
}

#[tokio::test]
async fn stopping_waits_for_the_work_in_progress() {
    let pool = counters(2).await;
    let (release, held) = std_mpsc::channel::<()>();
    let (started, has_started) = oneshot::channel();
    let (tell, told) = std_mpsc::channel();
    let mut call = Box::pin(pool.run(move |_| {
        started.send(()).unwrap();
        held.recv().unwrap();
        tell.send("done").unwrap();
    }));
    assert!(futures_util::poll!(&mut call).is_pending());
    has_started.await.unwrap();
    drop(call);

    let mut stopping = Box::pin(pool.stop());
    assert!(futures_util::poll!(&mut stopping).is_pending());
    assert!(told.try_recv().is_err());
    release.send(()).unwrap();
    stopping.await;
    assert_eq!(told.try_recv().unwrap(), "done");
}
