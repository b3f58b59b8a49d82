-- KEYS: session record.
-- ARGV: the record that waits here, milliseconds to keep it.
-- Only once: the same request may come again, and late, when the session has arrived or ended.
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return 1
