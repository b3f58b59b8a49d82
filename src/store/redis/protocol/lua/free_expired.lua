-- KEYS: live sessions.
-- ARGV: what session keys begin with, now, limit.
-- Returns the members that have expired, each followed by the beginning of its record or ''.
local out = {}
for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])) do
  local key = ARGV[1] .. m
  out[#out + 1] = m
  out[#out + 1] = redis.call('GETRANGE', key, 0, 32)
  redis.call('DEL', key)
  redis.call('ZREM', KEYS[1], m)
end
return out
