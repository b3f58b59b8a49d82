//! What runs inside Redis, where nothing can come between: one script for each step that must not be seen half done.
//!
//! Every script bears to run twice: a Cluster's client sends a request again when the node that it went to goes away. Every script
//! touches keys of one slot only.

use redis::{Cmd, Script};
use std::sync::LazyLock;

/// A script, and the name that Redis keeps it under.
pub(super) struct Stored {
    pub source: String,
    sha: String,
}

impl Stored {
    fn new(source: String) -> Self {
        let sha = Script::new(&source).get_hash().to_owned();
        Self { source, sha }
    }

    /// A command that runs the script with these keys. Its arguments are added as any command's.
    pub(super) fn on(&self, keys: &[String]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.sha.as_str()).arg(keys.len()).arg(keys);
        cmd
    }
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident: $($part:expr),+;)*) => {
        $(
            $(#[$doc])*
            pub(super) static $name: LazyLock<Stored> = LazyLock::new(|| Stored::new([$($part),+].concat()));
        )*

        /// All of them, to be loaded before they are needed.
        pub(super) fn all() -> Vec<&'static Stored> {
            vec![$(LazyLock::force(&$name)),*]
        }
    };
}

/// Reads of a record. Numbers up to 2^53 are exact in Lua, which is enough for milliseconds and microseconds of our time.
const READING: &str = r"
local function number(v, from, to)
  local n = 0
  for i = from, to do n = n * 256 + string.byte(v, i) end
  return n
end
local function users_mark(everyone, v)
  return everyone .. ':' .. string.format(
    '%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x', string.byte(v, 18, 33))
end
local function spared(v, everyone)
  local birth = number(v, 34, 41)
  local mark = redis.call('GET', everyone)
  if mark and birth < tonumber(mark) then return false end
  mark = redis.call('GET', users_mark(everyone, v))
  if not mark then return true end
  local last, without, except = string.match(mark, '^(%d+) (%d+) (.*)$')
  if birth >= tonumber(last) then return true end
  return except == string.sub(v, 2, 17) and birth >= tonumber(without)
end
";

/// The members of an index that are of one session.
const OF_SESSION: &str = r"
local function of_session(index, id)
  return redis.call('ZRANGEBYLEX', index, '[' .. id, '[' .. id .. string.rep('\255', 33))
end
";

scripts! {
    /// Keys: session, everyone's mark. Gives the record and the two marks that concern it, in the form of an `MGET`.
    CHECK: READING, r"
local v = redis.call('GET', KEYS[1])
if not v or #v < 33 then return {v} end
return {v, redis.call('GET', KEYS[2]), redis.call('GET', users_mark(KEYS[2], v))}
";

    /// Keys: session, living, everyone's mark, the user's mark. Arguments: birth, record, milliseconds to keep it, its expiry, member.
    /// Gives 0 if a revocation since that birth is known here.
    ///
    /// Marks and sessions of a shard change in one slot: a session is created before the mark, which then ends it, or refused. What
    /// is remembered of a session that has ended or moved stays: then this is the same request once more, come late.
    CREATE: r"
local birth = tonumber(ARGV[1])
local mark = redis.call('GET', KEYS[3])
if mark and birth < tonumber(mark) then return 0 end
mark = redis.call('GET', KEYS[4])
if mark and birth < tonumber(string.match(mark, '^%d+')) then return 0 end
local kind = redis.call('GETRANGE', KEYS[1], 0, 0)
if kind ~= '' and kind ~= 's' then return 1 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5])
return 1
";

    /// Keys: session, living, everyone's mark. Arguments: session id, instant, the same in a record's form, margin, member. Raises
    /// last-seen, and nothing else. Gives the digest that the session has moved to, if it has.
    ///
    /// Never past the session's end, by the instant *and* by the server's own clock: a touch may reach the server long after it was
    /// sent, when others have been told already that the session has expired. So that the server's clock tells that, the key's time
    /// to live grows by as much as the session's: counted from the moment at which the touch happens to arrive, it would grow by the
    /// delay as well, and the next touch could come so much too late. What is left is the delay of the session's creation: hence the
    /// leeway, a part of the slack that last-seen may have.
    TOUCH: READING, r"
local v = redis.call('GETRANGE', KEYS[1], 0, 72)
local kind = string.sub(v, 1, 1)
if string.sub(v, 2, 17) ~= ARGV[1] then return 0 end
if kind == 'm' then return string.sub(v, 42, 73) end
if kind ~= 's' or not spared(v, KEYS[3]) then return 0 end
local at, margin = tonumber(ARGV[2]), tonumber(ARGV[4])
local seen, idle = number(v, 42, 49), number(v, 63, 66) * 1000
local absolute = number(v, 2, 7) + number(v, 59, 62) * 1000
local before, expiry = math.min(seen + idle, absolute), math.min(at + idle, absolute)
if at <= seen or at >= before then return 0 end
local left = redis.call('PTTL', KEYS[1])
if left <= margin + math.min(idle / 20, 500) then return 0 end
redis.call('SETRANGE', KEYS[1], 41, ARGV[3])
redis.call('PEXPIRE', KEYS[1], left + expiry - before)
redis.call('ZADD', KEYS[2], expiry, ARGV[5])
return 1
";

    /// Keys: session, living, everyone's mark. Arguments: the id that it must have or nothing, the number that its birth must be
    /// less than or nothing, who ends it, milliseconds to keep the note, member. Gives the record before, the two marks, whether
    /// this caller ended it (1), and whether it was among the living (1). Who looks for what is arriving was sent by the place that
    /// it has left: it is living. What has ended already is written once more: see `DEPART`.
    END: READING, r"
local v = redis.call('GET', KEYS[1])
if not v or #v < 66 then return {v} end
local kind = string.sub(v, 1, 1)
if ARGV[1] ~= '' and string.sub(v, 2, 17) ~= ARGV[1] then return false end
local user = users_mark(KEYS[3], v)
if kind == 's' or kind == 'p' then
  if ARGV[2] ~= '' and number(v, 34, 41) >= tonumber(ARGV[2]) then return false end
  redis.call('SET', KEYS[1], 'x' .. string.sub(v, 2, 66) .. ARGV[3], 'PX', ARGV[4])
  local lived = redis.call('ZREM', KEYS[2], ARGV[5])
  if kind == 'p' then lived = 1 end
  return {v, redis.call('GET', KEYS[3]), redis.call('GET', user), 1, lived}
end
local mine = 0
if kind == 'x' then
  if string.sub(v, 67) == ARGV[3] then mine = 1 end
  redis.call('SETRANGE', KEYS[1], 0, 'x')
end
return {v, redis.call('GET', KEYS[3]), redis.call('GET', user), mine, 0}
";

    /// Keys: session, living, everyone's mark, what is moving. Arguments: session id, the note that takes the session's place,
    /// milliseconds to keep it, member. Adds to the note when the session was last seen, and gives it; nothing if there is no such
    /// session. Asked once more, it writes once more: who waits for replicas has to have written something.
    DEPART: READING, r"
local v = redis.call('GET', KEYS[1])
if not v then return false end
local note = v
if string.sub(v, 1, #ARGV[2]) ~= ARGV[2] then
  if string.sub(v, 1, 1) ~= 's' or string.sub(v, 2, 17) ~= ARGV[1] or not spared(v, KEYS[3]) then return false end
  note = ARGV[2] .. string.sub(v, 42, 49)
end
redis.call('SET', KEYS[1], note, 'PX', ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[4])
redis.call('SADD', KEYS[4], ARGV[4])
return note
";

    /// Keys: session, living, everyone's mark. Arguments: session id, when it was last seen, milliseconds to keep it, its expiry,
    /// member. Makes what is arriving here a session. Gives 1 if it is one now, whoever made it so, and 0 if what was to arrive here
    /// has been ended meanwhile. Nothing comes to life that is not waiting here.
    ARRIVE: READING, r"
local v = redis.call('GET', KEYS[1])
if not v or string.sub(v, 2, 17) ~= ARGV[1] then return 0 end
local kind = string.sub(v, 1, 1)
if kind == 's' then
  redis.call('SETRANGE', KEYS[1], 0, 's')
  return 1
end
if kind ~= 'p' or not spared(v, KEYS[3]) then return 0 end
redis.call('SET', KEYS[1], 's' .. string.sub(v, 2, 41) .. ARGV[2] .. string.sub(v, 50), 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5])
return 1
";

    /// Keys: session, what is moving. Arguments: milliseconds to keep the note that is left of the session here, member. The session
    /// has arrived, whoever looks for it finds it there, and everyone has been told.
    SETTLE: r"
if redis.call('GETRANGE', KEYS[1], 0, 0) == 'm' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
redis.call('SREM', KEYS[2], ARGV[2])
return 1
";

    /// Keys: living, what is moving, everyone's mark. Arguments: now, how many of those that are moving are asked for. Gives how many
    /// are living, members that are moving, and the mark.
    COUNT: r"
return {
  redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[1], '+inf'),
  redis.call('SRANDMEMBER', KEYS[2], ARGV[2]),
  redis.call('GET', KEYS[3])
}
";

    /// Keys: a user's mark. Arguments: the revocation's number, the session that it spares or nothing, milliseconds to keep it.
    MARK_USER: r"
local last, without, except = ARGV[1], '0', ARGV[2]
local mark = redis.call('GET', KEYS[1])
if mark then
  local function later(a, b) if tonumber(a) > tonumber(b) then return a end return b end
  local known, known_without, known_except = string.match(mark, '^(%d+) (%d+) (.*)$')
  if except ~= '' and except == known_except then
    last, without = later(last, known), known_without
  elseif tonumber(last) > tonumber(known) then
    without = later(known, known_without)
  else
    without = later(last, known_without)
    last, except = known, known_except
  end
end
redis.call('SET', KEYS[1], last .. ' ' .. without .. ' ' .. except, 'PX', ARGV[3])
return 1
";

    /// Keys: everyone's mark, living, the set to be cleared. Arguments: the revocation's number, now, milliseconds to keep that set.
    /// Gives how many living sessions that ended.
    ///
    /// All that live are set aside at once, however many they are, to be cleared a few at a time. A shard that knows of it, or of a
    /// later one, stays as it is, but for one more write: see `DEPART`.
    MARK_EVERYONE: r"
local mark = redis.call('GET', KEYS[1])
if mark and tonumber(mark) >= tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], mark)
  return redis.call('ZCOUNT', KEYS[3], '(' .. ARGV[2], '+inf')
end
redis.call('SET', KEYS[1], ARGV[1])
local ended = redis.call('ZCOUNT', KEYS[2], '(' .. ARGV[2], '+inf')
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('RENAME', KEYS[2], KEYS[3])
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
return ended
";

    /// Keys: the set to be cleared, living, everyone's mark. Arguments: what session keys begin with, limit. Frees sessions that
    /// everyone's revocation has ended, and gives the others back to the living: they were created while it was under way, and may
    /// have been touched since. Gives how many it has dealt with, and the beginnings of the records that it has freed.
    CLEAR: READING, r"
local freed = {}
local set_aside = redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1, 'WITHSCORES')
for i = 1, #set_aside, 2 do
  local member, key = set_aside[i], ARGV[1] .. set_aside[i]
  local v = redis.call('GETRANGE', key, 0, 40)
  if string.sub(v, 1, 1) == 's' then
    if spared(v, KEYS[3]) then
      redis.call('ZADD', KEYS[2], 'GT', set_aside[i + 1], member)
    else
      redis.call('DEL', key)
      freed[#freed + 1] = string.sub(v, 1, 33)
    end
  end
  redis.call('ZREM', KEYS[1], member)
end
return {#set_aside / 2, freed}
";

    /// Keys: clock, longest lifetime, everyone's epoch. Argument: 1 if everyone is concerned. Gives a number greater than any given
    /// before, and the longest lifetime.
    ///
    /// The number is the server's time in microseconds, or the next if that is not greater. A server that has taken over, or started
    /// again, may have lost the last numbers, and its time may be behind that of the one before: it begins a minute ahead.
    NEXT_NUMBER: r"
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local last, last_run = string.match(redis.call('GET', KEYS[1]) or '0 ', '^(%d+) (%w*)$')
local time = redis.call('TIME')
local n = time[1] * 1000000 + time[2]
if run ~= last_run then n = n + 60000000 end
if n <= tonumber(last) then n = tonumber(last) + 1 end
local text = string.format('%.0f', n)
redis.call('SET', KEYS[1], text .. ' ' .. run)
if ARGV[1] == '1' then redis.call('INCR', KEYS[3]) end
return {text, redis.call('GET', KEYS[2])}
";

    /// Key: longest lifetime. Argument: a lifetime. Keeps the greater and gives it.
    LENGTHEN: r"
local known = redis.call('GET', KEYS[1])
if known and tonumber(known) >= tonumber(ARGV[1]) then return known end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
";

    /// Key: a user's epoch. Argument: milliseconds to keep it.
    MOVE_EPOCH: r"
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
";

    /// Keys: index, leaving, the user's epoch. Arguments: the epoch that must not be exceeded, member, cap, milliseconds to keep the
    /// index, the member that it replaces or nothing, 1 if the cap may be enforced, then members that are dead.
    ///
    /// Gives {0} if the epoch has moved; {1, all members that leave} if the session has its place; {2, all members} if some have to
    /// leave and the caller must find out first which are dead. What is replaced leaves under the name that it has in this index, or
    /// under the given one: it may be another user's.
    ADD: OF_SESSION, r"
local index, leaving = KEYS[1], KEYS[2]
local member, cap, replaced = ARGV[2], tonumber(ARGV[3]), ARGV[5]
if redis.call('ZSCORE', index, member) then
  return {1, redis.call('ZRANGE', leaving, 0, -1)}
end
if tonumber(redis.call('GET', KEYS[3]) or '0') > tonumber(ARGV[1]) then return {0, {}} end
local own = replaced ~= '' and of_session(index, string.sub(replaced, 1, 16))[1]
if ARGV[6] ~= '1' then
  local size = redis.call('ZCARD', index)
  if own then size = size - 1 end
  if size >= cap then return {2, redis.call('ZRANGE', index, 0, -1)} end
end
for i = 7, #ARGV do redis.call('ZREM', index, ARGV[i]) end
local seconds = tonumber(redis.call('TIME')[1])
local function leave(m)
  redis.call('ZREM', index, m)
  redis.call('ZADD', leaving, seconds, m)
end
if replaced ~= '' then leave(own or replaced) end
local excess = redis.call('ZCARD', index) + 1 - cap
if excess > 0 then
  for _, m in ipairs(redis.call('ZRANGE', index, 0, excess - 1)) do leave(m) end
end
redis.call('ZADD', index, 0, member)
if redis.call('PTTL', index) < tonumber(ARGV[4]) then redis.call('PEXPIRE', index, ARGV[4]) end
if redis.call('PTTL', leaving) < tonumber(ARGV[4]) then redis.call('PEXPIRE', leaving, ARGV[4]) end
return {1, redis.call('ZRANGE', leaving, 0, -1)}
";

    /// Keys: index, leaving. Arguments: the member to take out, the one to put in its place. The new one comes first, so that a set of
    /// one does not vanish in between, and its time to live with it. Asked once more, it writes once more: see `DEPART`.
    MOVE: r"
for _, key in ipairs(KEYS) do
  local score = redis.call('ZSCORE', key, ARGV[1])
  if score then
    redis.call('ZADD', key, score, ARGV[2])
    redis.call('ZREM', key, ARGV[1])
  end
end
local ttl = redis.call('PTTL', KEYS[1])
if ttl > 0 then redis.call('PEXPIRE', KEYS[1], ttl) end
return 1
";

    /// Keys: index, leaving. Gives all members of both.
    BOTH: r"
return {redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('ZRANGE', KEYS[2], 0, -1)}
";

    /// Keys: leaving. Argument: a session id. Takes the session out of it, whatever token it had.
    LEFT: r"
for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(m, 1, 16) == ARGV[1] then redis.call('ZREM', KEYS[1], m) end
end
return 1
";

    /// Keys: stream, its head. Arguments: entries to keep, then entries. Gives the number of the last.
    PUBLISH: r"
local last
for i = 2, #ARGV do
  last = redis.call('INCR', KEYS[2])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', last), 'r', ARGV[i])
end
return last
";

    /// Keys: stream id, stream's head. Argument: a number that no other log has. Gives the log's number and its head.
    ///
    /// The log has a new number whenever the server is another one, or the same started again: then its last entries may be lost,
    /// and their numbers given to others. Fails where the server is no primary: a replica may lag behind.
    FOLLOW: r"
if not string.find(redis.call('INFO', 'replication'), 'role:master', 1, true) then
  return redis.error_reply('READONLY the server is no primary')
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local known = redis.call('GET', KEYS[1])
local log = known and string.match(known, '^' .. run .. ' (%d+)$')
if not log then
  log = ARGV[1]
  redis.call('SET', KEYS[1], run .. ' ' .. log)
end
return {log, redis.call('GET', KEYS[2])}
";

    /// Key: living. Arguments: what session keys begin with, now, limit. Gives the members whose time has come, each followed by the
    /// beginning of its record or nothing.
    SWEEP: r"
local out = {}
for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])) do
  local key = ARGV[1] .. m
  out[#out + 1] = m
  out[#out + 1] = redis.call('GETRANGE', key, 0, 32)
  redis.call('DEL', key)
  redis.call('ZREM', KEYS[1], m)
end
return out
";

    /// Key: a lock. Argument: its holder.
    RELEASE: r"
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
";

    /// Keys: session, living. Argument: member. Takes back a session that nobody has heard of.
    TAKE_BACK: r"
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
";
}
