-- KEYS: session record, live sessions.
-- ARGV: member.
-- Removes a session whose creation was refused. Its token has been given to nobody.
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
