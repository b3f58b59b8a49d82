-- KEYS: a user's mark.
-- ARGV: the revocation's sequence, the session that it spares or '', milliseconds to keep the mark.
local last, without, except = ARGV[1], '0', ARGV[2]
local mark = redis.call('GET', KEYS[1])
if mark then
  local function later(a, b) if tonumber(a) > tonumber(b) then return a end return b end
  local known, known_without, known_except = string.match(mark, '^(%d+) (%d+) (.*)$')
  if except ~= '' and except == known_except then
    last, without = later(last, known), known_without
  elseif tonumber(last) > tonumber(known) then
    without = later(known, known_without)
  else
    without = later(last, known_without)
    last, except = known, known_except
  end
end
redis.call('SET', KEYS[1], last .. ' ' .. without .. ' ' .. except, 'PX', ARGV[3])
return 1
