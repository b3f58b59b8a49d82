-- KEYS: session record, live sessions.
-- ARGV: member.
-- Removes a session that nobody has heard of.
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
