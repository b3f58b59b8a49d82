-- Returns the members of an index that are of one session.
local function of_session(index, id)
  return redis.call('ZRANGEBYLEX', index, '[' .. id, '[' .. id .. string.rep('\255', 33))
end
