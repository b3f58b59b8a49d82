-- KEYS: the sweep's lock.
-- ARGV: its holder, milliseconds to keep it.
-- Returns 1 if the holder has it now.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
