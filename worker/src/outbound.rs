//! Requests to other people's servers, on behalf of clients: none reaches an address that is not public.
//!
//! A name is resolved by us, and the connection goes to an address that was checked, so that a name which changes between
//! the check and the connection gains nothing. Redirects are not followed.

use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, Method, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, HeaderName},
    redirect::Policy,
};
use shared::addresses::{Reach, Refusal};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Most bytes of an answer that is wanted whole.
pub(crate) const MAX_ANSWER: usize = 1024 * 1024;

/// What is read of an answer whose beginning is enough, so that its connection can be used again.
const READ_ON: usize = 64 * 1024;

/// How long the rest of an answer is waited for when its beginning is enough.
const LISTENING: Duration = Duration::from_secs(2);

/// Sends requests to addresses within reach, over connections that are kept.
pub(crate) struct Outbound {
    client: Client,
    reach: Arc<Reach>,
}

/// What is sent.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    /// For the whole exchange.
    pub(crate) timeout: Duration,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    /// Its scheme, its port, or the address it leads to.
    #[error("{0}")]
    Refused(String),
    /// No answer in time.
    #[error("the server did not answer in time")]
    Timeout,
    /// No connection, or a broken one.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// More than [`MAX_ANSWER`].
    #[error("the answer has more than {MAX_ANSWER} bytes")]
    TooLong,
}

impl OutboundError {
    /// Whether the same request may work later.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Timeout | Self::Unreachable(_) => true,
            Self::Refused(_) | Self::TooLong => false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0} leads to a private address, which is not allowed")]
struct Private(String);

struct Checked(Arc<Reach>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // one private address among several is reason enough: who owns the name chooses which is taken
            if found.iter().any(|address| !reach.admits(name.as_str(), address.ip())) {
                return Err(Private(name.as_str().to_owned()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Outbound {
    pub(crate) fn new(reach: Reach, user_agent: &str) -> reqwest::Result<Self> {
        let reach = Arc::new(reach);
        let client = Client::builder()
            .dns_resolver(Arc::new(Checked(reach.clone())))
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .user_agent(user_agent)
            .build()?;
        Ok(Self { client, reach })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(crate) async fn send(&self, outgoing: Outgoing) -> Result<Incoming, OutboundError> {
        let mut answer = self.ask(outgoing).await?;
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let mut body = BytesMut::new();
        while let Some(piece) = answer.chunk().await.map_err(of_reqwest)? {
            if body.len() + piece.len() > MAX_ANSWER {
                return Err(OutboundError::TooLong);
            }
            body.extend_from_slice(&piece);
        }
        Ok(Incoming { status, headers, body: body.freeze() })
    }

    /// Sends a request and keeps at most `most` bytes of the answer, whatever its status. An answer has come when its head
    /// has: what is missing of the rest does no harm.
    pub(crate) async fn send_briefly(&self, outgoing: Outgoing, most: usize) -> Result<Incoming, OutboundError> {
        let mut answer = self.ask(outgoing).await?;
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let (mut body, mut read) = (BytesMut::new(), 0);
        let end = Instant::now() + LISTENING;
        while read < READ_ON
            && let Ok(Ok(Some(piece))) = tokio::time::timeout_at(end, answer.chunk()).await
        {
            read += piece.len();
            body.extend_from_slice(&piece[..piece.len().min(most - body.len())]);
        }
        Ok(Incoming { status, headers, body: body.freeze() })
    }

    async fn ask(&self, outgoing: Outgoing) -> Result<reqwest::Response, OutboundError> {
        self.check(&outgoing.url)?;
        let mut request = self.client.request(outgoing.method, outgoing.url).headers(outgoing.headers);
        if let Some(body) = outgoing.body {
            request = request.body(body);
        }
        request.timeout(outgoing.timeout).send().await.map_err(of_reqwest)
    }

    /// What can be said without resolving a name.
    fn check(&self, url: &Url) -> Result<(), OutboundError> {
        self.reach.check(url).map_err(|refusal| {
            OutboundError::Refused(match refusal {
                Refusal::Scheme => format!("{} is no scheme that can be asked", url.scheme()),
                Refusal::Host => "the URL names no host".to_owned(),
                Refusal::Private => Private(url.host_str().unwrap_or_default().to_owned()).to_string(),
                Refusal::Port => {
                    let port = url.port_or_known_default().unwrap_or_default();
                    format!("port {port} belongs to another kind of service, which is not asked")
                }
            })
        })
    }
}

/// The headers that the connection owns, and a client cannot set.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "content-length"
            | "transfer-encoding"
            | "connection"
            | "upgrade"
            | "te"
            | "trailer"
            | "proxy-connection"
    )
}

fn of_reqwest(error: reqwest::Error) -> OutboundError {
    // a URL may hold a secret
    let error = error.without_url();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut last = String::new();
    while let Some(at) = cause {
        if let Some(private) = at.downcast_ref::<Private>() {
            return OutboundError::Refused(private.to_string());
        }
        last = at.to_string();
        cause = at.source();
    }
    if error.is_timeout() {
        return OutboundError::Timeout;
    }
    if error.is_builder() {
        return OutboundError::Refused(format!("the request cannot be sent: {last}"));
    }
    OutboundError::Unreachable(last)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn a_name_that_leads_home_is_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        for url in [
            "http://localhost:8009/",
            "http://127.0.0.1:8009/",
            "http://[::1]:8009/",
            "http://[::ffff:127.0.0.1]:8009/",
            "http://2130706433/",
            "http://example.com:6379/",
            "file:///x",
        ] {
            let outgoing = Outgoing {
                method: Method::GET,
                url: url.parse().unwrap(),
                headers: HeaderMap::new(),
                body: None,
                timeout: Duration::from_secs(5),
            };
            let answer = runtime.block_on(Outbound::new(Reach::default(), "tests").unwrap().send(outgoing));
            assert!(matches!(answer, Err(OutboundError::Refused(_))), "{url}: {answer:?}");
        }
    }
}
