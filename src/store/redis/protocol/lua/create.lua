-- KEYS: session record, live sessions, everyone's mark, the user's mark.
-- ARGV: created after which revocation, record, milliseconds to keep it, its expiry, member.
-- Returns 1, or 0 if this shard knows a revocation later than that.
--
-- Marks and sessions of a shard change in one slot: a session is stored before the mark, which then ends it, or it is refused. A
-- tombstone or a forwarding note stays: then this is the same request once more, come late.
local created_after = tonumber(ARGV[1])
local mark = redis.call('GET', KEYS[3])
if mark and created_after < tonumber(mark) then return 0 end
mark = redis.call('GET', KEYS[4])
if mark and created_after < tonumber(string.match(mark, '^%d+')) then return 0 end
local kind = redis.call('GETRANGE', KEYS[1], 0, 0)
if kind ~= '' and kind ~= 's' then return 1 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5])
return 1
