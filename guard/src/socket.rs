//! One socket option that the standard library does not offer.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Sends the acknowledgement of what was just received without the usual delay of 40 ms.
///
/// A mail client that leaves Nagle's algorithm on writes a message in two parts and waits for the first to be acknowledged;
/// a server that would otherwise answer only after the second makes each mail wait for that delay. The option wears off:
/// set it before each read.
///
/// # Errors
/// What the kernel says, for instance that the descriptor is no TCP socket.
pub fn acknowledge_at_once(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed for the call, and the pointer and length describe `on`, which outlives it.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_QUICKACK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use super::*;

    #[test]
    fn a_tcp_socket_takes_it_and_a_file_does_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        acknowledge_at_once(&stream).unwrap();
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert!(acknowledge_at_once(&file).is_err());
    }
}
