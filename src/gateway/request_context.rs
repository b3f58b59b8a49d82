//! What the gateway knows of a request before it looks at what is asked.

use super::{
    GatewayConfig,
    client_address::client_address,
    origin::Origin,
    problem::ProblemKind,
    single_header::{SingleHeader, single_header},
    transport::Transport,
};
use crate::listener::Peer;
use http::{HeaderName, HeaderValue, Version, header, request};
use std::net::IpAddr;

/// The header that carries a request's id: in, out, and on to the service.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_NAME);
pub(super) const REQUEST_ID_NAME: &str = "x-request-id";

const USER_AGENT_MAX_BYTES: usize = 512;

/// Who sent a request, by which way, and what it is called in logs. An extension of every request.
#[derive(Debug, Clone)]
pub(super) struct RequestContext {
    /// 1 to 64 characters out of `A-Z a-z 0-9 . _ -`.
    pub(super) request_id: String,
    /// `None` if whoever accepted the connection did not say.
    pub(super) client_ip: Option<IpAddr>,
    /// What the client calls itself: at most 512 bytes, without control characters; may be empty.
    pub(super) user_agent: String,
    /// How the client reached the gateway.
    pub(super) transport: Transport,
    host: Option<String>,
}

impl RequestContext {
    /// Reads it off a request. Of what the request claims only its host is believed, and that decides nothing that the client could
    /// not have had anyway.
    pub(super) fn of(request: &request::Parts, config: &GatewayConfig) -> Self {
        let host = host_of(request);
        let peer = request.extensions.get::<Peer>();
        Self {
            request_id: match single_header(&request.headers, &REQUEST_ID) {
                SingleHeader::Once(id) if is_request_id(id) => id.to_owned(),
                SingleHeader::Once(_) | SingleHeader::Absent | SingleHeader::Invalid => {
                    uuid::Uuid::now_v7().simple().to_string()
                }
            },
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

/// An id from outside ends up in logs and headers: it must be unable to forge either.
fn is_request_id(id: &str) -> bool {
    let is_id_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&id.len()) && id.bytes().all(is_id_byte)
}

fn printable(value: &HeaderValue) -> String {
    let mut text: String = String::from_utf8_lossy(value.as_bytes())
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    text.truncate(text.floor_char_boundary(USER_AGENT_MAX_BYTES));
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
    fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
        let id = |given: &[u8]| {
            let value = HeaderValue::from_bytes(given).unwrap();
            read_context(Request::builder().header(REQUEST_ID, value))
                .0
                .request_id
        };
        assert_eq!(id(b"abc-1.2_3"), "abc-1.2_3");
        for given in [&b""[..], b"a b", b"a\"b", b"\xff", &[b'a'; 65]] {
            assert_eq!(id(given).len(), 32);
        }
        let twice = Request::builder()
            .header(REQUEST_ID, "one")
            .header(REQUEST_ID, "two");
        assert_eq!(read_context(twice).0.request_id.len(), 32);
    }

    #[test]
    fn s_88_a_user_agent_is_cut_to_what_the_service_takes() {
        let long = "é".repeat(400);
        let request = Request::builder().header(
            header::USER_AGENT,
            HeaderValue::from_bytes(long.as_bytes()).unwrap(),
        );
        let user_agent = read_context(request).0.user_agent;
        assert_eq!(user_agent.len(), 512);
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
