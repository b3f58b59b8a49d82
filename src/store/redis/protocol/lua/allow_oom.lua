-- A server whose memory is full refuses the first write of a script, unless that write can only free memory; what follows it is not
-- refused, so that no script stops in the middle. This is such a write, and does nothing: no key has this name.
redis.call('DEL', KEYS[1] .. '~')
