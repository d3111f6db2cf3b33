//! Where a request comes from: the address of the client, also behind proxies that are trusted, and its request id; and
//! where it went to, which is where links lead.

use crate::{edge::RequestId, error::ApiError, state::State};
use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header::{HOST, HeaderName},
    web,
};
use futures_util::future::{Ready, ready};
use ipnet::IpNet;
use serde_json::Value;
use shared::models::NewAudit;
use std::net::IpAddr;
use uuid::Uuid;

/// What the log of changes keeps of a request.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The client's address.
    pub(crate) ip: Option<String>,
    /// The id in logs and answers.
    pub(crate) request_id: Option<String>,
}

impl FromRequest for Origin {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
        ready(Ok(Self { ip: client_ip(request).map(|ip| ip.to_string()), request_id }))
    }
}

impl Origin {
    /// Of what the operator does, without a request.
    pub(crate) const fn operator() -> Self {
        Self { ip: None, request_id: None }
    }

    /// An entry of the log of changes: somebody did something to something (its type and id) in an organization. `data`
    /// holds no secret.
    pub(crate) fn entry<'a>(
        &'a self,
        organization_id: Uuid,
        actor_id: Uuid,
        action: &'a str,
        target: (&'a str, Uuid),
        data: Value,
    ) -> NewAudit<'a> {
        NewAudit {
            organization_id,
            actor_id: Some(actor_id),
            action,
            target_type: target.0,
            target_id: Some(target.1),
            data,
            ip: self.ip.as_deref(),
            request_id: self.request_id.as_deref(),
        }
    }
}

/// What links to this API begin with, without a slash at the end: `ATELIER_PUBLIC_URL`, or else the host that the client
/// has called.
pub(crate) fn public_base(request: &HttpRequest) -> String {
    let state = request.app_data::<web::Data<State>>();
    if let Some(url) = state.and_then(|state| state.config.public_url.as_ref()) {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = header(HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    // the proxy in front, which is to be trusted, speaks TLS
    let behind_tls = peer(request).is_some_and(|peer| is_within(peer, trusted(request)))
        && header(HeaderName::from_static("x-forwarded-proto")) == Some("https");
    format!("{}://{}", if behind_tls { "https" } else { "http" }, host.unwrap_or("localhost"))
}

/// The address of the client. A proxy is believed what it says in `X-Forwarded-For` if it is trusted
/// (`ATELIER_TRUSTED_PROXIES`); of the addresses in there, the last one that is not trusted itself is the client's.
pub(crate) fn client_ip(request: &HttpRequest) -> Option<IpAddr> {
    let forwarded = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
    Some(behind_proxies(peer(request)?, trusted(request), &forwarded.collect::<Vec<_>>()))
}

/// Who is at the other end of the connection.
fn peer(request: &HttpRequest) -> Option<IpAddr> {
    Some(request.peer_addr()?.ip().to_canonical())
}

/// The networks of trusted proxies.
fn trusted(request: &HttpRequest) -> &[IpNet] {
    let state = request.app_data::<web::Data<State>>();
    state.map(|state| state.config.trusted_proxies.as_slice()).unwrap_or_default()
}

fn is_within(ip: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// Base of addresses that are sent by mail. Where none is set it is the address that the request was received on, never what
/// the request says: whoever asks for a mail to somebody else is not to choose where its link leads.
pub(crate) fn mail_base(request: &HttpRequest) -> String {
    let set = request.app_data::<web::Data<State>>().and_then(|state| state.config.public_url.as_ref());
    let base = set.map_or_else(|| format!("http://{}", request.app_config().local_addr()), ToString::to_string);
    base.trim_end_matches('/').to_owned()
}

fn behind_proxies(peer: IpAddr, trusted: &[IpNet], forwarded: &[&str]) -> IpAddr {
    let mut client = peer;
    for said in forwarded.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !is_within(client, trusted) {
            break;
        }
        // whatever stands before something unreadable may be made up
        let Ok(ip) = said.trim().parse::<IpAddr>() else { break };
        client = ip.to_canonical();
    }
    client
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (peer, forwarded, client) in [
            ("203.0.113.7", &["198.51.100.1"][..], "203.0.113.7"),
            ("10.1.1.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", &["1.1.1.1, 198.51.100.1, 10.2.2.2"], "198.51.100.1"),
            ("10.1.1.1", &["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", &["1.1.1.1, nonsense"], "10.1.1.1"),
            ("10.1.1.1", &[], "10.1.1.1"),
            ("10.1.1.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
        ] {
            let found = behind_proxies(peer.parse().unwrap(), &trusted, forwarded);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
        }
    }
}
