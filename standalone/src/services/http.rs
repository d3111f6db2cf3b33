//! The accept loop that the S3 store and the mail sink's page share.

use std::{convert::Infallible, future::Future, net, time::Duration};

use hyper::{Request, Response, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::task::JoinSet;

/// After a failed accept (out of file handles, say), before the next.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers HTTP on `listener` until the future is dropped, which also ends the connections.
pub(crate) async fn serve<H, F, B>(listener: tokio::net::TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let service = hyper::service::service_fn(handler.clone());
        connections.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            // A connection that breaks off concerns only its client.
            let _ = builder.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// A listener of the standard library as one of tokio's; to be called inside a runtime.
pub(crate) fn listener(listener: net::TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
