//! Between the domain's words and the messages' that all ends convert.

use crate::{
    domain::{AuthMethod, Timestamp},
    pb,
};
use std::time::Duration;

impl From<AuthMethod> for pb::AuthMethod {
    fn from(method: AuthMethod) -> Self {
        match method {
            AuthMethod::Password => Self::Password,
            AuthMethod::Caller => Self::Caller,
        }
    }
}

/// How the user was authenticated; `None`: in a way that this release does not know.
#[must_use]
pub fn auth_method(method: pb::AuthMethod) -> Option<AuthMethod> {
    match method {
        pb::AuthMethod::Password => Some(AuthMethod::Password),
        pb::AuthMethod::Caller => Some(AuthMethod::Caller),
        pb::AuthMethod::Unspecified => None,
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(at: Timestamp) -> Self {
        let millis = at.as_millis();
        Self {
            seconds: millis.div_euclid(1000),
            nanos: i32::try_from(millis.rem_euclid(1000)).unwrap_or(0) * 1_000_000,
        }
    }
}

/// The instant in a message, cut to whole milliseconds; the nearest representable one if it is out of range.
#[must_use]
pub fn timestamp(wire: prost_types::Timestamp) -> Timestamp {
    let millis = wire.seconds.saturating_mul(1000);
    Timestamp::from_millis(millis.saturating_add(i64::from(wire.nanos / 1_000_000)))
}

/// The span for a message; the longest representable one if it is out of range.
#[must_use]
pub fn wire_duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timestamp_before_1970_has_positive_nanos() {
        let at = prost_types::Timestamp::from(Timestamp::from_millis(-1));
        assert_eq!((at.seconds, at.nanos), (-1, 999_000_000));
    }

    #[test]
    fn an_instant_out_of_range_is_the_nearest_in_range() {
        for seconds in [i64::MIN, i64::MAX] {
            let at = timestamp(prost_types::Timestamp { seconds, nanos: 0 });
            assert_eq!(at.as_millis(), seconds);
        }
    }

    proptest! {
        #[test]
        fn timestamps_come_back_from_the_wire(millis in -1i64 << 60..1 << 60) {
            let at = Timestamp::from_millis(millis);
            prop_assert_eq!(timestamp(at.into()), at);
        }
    }

    #[test]
    fn every_auth_method_comes_back_from_the_wire() {
        for method in [AuthMethod::Password, AuthMethod::Caller] {
            assert_eq!(auth_method(method.into()), Some(method));
        }
        assert_eq!(auth_method(pb::AuthMethod::Unspecified), None);
    }
}
