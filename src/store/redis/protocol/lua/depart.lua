-- KEYS: session record, live sessions, everyone's mark, unsettled moves.
-- ARGV: session id, the forwarding note that replaces the record, milliseconds to keep it, member.
-- Appends to the note when the session was last seen, and returns it; false if there is no such session.
--
-- Sent once more, it writes once more: a command that waits for replicas has to have written something.
local v = redis.call('GET', KEYS[1])
if not v then return false end
local note = v
if string.sub(v, 1, #ARGV[2]) ~= ARGV[2] then
  if string.sub(v, 1, 1) ~= 's' or string.sub(v, 2, 17) ~= ARGV[1] or not spared(v, KEYS[3]) then return false end
  note = ARGV[2] .. string.sub(v, 42, 49)
end
redis.call('SET', KEYS[1], note, 'PX', ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[4])
redis.call('SADD', KEYS[4], ARGV[4])
return note
