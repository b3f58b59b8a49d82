-- KEYS: session record, live sessions, everyone's mark.
-- ARGV: the session id that it must have or '', the sequence that it must have been created before or '', the attempt that ends it,
-- milliseconds to keep the tombstone, member.
-- Returns the record before, the two marks, whether this attempt ended it, and whether it was among the live sessions.
--
-- A record that is arriving counts as live: only the note at its old place leads an operation here. A tombstone is written once
-- more: see depart.lua.
local v = redis.call('GET', KEYS[1])
if not v or #v < 66 then return {v} end
local kind = string.sub(v, 1, 1)
if ARGV[1] ~= '' and string.sub(v, 2, 17) ~= ARGV[1] then return false end
local user = users_mark(KEYS[3], v)
if kind == 's' or kind == 'p' then
  if ARGV[2] ~= '' and number(v, 34, 41) >= tonumber(ARGV[2]) then return false end
  redis.call('SET', KEYS[1], 'x' .. string.sub(v, 2, 66) .. ARGV[3], 'PX', ARGV[4])
  local lived = redis.call('ZREM', KEYS[2], ARGV[5])
  if kind == 'p' then lived = 1 end
  return {v, redis.call('GET', KEYS[3]), redis.call('GET', user), 1, lived}
end
local mine = 0
if kind == 'x' then
  if string.sub(v, 67) == ARGV[3] then mine = 1 end
  redis.call('SETRANGE', KEYS[1], 0, 'x')
end
return {v, redis.call('GET', KEYS[3]), redis.call('GET', user), mine, 0}
