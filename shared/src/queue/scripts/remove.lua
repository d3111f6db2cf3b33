-- remove: forget waiting jobs. ARGV: id*. Returns how many were waiting.
-- A leased job stays: its worker has to be told by other means. But if it was to come back "again" it will not, which
-- counts as waiting.
local owners = redis.call('HMGET', OWNERS, unpack(ARGV))
local waiting, removed = {}, 0
for n, id in ipairs(ARGV) do
  if not owners[n] then
    waiting[#waiting + 1] = id
  elseif #owners[n] > 8 then
    redis.call('HSET', OWNERS, id, string.sub(owners[n], 1, 8))
    removed = removed + 1
  end
end
if #waiting == 0 then return removed end
redis.call('HDEL', JOBS, unpack(waiting))
return removed + redis.call('ZREM', READY, unpack(waiting)) + redis.call('ZREM', DELAYED, unpack(waiting))
