//! A WebSocket needs hyper's own upgrade, which actix cannot give: its request goes through a pipe in memory to a hyper
//! connection of this process, and once the protocol has changed the bytes are pumped.

use super::{
    Engine, SocketIo,
    bridge::{Asked, finish, internal, not_the_protocol, stopped},
    session::{Ended, Session},
};
use crate::{error::ApiError, state::State};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::SEC_WEBSOCKET_ACCEPT},
    web,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::Full;
use hyper::{Request, body::Incoming, client, server};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use socketioxide::socket::Sid;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Bytes on their way between actix and the engine, in either direction.
const PIPE: usize = 16 * 1024;

/// Pieces on their way to the client.
const PIECES: usize = 8;

/// How often a connection that came later than its client is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// What a handshake is made of.
const HANDSHAKE: [&str; 5] =
    ["connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"];

/// Leads a WebSocket to the engine.
///
/// # Errors
/// 400 if the request is no handshake.
pub(super) async fn open(
    request: &HttpRequest,
    body: web::Payload,
    state: &web::Data<State>,
    socket_io: &web::Data<SocketIo>,
    asked: &Asked,
    session: Arc<Session>,
) -> Result<HttpResponse, ApiError> {
    check(request)?;
    let (ours, theirs) = tokio::io::duplex(PIPE);
    state.sockets.spawn(serve(theirs, socket_io.engine.clone(), Arc::clone(&session)));
    let mut handshake = Request::builder().uri(asked.uri()).header("host", "socket.io");
    for name in HANDSHAKE {
        if let Some(value) = request.headers().get(name) {
            handshake = handshake.header(name, value.as_bytes());
        }
    }
    let handshake = handshake.body(Full::<Bytes>::default()).map_err(internal)?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(ours)).await.map_err(internal)?;
    state.sockets.spawn(async move {
        // how it ends is seen by who sent the request
        let _ = connection.with_upgrades().await;
    });
    let mut answer = sender.send_request(handshake).await.map_err(internal)?;
    if answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
        return finish(Ok(answer)).await;
    }
    let accept = answer.headers().get(hyper::header::SEC_WEBSOCKET_ACCEPT).cloned();
    let upgraded = TokioIo::new(hyper::upgrade::on(&mut answer).await.map_err(internal)?);
    let (sender, receiver) = mpsc::channel(PIECES);
    let pump = Pump {
        state: state.clone(),
        cut: session.cut.clone(),
        later: asked.sid.map(|sid| (sid, Arc::clone(&socket_io.ended))),
    };
    state.sockets.spawn_local(pump.run(body, sender, upgraded));
    let mut response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS);
    if let Some(accept) = accept {
        response.insert_header((SEC_WEBSOCKET_ACCEPT, accept.as_bytes()));
    }
    Ok(response.upgrade("websocket").streaming(stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (Ok::<Bytes, Infallible>(piece), receiver))
    })))
}

/// The engine's end of the pipe.
async fn serve(pipe: DuplexStream, engine: Engine, session: Arc<Session>) {
    let engine = engine.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&session));
        request
    });
    let connection = server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(pipe), TowerToHyperService::new(engine))
        .with_upgrades();
    // how it ends is seen at the other end
    let _ = connection.await;
}

/// Carries the bytes of one WebSocket.
struct Pump {
    state: web::Data<State>,
    cut: CancellationToken,
    /// The session is an older one, which is not cut by `cut`.
    later: Option<(Sid, Arc<Ended>)>,
}

impl Pump {
    /// Carries bytes until one side ends or the session is cut.
    async fn run<S>(self, mut from_client: web::Payload, to_client: mpsc::Sender<Bytes>, engine: S)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
    {
        let (mut from_engine, mut to_engine) = tokio::io::split(engine);
        let inward = async {
            while let Some(Ok(piece)) = from_client.next().await {
                if to_engine.write_all(&piece).await.is_err() {
                    break;
                }
            }
        };
        let outward = async {
            let mut piece = vec![0; PIPE];
            while let Ok(read @ 1..) = from_engine.read(&mut piece).await {
                if to_client.send(Bytes::copy_from_slice(&piece[..read])).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = inward => {}
            () = outward => {}
            () = self.cut.cancelled() => {}
            () = sent_away(self.later) => {}
            () = stopped(&self.state) => {}
        }
    }
}

/// Waits until the session of a connection that came later was ended.
async fn sent_away(later: Option<(Sid, Arc<Ended>)>) {
    match later {
        Some((sid, ended)) => {
            while !ended.contains(sid) {
                time::sleep(LOOK).await;
            }
        }
        None => std::future::pending().await,
    }
}

fn check(request: &HttpRequest) -> Result<(), ApiError> {
    let says = |name: &str, word: &str| {
        let values = request.headers().get_all(name).filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
    };
    let key = request.headers().contains_key("sec-websocket-key");
    if says("connection", "upgrade") && says("upgrade", "websocket") && says("sec-websocket-version", "13") && key {
        return Ok(());
    }
    Err(not_the_protocol("Not a WebSocket handshake"))
}
