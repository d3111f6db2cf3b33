-- renew: move the deadlines of leases on. ARGV: lease ms, (id, token)*. Returns the places (from 1) of those that are
-- no longer the caller's: they ran out and were taken over, or Redis lost them. Such a lease is never re-created here:
-- Postgres alone knows whether the job may still be worked on.
local deadline = math.ceil((now + ARGV[1]) / TICK) * TOKENS
local ids, count = {}, (#ARGV - 1) / 2
for n = 1, count do ids[n] = ARGV[n * 2] end
local scores = redis.call('ZMSCORE', LEASES, unpack(ids))
local leases, renewed, lost = {}, 0, {}
for n = 1, count do
  local token = tonumber(ARGV[n * 2 + 1])
  if scores[n] and scores[n] % TOKENS == token then
    leases[renewed + 1] = deadline + token
    leases[renewed + 2] = ids[n]
    renewed = renewed + 2
  else
    lost[#lost + 1] = n
  end
end
if renewed > 0 then redis.call('ZADD', LEASES, unpack(leases)) end
return lost
