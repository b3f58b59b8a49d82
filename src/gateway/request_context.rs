//! What the gateway knows of a request before it looks at the route.

use super::{
    GatewayConfig,
    client_address::client_address,
    origin::Origin,
    problem::ProblemKind,
    single_header::{SingleHeader, single_header},
    transport::Transport,
};
use crate::{contract::RequestId, domain::Client, listener::Peer};
use http::{HeaderValue, Version, header, request};
use std::net::IpAddr;

/// A request's client, its way to the gateway, and its id in the logs. An extension of every request.
#[derive(Debug, Clone)]
pub(super) struct RequestContext {
    pub(super) request_id: RequestId<'static>,
    /// `None` if the listener did not note it.
    pub(super) client_ip: Option<IpAddr>,
    /// What the client calls itself: at most [`Client::MAX_USER_AGENT_BYTES`], without control characters; may be empty.
    pub(super) user_agent: String,
    /// How the client reached the gateway.
    pub(super) transport: Transport,
    host: Option<String>,
}

impl RequestContext {
    /// Reads it from a request. Of the request's own claims only its host counts, and that decides nothing that the client could not
    /// have had anyway.
    pub(super) fn of(request: &request::Parts, config: &GatewayConfig) -> Self {
        let host = host_of(request);
        let peer = request.extensions.get::<Peer>();
        Self {
            request_id: RequestId::of(&request.headers).into_owned(),
            client_ip: peer
                .map(|peer| client_address(peer.address.ip(), &request.headers, &config.trusted_proxies)),
            user_agent: request
                .headers
                .get(header::USER_AGENT)
                .map(printable)
                .unwrap_or_default(),
            transport: Transport::of(
                config.public_origin.as_ref(),
                config.listens_on_plain_loopback,
                host.as_deref(),
                &request.headers,
            ),
            host,
        }
    }

    /// Whether the request names its host as HTTP demands.
    ///
    /// # Errors
    /// [`ProblemKind::BadHost`] if it names none in HTTP/1.1 or later, or more than one (RFC 9112 §3.2).
    pub(super) fn check_host(&self, version: Version) -> Result<(), ProblemKind> {
        match self.host.is_some() || version <= Version::HTTP_10 {
            true => Ok(()),
            false => Err(ProblemKind::BadHost),
        }
    }

    /// Whether the origin is the gateway's own: the configured one, or else the one that the request was sent to.
    pub(super) fn is_own_origin(&self, origin: &Origin, configured: Option<&Origin>) -> bool {
        match configured {
            Some(own) => own == origin,
            None => self.host.as_deref().is_some_and(|host| origin.has_host(host)),
        }
    }
}

fn host_of(request: &request::Parts) -> Option<String> {
    if let Some(authority) = request.uri.authority() {
        return Some(authority.as_str().to_owned());
    }
    match single_header(&request.headers, &header::HOST) {
        SingleHeader::Once(host) if !host.is_empty() => Some(host.to_owned()),
        SingleHeader::Once(_) | SingleHeader::Absent | SingleHeader::Invalid => None,
    }
}

fn printable(value: &HeaderValue) -> String {
    let mut text: String = String::from_utf8_lossy(value.as_bytes())
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    text.truncate(text.floor_char_boundary(Client::MAX_USER_AGENT_BYTES));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::Request;

    fn read_context(request: http::request::Builder) -> (RequestContext, Version) {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        (
            RequestContext::of(&parts, &GatewayConfig::default()),
            parts.version,
        )
    }

    #[test]
    fn s_88_a_user_agent_is_cut_to_what_the_service_takes() {
        let long = "é".repeat(400);
        let request = Request::builder().header(
            header::USER_AGENT,
            HeaderValue::from_bytes(long.as_bytes()).unwrap(),
        );
        let user_agent = read_context(request).0.user_agent;
        assert_eq!(user_agent.len(), Client::MAX_USER_AGENT_BYTES);
        let tab = Request::builder().header(header::USER_AGENT, "a\tb");
        assert_eq!(read_context(tab).0.user_agent, "ab");
    }

    #[test]
    fn a_request_names_one_host() {
        let check = |request| {
            let (context, version) = read_context(request);
            context.check_host(version)
        };
        assert_eq!(check(Request::builder().header("host", "a")), Ok(()));
        assert_eq!(check(Request::builder()), Err(ProblemKind::BadHost));
        assert_eq!(
            check(Request::builder().header("host", "a").header("host", "a")),
            Err(ProblemKind::BadHost)
        );
        assert_eq!(check(Request::builder().version(Version::HTTP_10)), Ok(()));
    }
}
