-- KEYS: revocation clock, longest lifetime, everyone's epoch.
-- ARGV: 1 if the revocation is of everyone's sessions.
-- Returns a sequence greater than any before, and the longest lifetime.
--
-- The sequence is the server's time in microseconds, or the next number if that is not greater. A server that has taken over, or
-- started again, may have lost the last sequences, and its time may be behind that of the one before: it begins a minute ahead.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
local last, last_run = string.match(redis.call('GET', KEYS[1]) or '0 ', '^(%d+) (%w*)$')
local time = redis.call('TIME')
local n = time[1] * 1000000 + time[2]
if run ~= last_run then n = n + 60000000 end
if n <= tonumber(last) then n = tonumber(last) + 1 end
local text = string.format('%.0f', n)
redis.call('SET', KEYS[1], text .. ' ' .. run)
if ARGV[1] == '1' then redis.call('INCR', KEYS[3]) end
return {text, redis.call('GET', KEYS[2])}
