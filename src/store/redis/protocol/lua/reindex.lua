-- KEYS: index, displaced sessions.
-- ARGV: the member to take out, the one to put in its place.
-- The new member comes first, so that a set of one does not vanish in between, and its time to live with it. Sent once more, it writes
-- once more: see depart.lua.
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
