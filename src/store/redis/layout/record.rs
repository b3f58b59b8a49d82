//! What is stored under a token's digest, byte by byte.
//!
//! | bytes | a session (`s`), or one that a rotation brings here (`p`) | moved (`m`) | ended (`x`) |
//! |---|---|---|---|
//! | 0 | the kind | | |
//! | 1–16, 17–32 | session id, user id | the same | the same |
//! | 33–40 | created after: the sequence of the last revocation before it | until when the old token works | as it was |
//! | 41–48, 49–56 | last seen, authenticated | 41–72: the digest moved to | as it was |
//! | 57, 58–61, 62–65 | method, lifetime, idle timeout | | as it was |
//! | 66– | client and attributes, if there are any | 73–80: last seen when it left | 66–73: the attempt that ended it |
//!
//! The forwarding note of the first release ends after the digest.
//!
//! Numbers are unsigned and big-endian; instants are milliseconds, and those before 1970 count as 1970. The scripts read the same
//! offsets, plus one, because Lua counts from one.

use crate::domain::{
    Attributes, AuthMethod, Client, LiveSession, Session, SessionId, SessionSpan, Timestamp, TokenDigest,
    UserId,
};
use std::collections::BTreeMap;

const HEADER_BYTES: usize = 66;
const MOVED_BYTES: usize = 73;
const CREATED_AFTER: usize = 33;
const LAST_SEEN_AT: usize = 41;
const AUTHENTICATED_AT: usize = 49;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// A session, which its own token proves.
    Active,
    /// A session that a rotation brings here. It lives if it has left its old place, which only the record there shows.
    Arriving,
    /// A forwarding note: the session has another token now.
    Moved,
    /// A tombstone: the session has ended. Kept for a minute, so that an operation that is tried again finds out what to publish.
    Ended,
}

/// A stored record of known kind and sufficient length.
#[derive(Clone)]
pub(crate) struct SessionRecord {
    bytes: Vec<u8>,
    kind: RecordKind,
}

impl SessionRecord {
    /// The record with these bytes; `None` if this version does not know it.
    pub(crate) fn from_stored(bytes: Vec<u8>) -> Option<Self> {
        let (kind, least) = match bytes.first()? {
            b's' => (RecordKind::Active, HEADER_BYTES),
            b'p' => (RecordKind::Arriving, HEADER_BYTES),
            b'm' => (RecordKind::Moved, MOVED_BYTES),
            b'x' => (RecordKind::Ended, HEADER_BYTES),
            _ => return None,
        };
        (bytes.len() >= least).then_some(Self { bytes, kind })
    }

    /// A session as it is stored.
    pub(crate) fn of(session: &Session, created_after: u64) -> Self {
        let live = &session.live;
        let millis = |at: Timestamp| u64::try_from(at.as_millis()).unwrap_or(0).to_be_bytes();
        let mut bytes = Vec::with_capacity(256);
        bytes.push(b's');
        bytes.extend(live.id.to_bytes());
        bytes.extend(live.user_id.to_bytes());
        bytes.extend(created_after.to_be_bytes());
        bytes.extend(millis(live.last_seen_at));
        bytes.extend(millis(live.authenticated_at));
        bytes.push(match live.auth_method {
            AuthMethod::Password => 1,
            AuthMethod::Caller => 2,
        });
        bytes.extend(live.span.lifetime_secs().to_be_bytes());
        bytes.extend(live.span.idle_timeout_secs().to_be_bytes());
        push_details(&mut bytes, &session.client, &session.attributes);
        Self {
            bytes,
            kind: RecordKind::Active,
        }
    }

    /// The same session, arriving at another token.
    pub(crate) fn arriving(&self, authenticated_at: Option<Timestamp>) -> Self {
        let mut bytes = self.bytes.clone();
        bytes[0] = b'p';
        if let Some(at) = authenticated_at {
            let millis = u64::try_from(at.as_millis()).unwrap_or(0);
            bytes[AUTHENTICATED_AT..AUTHENTICATED_AT + 8].copy_from_slice(&millis.to_be_bytes());
        }
        Self {
            bytes,
            kind: RecordKind::Arriving,
        }
    }

    /// The session that was arriving here, as it is now that it has left what `left` remains of.
    pub(crate) fn arrived(&self, left: &Self) -> Self {
        let mut bytes = self.bytes.clone();
        bytes[0] = b's';
        if let Some(last_seen) = left.bytes.get(MOVED_BYTES..MOVED_BYTES + 8) {
            bytes[LAST_SEEN_AT..LAST_SEEN_AT + 8].copy_from_slice(last_seen);
        }
        Self {
            bytes,
            kind: RecordKind::Active,
        }
    }

    /// The forwarding note that replaces this record when its session moves, except for when it was last seen: that is known only
    /// there and then.
    pub(crate) fn forwarding_note(&self, works_until: Timestamp, to: &TokenDigest) -> Vec<u8> {
        let works_until = u64::try_from(works_until.as_millis()).unwrap_or(0);
        [
            b"m".as_slice(),
            &self.bytes[1..CREATED_AFTER],
            &works_until.to_be_bytes(),
            to.as_bytes(),
        ]
        .concat()
    }

    /// When the session of this record was last seen, in a record's form.
    pub(crate) fn last_seen_bytes(&self) -> &[u8] {
        &self.bytes[LAST_SEEN_AT..LAST_SEEN_AT + 8]
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn kind(&self) -> RecordKind {
        self.kind
    }

    pub(crate) fn id(&self) -> SessionId {
        SessionId::from_bytes(self.array(1))
    }

    pub(crate) fn user(&self) -> UserId {
        UserId::from_bytes(self.array(17))
    }

    /// The sequence of the last revocation before the session was created.
    pub(crate) fn created_after(&self) -> u64 {
        u64::from_be_bytes(self.array(CREATED_AFTER))
    }

    /// Of a record that has moved: until when its token works, and where the session is now.
    pub(crate) fn moved_to(&self) -> Option<(Timestamp, TokenDigest)> {
        (self.kind == RecordKind::Moved).then(|| {
            (
                self.instant(CREATED_AFTER),
                TokenDigest::from_bytes(self.array(41)),
            )
        })
    }

    /// What a check needs of a session that is stored here or was; `None` if the record has moved or makes no sense.
    pub(crate) fn live(&self) -> Option<LiveSession> {
        if self.kind == RecordKind::Moved {
            return None;
        }
        Some(LiveSession {
            id: self.id(),
            user_id: self.user(),
            last_seen_at: self.instant(LAST_SEEN_AT),
            authenticated_at: self.instant(AUTHENTICATED_AT),
            auth_method: match self.bytes[57] {
                1 => AuthMethod::Password,
                2 => AuthMethod::Caller,
                _ => return None,
            },
            span: SessionSpan::from_secs(
                u32::from_be_bytes(self.array(58)),
                u32::from_be_bytes(self.array(62)),
            ),
            grace_ends_at: None,
        })
    }

    /// The session whole.
    pub(crate) fn session(&self) -> Option<Session> {
        let (client, attributes) = details(&self.bytes[HEADER_BYTES..])?;
        Some(Session {
            live: self.live()?,
            client,
            attributes,
        })
    }

    fn instant(&self, at: usize) -> Timestamp {
        let millis = u64::from_be_bytes(self.array(at));
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    /// The bytes from `at` on; a record is never shorter than its kind needs.
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }
}

fn push_details(bytes: &mut Vec<u8>, client: &Client, attributes: &Attributes) {
    let texts = [client.ip(), client.user_agent(), client.label()];
    if texts.iter().all(|text| text.is_empty()) && attributes.entries().is_empty() {
        return;
    }
    let entries = attributes.entries().iter();
    for text in texts
        .into_iter()
        .chain(entries.flat_map(|(key, value)| [key.as_str(), value]))
    {
        bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
}

fn details(mut bytes: &[u8]) -> Option<(Client, Attributes)> {
    if bytes.is_empty() {
        return Some(Default::default());
    }
    let mut text = || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        bytes = rest;
        String::from_utf8(text.to_vec())
            .ok()
            .map(|text| (text, rest.is_empty()))
    };
    let (ip, user_agent, (label, mut is_last)) = (text()?.0, text()?.0, text()?);
    let mut entries = BTreeMap::new();
    while !is_last {
        let key = text()?.0;
        let value = text()?;
        is_last = value.1;
        entries.insert(key, value.0);
    }
    Some((
        Client::from_stored(ip, user_agent, label),
        Attributes::from_stored(entries),
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn session(label: &str) -> Session {
        Session {
            live: LiveSession {
                id: SessionId::from_bytes([1; 16]),
                user_id: UserId::from_bytes([2; 16]),
                last_seen_at: Timestamp::from_millis(1_795_000_000_123),
                authenticated_at: Timestamp::from_millis(1_794_000_000_456),
                auth_method: AuthMethod::Caller,
                span: SessionSpan::from_secs(43_200, 1_800),
                grace_ends_at: None,
            },
            client: Client::from_stored(String::new(), String::new(), label.into()),
            attributes: Attributes::default(),
        }
    }

    #[test]
    fn a_session_is_read_back_as_it_was_and_takes_66_bytes_without_details() {
        let bare = SessionRecord::of(&session(""), 77);
        assert_eq!(bare.bytes().len(), 66);
        for label in ["", "a laptop"] {
            let record = SessionRecord::of(&session(label), 77);
            let again = SessionRecord::from_stored(record.bytes().to_vec()).unwrap();
            assert_eq!(again.session(), Some(session(label)));
            assert_eq!(again.created_after(), 77);
        }
    }

    #[test]
    fn f_23_records_are_the_bytes_that_the_first_release_wrote() {
        let mut first = vec![b's'];
        first.extend([1; 16]);
        first.extend([2; 16]);
        first.extend([0, 0, 0, 0, 0, 0, 0, 77]);
        first.extend([0x00, 0x00, 0x01, 0xa1, 0xee, 0x56, 0x5e, 0x7b]);
        first.extend([0x00, 0x00, 0x01, 0xa1, 0xb2, 0xbb, 0x95, 0xc8]);
        first.extend([2, 0, 0, 0xa8, 0xc0, 0, 0, 0x07, 0x08]);
        assert_eq!(SessionRecord::of(&session(""), 77).bytes(), first);

        first.extend(b"\0\0\0\0\0\0\0\0\0\0\0\x08a laptop\0\0\0\x05theme\0\0\0\x04dark");
        let mut detailed = session("a laptop");
        detailed.attributes = Attributes::from_stored(BTreeMap::from([("theme".into(), "dark".into())]));
        assert_eq!(SessionRecord::of(&detailed, 77).bytes(), first);
        assert_eq!(
            SessionRecord::from_stored(first).unwrap().session(),
            Some(detailed)
        );

        let mut moved = vec![b'm'];
        moved.extend([1; 16]);
        moved.extend([2; 16]);
        moved.extend([0x00, 0x00, 0x01, 0xa1, 0xee, 0x56, 0x5e, 0x7b]);
        moved.extend([7; 32]);
        let until = Timestamp::from_millis(1_795_000_000_123);
        let moved = SessionRecord::from_stored(moved).unwrap();
        let to = TokenDigest::from_bytes([7; 32]);
        assert_eq!(moved.moved_to(), Some((until, to)));
        assert_eq!(
            moved.bytes(),
            SessionRecord::of(&session(""), 77).forwarding_note(until, &to)
        );
        let arriving = SessionRecord::of(&session(""), 77).arriving(None);
        assert_eq!(arriving.arrived(&moved).session(), Some(session("")));
    }

    #[test]
    fn a_session_arrives_as_it_was_when_it_left() {
        let (old, later) = (session("a laptop"), Timestamp::from_millis(1_795_000_007_000));
        let arriving = SessionRecord::of(&old, 77).arriving(Some(later));
        let mut left = SessionRecord::of(&old, 77).forwarding_note(later, &TokenDigest::from_bytes([7; 32]));
        left.extend(1_795_000_005_000_u64.to_be_bytes());
        let left = SessionRecord::from_stored(left).unwrap();
        let arrived = arriving.arrived(&left);
        assert_eq!(arrived.kind(), RecordKind::Active);
        let mut expected = old;
        expected.live.last_seen_at = Timestamp::from_millis(1_795_000_005_000);
        expected.live.authenticated_at = later;
        assert_eq!(arrived.session(), Some(expected));
        assert_eq!(arrived.created_after(), 77);
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_no_record() {
        let whole = SessionRecord::of(&session("a laptop"), 77);
        for end in 0..whole.bytes().len() {
            let cut = SessionRecord::from_stored(whole.bytes()[..end].to_vec());
            assert!(end == 66 || cut.and_then(|cut| cut.session()).is_none(), "{end}");
        }
        assert!(SessionRecord::from_stored(vec![b'?'; 100]).is_none());
    }
}
