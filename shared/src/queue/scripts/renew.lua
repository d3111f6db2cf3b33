-- renew: move the deadlines of leases on. ARGV: lease ms, (id, token)*. Returns the places (from 1) of those that are
-- no longer the caller's: they ran out and were taken over, or Redis lost them. Such a lease is never re-created here:
-- Postgres alone knows whether the job may still be worked on.
local deadline = now + tonumber(ARGV[1])
local ids, leases, lost = {}, {}, {}
for i = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local owners = redis.call('HMGET', OWNERS, unpack(ids))
for n, id in ipairs(ids) do
  if owners[n] and string.sub(owners[n], 1, 8) == ARGV[n * 2 + 1] then
    leases[#leases + 1] = deadline
    leases[#leases + 1] = id
  else
    lost[#lost + 1] = n
  end
end
if #leases > 0 then redis.call('ZADD', LEASES, unpack(leases)) end
return lost
