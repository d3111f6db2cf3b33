//! The job queue on a real Redis: order, leases, outages.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

mod fixture;
mod leases;
mod order;
mod outages;
mod shutdown;
mod stress;
