-- remove: forget waiting jobs. ARGV: id*. Returns how many were waiting.
-- A leased job stays: its worker has to be told by other means. But if it was to come back "again" it will not, which
-- counts as waiting.
local leased = redis.call('ZMSCORE', LEASES, unpack(ARGV))
local removed = redis.call('HDEL', AGAIN, unpack(ARGV))
local waiting = {}
for n, id in ipairs(ARGV) do
  if not leased[n] then waiting[#waiting + 1] = id end
end
if #waiting == 0 then return removed end
redis.call('HDEL', JOBS, unpack(waiting))
return removed + redis.call('ZREM', READY, unpack(waiting)) + redis.call('ZREM', DELAYED, unpack(waiting))
