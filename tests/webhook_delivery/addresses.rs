//! Addresses that no delivery may reach, however they are written and whatever their names resolve to.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use super::with;
use harness::{Receiver, World};
use shared::models::JobStatus;

/// The name of this machine, which leads to itself and is not `localhost`: what a rebound name looks like.
fn own_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_and_ports_of_other_services_are_refused_when_it_comes_to_sending() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let tenant = world.tenant(1).await;
    let port = receiver.address.port();
    let _worker = world.worker_with(&["deliveries"], &with(&[("ATELIER_WEBHOOK_ALLOW_LIST", "")])).await;
    let mut urls: Vec<String> =
        ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0.0.0.0"]
            .map(|host| format!("http://{host}:{port}/hook"))
            .to_vec();
    urls.push(format!("http://{}:{port}/hook", own_name()));
    urls.extend(
        [
            "http://169.254.169.254/latest/meta-data/",
            "http://[fd00:ec2::254]/latest/meta-data/",
            "http://10.0.0.1/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://[fe80::1]/",
            "http://[64:ff9b::127.0.0.1]/",
            "http://93.184.216.34:22/",
            "http://93.184.216.34:6379/",
            "https://93.184.216.34:5432/",
            "ftp://93.184.216.34/",
            "file:///etc/passwd",
            "no address",
        ]
        .map(str::to_owned),
    );
    for url in urls {
        let hook = world.hook(&tenant, &url).await;
        let id = world.deliver(&hook, 1).await[0];
        let job = world.delivered(id).await;
        assert_eq!((job.status, job.error_code.as_deref()), (JobStatus::Failed, Some("receiver_forbidden")), "{url}");
        let tries = world.tries(id).await;
        assert_eq!((tries.len(), tries[0].status), (1, None), "{url}: it is not tried again");
        assert!(tries[0].error.is_some());
        assert_eq!(world.hook_row(&hook).await.failures, 1, "{url}");
    }
    assert_eq!(receiver.count("/hook"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_allows_is_reached() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let tenant = world.tenant(1).await;
    let port = receiver.address.port();
    let own = own_name();
    for (setting, value, host) in [
        ("ATELIER_WEBHOOK_ALLOW_LIST", "127.0.0.0/8", "127.0.0.1"),
        ("ATELIER_WEBHOOK_ALLOW_LIST", "127.0.0.0/8", own.as_str()),
        ("ATELIER_WEBHOOK_ALLOW_LIST", "example.com, localhost", "localhost"),
        ("ATELIER_WEBHOOK_ALLOW_PRIVATE", "on", "127.0.0.1"),
        ("ATELIER_WEBHOOK_ALLOW_PRIVATE", "on", own.as_str()),
    ] {
        let settings = with(&[("ATELIER_WEBHOOK_ALLOW_LIST", ""), (setting, value)]);
        let worker = world.worker_with(&["deliveries"], &settings).await;
        let hook = world.hook(&tenant, &format!("http://{host}:{port}/hook")).await;
        let id = world.deliver(&hook, 1).await[0];
        assert_eq!(world.delivered(id).await.status, JobStatus::Completed, "{setting}={value} and {host}");
        worker.stop().await;
    }
    assert_eq!(receiver.count("/hook"), 5);
}
