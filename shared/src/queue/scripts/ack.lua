-- ack: end leases. ARGV: (id, token, after ms or -1)*. Returns how many leases were the caller's.
--
-- -1 forgets the job, 0 puts it back to the front unstarted, more delays it. If the job was pushed again while it was
-- leased it comes back at that time instead of being forgotten. A lease that is not the caller's is left alone.
local ids, count = {}, #ARGV / 3
for n = 1, count do ids[n] = ARGV[n * 3 - 2] end
local scores, again = redis.call('ZMSCORE', LEASES, unpack(ids)), agains(ids)
local mine, held, forgotten, gone = {}, 0, {}, 0

for n = 1, count do
  if scores[n] and scores[n] % TOKENS == tonumber(ARGV[n * 3 - 1]) then
    local id, after, at = ids[n], tonumber(ARGV[n * 3]), again[n] and tonumber(again[n])
    held = held + 1
    mine[held] = id
    local due = nil
    if after >= 0 then due = now + after end
    if at and (not due or at < due) then due = at end
    local meta = due and redis.call('HGET', JOBS, id)
    if not meta then
      gone = gone + 1
      forgotten[gone] = id
    elseif due > now then
      delay(id, due)
    elseif after == 0 then
      requeue(id, meta)
    else
      enqueue(id, meta)
    end
  end
end

if held > 0 then
  redis.call('ZREM', LEASES, unpack(mine))
  if again[1] ~= nil then redis.call('HDEL', AGAIN, unpack(mine)) end
  if gone > 0 then redis.call('HDEL', JOBS, unpack(forgotten)) end
  if flush() then redis.call('PUBLISH', WAKE, '') end
end
return held
