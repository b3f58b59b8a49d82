-- KEYS: displaced sessions.
-- ARGV: session id.
-- Takes the session out, whatever token it had.
for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(m, 1, 16) == ARGV[1] then redis.call('ZREM', KEYS[1], m) end
end
return 1
