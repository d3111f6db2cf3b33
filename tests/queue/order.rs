//! Who comes first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{TimeDelta, Utc};
use shared::queue::{Ack, Depth, Priority, Queue, Ticket};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::fixture::{Server, TestWorker, drain, receive, ticket, tickets};

#[tokio::test]
async fn jobs_of_one_tenant_run_in_the_order_they_were_pushed() {
    let server = Server::start().await;
    let queue = server.queue();
    let tickets = tickets(500);
    assert_eq!(queue.push(&tickets).await.unwrap(), 500);
    let pushed: Vec<Uuid> = tickets.iter().map(|ticket| ticket.id).collect();
    assert_eq!(drain(&server, &queue, 500).await, pushed);
}

#[tokio::test]
async fn a_flood_of_one_tenant_delays_another_by_at_most_one_job() {
    let server = Server::start().await;
    let queue = server.queue();
    let flood = tickets(2_000);
    queue.push(&flood).await.unwrap();
    assert_eq!(drain_some(&server, &queue, 50).await.len(), 50);

    let single = ticket(Uuid::new_v4());
    queue.push(std::slice::from_ref(&single)).await.unwrap();
    let ahead = queue.position(single.id).await.unwrap().unwrap();
    assert!(ahead <= 1, "{ahead} jobs of the flood are still in front");
}

#[tokio::test]
async fn tenants_share_by_weight() {
    let server = Server::start().await;
    let queue = server.queue();
    let weights = [(Uuid::new_v4(), 10), (Uuid::new_v4(), 3), (Uuid::new_v4(), 1)];
    let mut owner = HashMap::new();
    for (tenant, weight) in weights {
        let tickets: Vec<Ticket> = (0..600).map(|_| Ticket { weight, ..ticket(tenant) }).collect();
        owner.extend(tickets.iter().map(|ticket| (ticket.id, tenant)));
        queue.push(&tickets).await.unwrap();
    }
    let order = drain(&server, &queue, 1_800).await;
    // 40 rounds of 10 + 3 + 1, in which nobody runs out of jobs.
    for (tenant, weight) in weights {
        let ran = order.iter().take(40 * 14).filter(|id| owner[*id] == tenant).count();
        assert!(ran.abs_diff(40 * usize::from(weight)) <= 10, "weight {weight} ran {ran} of 560");
    }
}

#[tokio::test]
async fn a_tenant_that_was_idle_gets_no_credit_for_it() {
    let server = Server::start().await;
    let queue = server.queue();
    let (busy, late) = (Uuid::new_v4(), Uuid::new_v4());
    queue.push(&(0..400).map(|_| ticket(busy)).collect::<Vec<_>>()).await.unwrap();
    drain_some(&server, &queue, 200).await;
    let latecomers: Vec<Ticket> = (0..100).map(|_| ticket(late)).collect();
    queue.push(&latecomers).await.unwrap();

    let remaining = 400 + 100 - 200;
    let order = drain(&server, &queue, remaining).await;
    let of_late = order.iter().take(100).filter(|id| latecomers.iter().any(|ticket| ticket.id == **id)).count();
    assert!((49..=51).contains(&of_late), "{of_late} of the next 100 belong to the latecomer");
}

#[tokio::test]
async fn an_earlier_class_goes_first_and_a_later_one_is_not_forgotten() {
    let server = Server::start().await;
    let queue = server.queue();
    let tenant = Uuid::new_v4();
    let classes = [Priority::Bulk, Priority::Default, Priority::Interactive];
    let mut class_of = HashMap::new();
    for _ in 0..20 {
        let tickets = classes.map(|priority| Ticket { priority, ..ticket(tenant) });
        class_of.extend(tickets.iter().map(|ticket| (ticket.id, ticket.priority)));
        queue.push(&tickets).await.unwrap();
    }
    let ran: Vec<Priority> = drain(&server, &queue, 60).await.iter().map(|id| class_of[id]).collect();
    assert!(ran.is_sorted(), "{ran:?}");
}

#[tokio::test]
async fn delayed_jobs_start_at_their_millisecond() {
    let server = Server::start().await;
    let queue = server.queue();
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = TestWorker::start(&server, &queue, 4, move |id| {
        let started = started.clone();
        async move {
            started.send((id, Utc::now())).unwrap();
            Ack::Done
        }
    });
    let due: Vec<Ticket> = (1..=20)
        .map(|n| Ticket { run_at: Some(Utc::now() + TimeDelta::microseconds(73_300 * n)), ..ticket(Uuid::new_v4()) })
        .collect();
    queue.push(&due).await.unwrap();
    let starts: HashMap<_, _> = receive(&mut starts, due.len()).await.into_iter().collect();
    let mut late: Vec<TimeDelta> = due.iter().map(|ticket| starts[&ticket.id] - ticket.run_at.unwrap()).collect();
    late.sort();
    assert!(late[0] >= TimeDelta::zero(), "a job started {} early", -late[0]);
    // a quarter of them on a busy machine; a worker that only polled each second would be late for nearly all
    let quarter = late[late.len() / 4];
    assert!(quarter <= TimeDelta::milliseconds(50), "three in four jobs started {quarter} late or more");
    worker.stop().await;
}

#[tokio::test]
async fn an_earlier_ticket_moves_a_delayed_job_forward_and_a_later_one_does_not_move_it_back() {
    let server = Server::start().await;
    let queue = server.queue();
    let later = Ticket { run_at: Some(Utc::now() + TimeDelta::hours(1)), ..ticket(Uuid::new_v4()) };
    let much_later = Ticket { run_at: Some(Utc::now() + TimeDelta::hours(2)), ..later.clone() };
    let now = Ticket { run_at: None, ..later.clone() };
    assert_eq!(queue.push(std::slice::from_ref(&later)).await.unwrap(), 1);
    assert_eq!(queue.push(&[much_later]).await.unwrap(), 0);
    assert_eq!(queue.depth().await.unwrap(), Depth { ready: 0, delayed: 1, leased: 0 });
    assert_eq!(queue.push(&[now]).await.unwrap(), 0);
    assert_eq!(queue.depth().await.unwrap(), Depth { ready: 1, delayed: 0, leased: 0 });
    assert_eq!(drain(&server, &queue, 1).await, [later.id]);
}

/// Lets a worker of one slot run `count` jobs; the one it holds then goes back to the front.
async fn drain_some(server: &Server, queue: &Queue, count: usize) -> Vec<Uuid> {
    let (started, mut order) = mpsc::unbounded_channel();
    let ran = Arc::new(AtomicUsize::new(0));
    let worker = TestWorker::start(server, queue, 1, move |id| {
        let (started, ran) = (started.clone(), ran.clone());
        async move {
            if ran.fetch_add(1, Ordering::SeqCst) >= count {
                return Ack::HAND_BACK;
            }
            started.send(id).unwrap();
            Ack::Done
        }
    });
    let order = receive(&mut order, count).await;
    worker.stop().await;
    order
}
