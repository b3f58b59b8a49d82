-- KEYS: session record, everyone's mark.
-- Returns the record, everyone's mark and the user's mark, as MGET would.
local v = redis.call('GET', KEYS[1])
if not v or #v < 33 then return {v} end
return {v, redis.call('GET', KEYS[2]), redis.call('GET', users_mark(KEYS[2], v))}
