-- KEYS: stream, its head.
-- ARGV: entries to keep, then entries.
-- Returns the number of the last.
local last
for i = 2, #ARGV do
  last = redis.call('INCR', KEYS[2])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', last), 'r', ARGV[i])
end
return last
