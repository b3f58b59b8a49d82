-- KEYS: a user's epoch.
-- ARGV: milliseconds to keep it.
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
