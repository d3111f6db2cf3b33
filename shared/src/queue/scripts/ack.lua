-- ack: end leases. ARGV: (id, token, after ms or -1)*. Returns how many leases were the caller's.
--
-- -1 forgets the job, 0 puts it back to the front unstarted, more delays it. If the job was pushed again while it was
-- leased it comes back at that time instead of being forgotten. A lease that is not the caller's is left alone.
local ids = {}
for i = 1, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
local owners = redis.call('HMGET', OWNERS, unpack(ids))
local mine, forgotten = {}, {}

for n, id in ipairs(ids) do
  local owner, token, after = owners[n], ARGV[n * 3 - 1], tonumber(ARGV[n * 3])
  if owner and string.sub(owner, 1, 8) == token then
    mine[#mine + 1] = id
    local again = tonumber(string.sub(owner, 9))
    local due = nil
    if after >= 0 then due = now + after end
    if again and (not due or again < due) then due = again end
    local meta = due and redis.call('HGET', JOBS, id)
    if not meta then
      forgotten[#forgotten + 1] = id
    elseif due > now then
      delay(id, due)
    elseif after == 0 then
      requeue(id, meta)
    else
      enqueue(id, meta)
    end
  end
end

if #mine > 0 then
  redis.call('ZREM', LEASES, unpack(mine))
  redis.call('HDEL', OWNERS, unpack(mine))
  if #forgotten > 0 then redis.call('HDEL', JOBS, unpack(forgotten)) end
  if flush() then redis.call('PUBLISH', WAKE, '') end
end
return #mine
