-- KEYS: a key that does not exist.
-- Returns the commands that the user may not run. What a call leaves behind is gone at the end.
local key = KEYS[1]
local missing = {}
for _, call in ipairs({
  {'GET', key}, {'MGET', key}, {'EXISTS', key}, {'GETRANGE', key, 0, 0}, {'PTTL', key}, {'TIME'},
  {'SET', key, '', 'XX'}, {'SETRANGE', key, 0, ''}, {'PEXPIRE', key, 1000}, {'RENAME', key, key},
  {'ZADD', key, 'XX', 0, ''}, {'ZREM', key, ''}, {'ZCARD', key}, {'ZCOUNT', key, 0, 0}, {'ZSCORE', key, ''},
  {'ZRANGE', key, 0, 0}, {'ZRANGEBYLEX', key, '-', '+'}, {'ZRANGEBYSCORE', key, 0, 0},
  {'ZREMRANGEBYLEX', key, '-', '+'}, {'ZSCAN', key, 0},
  {'XADD', key, 'NOMKSTREAM', '1-0', 'r', ''}, {'XREAD', 'STREAMS', key, '0-0'},
  {'SADD', key, ''}, {'SREM', key, ''}, {'SRANDMEMBER', key}, {'INCR', key}, {'DEL', key},
}) do
  local reply = redis.pcall(unpack(call))
  local refused = type(reply) == 'table' and reply.err or ''
  if string.find(refused, "can't run this command") or string.find(refused, 'NOPERM')
    or string.find(refused, 'no permissions') then
    missing[#missing + 1] = call[1]
  end
end
return missing
