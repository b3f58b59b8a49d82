//! Who may connect: so many at once in all, and so many from one source.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// Counts the connections that are open. Cheap to clone: all clones count together.
#[derive(Debug, Clone)]
pub(super) struct Admission(Arc<Permits>);

#[derive(Debug)]
struct Permits {
    limit: usize,
    limit_per_source: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There are too many in all.
    Full,
    /// There are too many from this source.
    SourceFull,
}

/// One connection's admission, given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    source: IpAddr,
}

impl Admission {
    pub(super) fn new(limit: usize, limit_per_source: usize) -> Self {
        Self(Arc::new(Permits {
            limit,
            limit_per_source,
            taken: Mutex::default(),
        }))
    }

    pub(super) fn admit(&self, peer: SocketAddr) -> Result<Permit, Refusal> {
        let source = source_of(peer.ip());
        let mut taken = self.0.taken.lock();
        if taken.in_all >= self.0.limit {
            return Err(Refusal::Full);
        }
        let from_source = taken.by_source.get(&source).copied().unwrap_or(0);
        if from_source >= self.0.limit_per_source {
            return Err(Refusal::SourceFull);
        }
        taken.by_source.insert(source, from_source + 1);
        taken.in_all += 1;
        drop(taken);
        Ok(Permit {
            permits: Arc::clone(&self.0),
            source,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken.lock();
        taken.in_all -= 1;
        if let Some(from_source) = taken.by_source.get_mut(&self.source) {
            *from_source -= 1;
            if *from_source == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: whoever has one IPv6 address has the other 2^64 of its network too.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 9)
    }

    #[test]
    fn s_81_a_source_may_not_take_every_permit_and_gives_its_own_back() {
        let admission = Admission::new(3, 2);
        let first = admission.admit(peer("10.0.0.1")).unwrap();
        let _second = admission.admit(peer("10.0.0.1")).unwrap();
        assert_eq!(
            admission.admit(peer("10.0.0.1")).unwrap_err(),
            Refusal::SourceFull
        );
        let _other = admission.admit(peer("10.0.0.2")).unwrap();
        assert_eq!(admission.admit(peer("10.0.0.3")).unwrap_err(), Refusal::Full);
        drop(first);
        assert!(admission.admit(peer("10.0.0.1")).is_ok());
    }

    #[test]
    fn s_81_an_ipv6_network_is_one_source() {
        let admission = Admission::new(9, 1);
        let _permit = admission.admit(peer("2001:db8::1")).unwrap();
        assert_eq!(
            admission.admit(peer("2001:db8::2")).unwrap_err(),
            Refusal::SourceFull
        );
        assert!(admission.admit(peer("2001:db8:0:1::1")).is_ok());
        let _mapped = admission.admit(peer("::ffff:10.0.0.1")).unwrap();
        assert_eq!(
            admission.admit(peer("10.0.0.1")).unwrap_err(),
            Refusal::SourceFull
        );
    }

    #[test]
    fn a_source_without_connections_is_forgotten() {
        let admission = Admission::new(9, 9);
        drop(admission.admit(peer("10.0.0.1")).unwrap());
        assert!(admission.0.taken.lock().by_source.is_empty());
    }
}
