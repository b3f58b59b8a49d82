-- KEYS: stream id, the stream's head.
-- ARGV: a number that no other log has.
-- Returns the log's number and its head.
--
-- The log has a new number whenever the server is another one, or the same started again: then its last entries may be lost, and
-- their numbers given to others. Fails where the server is no primary: a replica may lag behind. Where the user may not run INFO, the
-- log's number is 0: nobody knows which server this is.
local info = redis.pcall('INFO', 'replication')
if type(info) ~= 'string' then return {0, redis.call('GET', KEYS[2])} end
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY the server is no primary')
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local known = redis.call('GET', KEYS[1])
local log = known and string.match(known, '^' .. run .. ' (%d+)$')
if not log then
  log = ARGV[1]
  redis.call('SET', KEYS[1], run .. ' ' .. log)
end
return {log, redis.call('GET', KEYS[2])}
