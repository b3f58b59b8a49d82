-- KEYS: session record, live sessions, everyone's mark.
-- ARGV: session id, when it was last seen, milliseconds to keep it, its expiry, member.
-- Makes the record that is arriving here a session. Returns 1 if it is one now, whoever made it so, and 0 if it was ended meanwhile.
-- Nothing comes to life that is not waiting here.
local v = redis.call('GET', KEYS[1])
if not v or string.sub(v, 2, 17) ~= ARGV[1] then return 0 end
local kind = string.sub(v, 1, 1)
if kind == 's' then
  redis.call('SETRANGE', KEYS[1], 0, 's')
  return 1
end
if kind ~= 'p' or not spared(v, KEYS[3]) then return 0 end
redis.call('SET', KEYS[1], 's' .. string.sub(v, 2, 41) .. ARGV[2] .. string.sub(v, 50), 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5])
return 1
