//! An entry of the log of revocations, byte by byte.

use crate::domain::{Revocation, SessionId, UserId};

pub(crate) fn to_bytes(revocation: &Revocation) -> Vec<u8> {
    match revocation {
        Revocation::Session { session, user } => {
            [b"s".as_slice(), &session.to_bytes(), &user.to_bytes()].concat()
        }
        Revocation::User { user, except } => {
            let except = except.map(SessionId::to_bytes);
            let except = except.as_ref().map_or(&[][..], |except| &except[..]);
            [b"u".as_slice(), &user.to_bytes(), except].concat()
        }
        Revocation::Everyone => b"e".to_vec(),
    }
}

/// The revocation; `None` if this version does not know it.
pub(crate) fn from_bytes(entry: &[u8]) -> Option<Revocation> {
    let (kind, rest) = entry.split_first()?;
    let two = |rest: &[u8]| {
        let (first, second) = rest.split_first_chunk::<16>()?;
        Some((*first, <[u8; 16]>::try_from(second).ok()?))
    };
    match (kind, rest.len()) {
        (b's', _) => two(rest).map(|(session, user)| Revocation::Session {
            session: SessionId::from_bytes(session),
            user: UserId::from_bytes(user),
        }),
        (b'u', 16) => Some(Revocation::User {
            user: UserId::from_bytes(rest.try_into().ok()?),
            except: None,
        }),
        (b'u', _) => two(rest).map(|(user, except)| Revocation::User {
            user: UserId::from_bytes(user),
            except: Some(SessionId::from_bytes(except)),
        }),
        (b'e', 0) => Some(Revocation::Everyone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_is_read_back_as_it_was() {
        let (session, user) = (SessionId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        let all = [
            Revocation::Session { session, user },
            Revocation::User { user, except: None },
            Revocation::User {
                user,
                except: Some(session),
            },
            Revocation::Everyone,
        ];
        for revocation in all {
            assert_eq!(from_bytes(&to_bytes(&revocation)), Some(revocation));
        }
        for entry in [&b""[..], b"?", b"s", b"u123", b"e1"] {
            assert_eq!(from_bytes(entry), None);
        }
    }
}
