-- KEYS: live sessions, unsettled moves, everyone's mark.
-- ARGV: now, how many unsettled moves to return.
-- Returns the number of live sessions, members with unsettled moves, and the mark.
return {
  redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[1], '+inf'),
  redis.call('SRANDMEMBER', KEYS[2], ARGV[2]),
  redis.call('GET', KEYS[3])
}
