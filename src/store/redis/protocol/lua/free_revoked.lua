-- KEYS: live sessions of before a revocation of everyone, live sessions, everyone's mark.
-- ARGV: what session keys begin with, limit.
-- Frees the sessions that the revocation has ended, and returns the others to the live sessions: they were created while it was under
-- way, and may have been touched since. Returns how many it has dealt with, and the beginnings of the records that it has freed.
local freed = {}
local before = redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1, 'WITHSCORES')
for i = 1, #before, 2 do
  local member, key = before[i], ARGV[1] .. before[i]
  local v = redis.call('GETRANGE', key, 0, 40)
  if string.sub(v, 1, 1) == 's' then
    if spared(v, KEYS[3]) then
      redis.call('ZADD', KEYS[2], 'GT', before[i + 1], member)
    else
      redis.call('DEL', key)
      freed[#freed + 1] = string.sub(v, 1, 33)
    end
  end
  redis.call('ZREM', KEYS[1], member)
end
return {#before / 2, freed}
