//! Loopback ports for servers.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
};

use rand::RngExt as _;

/// Below the range from which the kernel takes ports for outgoing connections (32768 and up on Linux), so that a server
/// which is down for a moment finds its port free when it comes back.
const RANGE: std::ops::Range<u16> = 20_000..32_000;
const ATTEMPTS: usize = 200;

/// A listener on the preferred port of 127.0.0.1, or on any free one.
///
/// # Errors
/// When no port at all can be had.
pub fn listen(preferred: Option<u16>) -> io::Result<TcpListener> {
    if let Some(port) = preferred
        && let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
    {
        return Ok(listener);
    }
    let mut random = rand::rng();
    for _ in 0..ATTEMPTS {
        let port = random.random_range(RANGE);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

/// The preferred port if it is free now, or any free one. Another program may take it before it is used: be ready to
/// ask again.
///
/// # Errors
/// When no port at all can be had.
pub fn free(preferred: Option<u16>) -> io::Result<u16> {
    Ok(listen(preferred)?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use super::*;

    #[test]
    fn a_taken_port_is_replaced_by_a_free_one() {
        let first = listen(None).unwrap();
        let taken = first.local_addr().unwrap().port();
        assert_ne!(free(Some(taken)).unwrap(), taken);
        drop(first);
        assert_eq!(free(Some(taken)).unwrap(), taken);
    }
}
