-- KEYS: index, displaced sessions, the user's epoch.
-- ARGV: the epoch that must not be exceeded, member, cap, milliseconds to keep the index, the member that it replaces or '', 1 if the
-- cap may be enforced, then members that are dead.
-- Returns {0} if the epoch has moved; {1, all displaced members} if the session is in the index; {2, all members} if some have to leave
-- and the caller must find out first which of them are dead.
--
-- The member that is replaced is displaced under the name that it has in this index, or under the given one: it may be another user's.
local index, leaving = KEYS[1], KEYS[2]
local member, cap, replaced = ARGV[2], tonumber(ARGV[3]), ARGV[5]
if redis.call('ZSCORE', index, member) then
  return {1, redis.call('ZRANGE', leaving, 0, -1)}
end
if tonumber(redis.call('GET', KEYS[3]) or '0') > tonumber(ARGV[1]) then return {0, {}} end
local own = replaced ~= '' and of_session(index, string.sub(replaced, 1, 16))[1]
if ARGV[6] ~= '1' then
  local size = redis.call('ZCARD', index)
  if own then size = size - 1 end
  if size >= cap then return {2, redis.call('ZRANGE', index, 0, -1)} end
end
for i = 7, #ARGV do redis.call('ZREM', index, ARGV[i]) end
local seconds = tonumber(redis.call('TIME')[1])
local function leave(m)
  redis.call('ZREM', index, m)
  redis.call('ZADD', leaving, seconds, m)
end
if replaced ~= '' then leave(own or replaced) end
local excess = redis.call('ZCARD', index) + 1 - cap
if excess > 0 then
  for _, m in ipairs(redis.call('ZRANGE', index, 0, excess - 1)) do leave(m) end
end
redis.call('ZADD', index, 0, member)
if redis.call('PTTL', index) < tonumber(ARGV[4]) then redis.call('PEXPIRE', index, ARGV[4]) end
if redis.call('PTTL', leaving) < tonumber(ARGV[4]) then redis.call('PEXPIRE', leaving, ARGV[4]) end
return {1, redis.call('ZRANGE', leaving, 0, -1)}
