-- KEYS: index, displaced sessions.
-- Returns all members of both.
return {redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('ZRANGE', KEYS[2], 0, -1)}
