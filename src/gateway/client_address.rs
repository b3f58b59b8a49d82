//! Whose address a request came from, when proxies may stand in between.

use http::{HeaderMap, HeaderName};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The prefix `::ffff:0:0/96`, which IPv4 addresses have in IPv6 (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX_BITS: u8 = 96;

/// A block of addresses: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressBlock {
    base: IpAddr,
    prefix_bits: u8,
}

impl AddressBlock {
    /// Whether the address lies in the block. An IPv4 address in IPv6 clothes counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let prefix_bits = u32::from(self.prefix_bits);
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differing = base.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= prefix_bits
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differing = base.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= prefix_bits
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for AddressBlock {
    type Err = InvalidAddressBlock;

    fn from_str(text: &str) -> Result<Self, InvalidAddressBlock> {
        let (base, prefix_bits) = match text.split_once('/') {
            Some((base, bits)) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                (base, Some(bits.parse::<u8>().map_err(|_| InvalidAddressBlock)?))
            }
            Some(_) => return Err(InvalidAddressBlock),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| InvalidAddressBlock)?;
        let all_bits = match base {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let prefix_bits = prefix_bits.unwrap_or(all_bits);
        if prefix_bits > all_bits {
            return Err(InvalidAddressBlock);
        }
        // An IPv4 address in IPv6 clothes means the IPv4 address, for a peer as well as here. A block that is wider than all of them is
        // neither.
        let (base, prefix_bits) = match (base, base.to_canonical()) {
            (IpAddr::V6(_), base @ IpAddr::V4(_)) => {
                let bits = prefix_bits
                    .checked_sub(MAPPED_PREFIX_BITS)
                    .ok_or(InvalidAddressBlock)?;
                (base, bits)
            }
            (base, _) => (base, prefix_bits),
        };
        Ok(Self { base, prefix_bits })
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_bits)
    }
}

/// The text is not a block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a block of addresses such as 10.0.0.0/8 or 2001:db8::/32")]
pub struct InvalidAddressBlock;

/// The client's address: the peer's, unless the peer is a trusted proxy; then the right-most address in X-Forwarded-For that is
/// none. Entries further left were written by that client and prove nothing.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[AddressBlock]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted_proxies.iter().any(|block| block.contains(address));
    let mut nearest = peer.to_canonical();
    let values: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    let hops = values
        .iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops {
        if !is_trusted(nearest) {
            break;
        }
        match parse_hop(hop) {
            Some(address) => nearest = address.to_canonical(),
            // The entry that a trusted proxy wrote cannot be read, so the proxy is the nearest known address.
            None => break,
        }
    }
    nearest
}

/// An address, with or without a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, value.parse().unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn s_57_an_untrusted_peer_is_the_client_whatever_it_claims() {
        assert_eq!(seen("192.0.2.1", &["1.1.1.1"]), "192.0.2.1");
        assert_eq!(seen("192.0.2.1", &["10.0.0.1, 10.0.0.2"]), "192.0.2.1");
    }

    #[test]
    fn s_57_behind_a_trusted_proxy_the_right_most_untrusted_hop_counts() {
        assert_eq!(seen("10.0.0.1", &["1.1.1.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", &["1.1.1.1, 192.0.2.7, 10.0.0.9"]), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", &["1.1.1.1", "192.0.2.7"]), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", &["192.0.2.7:4711"]), "192.0.2.7");
        assert_eq!(seen("fd00::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(seen("fd00::1", &["[2001:db8::7]"]), "2001:db8::7");
        assert_eq!(seen("::ffff:10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn s_57_garbage_ends_the_walk_at_the_proxy_that_wrote_it() {
        assert_eq!(seen("10.0.0.1", &["1.1.1.1, unknown"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["1.1.1.1, , 10.0.0.2"]), "10.0.0.2");
        let hops = vec!["10.0.0.5"; 200].join(",");
        assert_eq!(seen("10.0.0.1", &[&hops]), "10.0.0.5");
    }

    proptest! {
        #[test]
        fn s_57_no_header_makes_the_walk_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = http::HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(X_FORWARDED_FOR, value);
                client_address("10.0.0.1".parse().unwrap(), &headers, &["10.0.0.0/8".parse().unwrap()]);
            }
        }
    }

    #[test]
    fn a_block_contains_its_addresses_only() {
        let contains = |block: &str, address: &str| {
            block
                .parse::<AddressBlock>()
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.255.255.255"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("0.0.0.0/0", "255.255.255.255"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("127.0.0.1", "127.0.0.1"));
        assert!(!contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
    }

    #[test]
    fn s_57_an_ipv4_block_in_ipv6_clothes_means_the_ipv4_block() {
        for (written, meant) in [
            ("::ffff:127.0.0.1", "127.0.0.1/32"),
            ("::ffff:7f00:1", "127.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(written.parse::<AddressBlock>().unwrap().to_string(), meant);
        }
        let peer = "127.0.0.1".parse().unwrap();
        let forwarded = HeaderMap::from_iter([(X_FORWARDED_FOR, "192.0.2.7".parse().unwrap())]);
        let trusted = ["::ffff:127.0.0.1".parse().unwrap()];
        assert_eq!(
            client_address(peer, &forwarded, &trusted).to_string(),
            "192.0.2.7"
        );
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "::ffff:10.0.0.0/95",
            "::ffff:10.0.0.0/8",
            "fe80::1%eth0",
            "10.0.0.*",
            "host/8",
        ] {
            assert_eq!(text.parse::<AddressBlock>(), Err(InvalidAddressBlock), "{text}");
        }
    }
}
