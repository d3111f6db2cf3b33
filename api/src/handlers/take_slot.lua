-- Takes or renews one of a limited number of slots.
--
-- KEYS[1]  sorted set of the slots that are taken: slot -> when it runs out, in ms
-- ARGV[1]  the slot
-- ARGV[2]  how many there are
-- ARGV[3]  how long it is held, in ms
--
-- Returns 1 if the slot is held now, 0 if all are taken by others.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
