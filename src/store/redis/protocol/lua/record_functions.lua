-- Reads of a record. Numbers up to 2^53 are exact in Lua: enough for milliseconds and microseconds of our time.
local function number(v, from, to)
  local n = 0
  for i = from, to do n = n * 256 + string.byte(v, i) end
  return n
end
local function users_mark(everyone, v)
  return everyone .. ':' .. string.format(
    '%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x', string.byte(v, 18, 33))
end
local function spared(v, everyone)
  local created_after = number(v, 34, 41)
  local mark = redis.call('GET', everyone)
  if mark and created_after < tonumber(mark) then return false end
  mark = redis.call('GET', users_mark(everyone, v))
  if not mark then return true end
  local last, without, except = string.match(mark, '^(%d+) (%d+) (.*)$')
  if created_after >= tonumber(last) then return true end
  return except == string.sub(v, 2, 17) and created_after >= tonumber(without)
end
