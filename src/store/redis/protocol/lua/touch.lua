-- KEYS: session record, live sessions, everyone's mark.
-- ARGV: session id, instant, the same in a record's form, margin, member.
-- Raises last-seen and nothing else. Returns the digest that the session has moved to, if it has.
--
-- Never past the session's end, by the instant and by the server's own clock: a touch may reach the server long after it was sent,
-- when other checks have been answered "expired" already. The key's time to live shows the end by the server's clock, so it grows
-- by as much as the session's: counted from the arrival of the touch, it would grow by the delay as well, and the next touch could
-- come too late by as much. The delay of the session's creation remains: hence the leeway, a part of the slack that last-seen may
-- have.
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
