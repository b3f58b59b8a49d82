-- KEYS: everyone's mark, live sessions, the set that receives them.
-- ARGV: the revocation's sequence, now, milliseconds to keep that set.
-- Returns how many live sessions that ended.
--
-- All live sessions are renamed away at once, however many they are, to be freed a few at a time. A shard that knows this mark or a
-- later one stays as it is, but for one more write: see depart.lua.
local mark = redis.call('GET', KEYS[1])
if mark and tonumber(mark) >= tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], mark)
  return redis.call('ZCOUNT', KEYS[3], '(' .. ARGV[2], '+inf')
end
redis.call('SET', KEYS[1], ARGV[1])
local ended = redis.call('ZCOUNT', KEYS[2], '(' .. ARGV[2], '+inf')
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('RENAME', KEYS[2], KEYS[3])
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
return ended
