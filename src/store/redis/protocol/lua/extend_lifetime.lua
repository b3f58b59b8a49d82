-- KEYS: longest lifetime.
-- ARGV: a lifetime in seconds.
-- Keeps the greater of the two and returns it.
local known = redis.call('GET', KEYS[1])
if known and tonumber(known) >= tonumber(ARGV[1]) then return known end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
