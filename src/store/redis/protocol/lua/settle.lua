-- KEYS: session record, unsettled moves.
-- ARGV: milliseconds to keep the forwarding note, member.
-- The session has arrived, the index leads to it, and the end of the old token is published.
if redis.call('GETRANGE', KEYS[1], 0, 0) == 'm' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
redis.call('SREM', KEYS[2], ARGV[2])
return 1
