-- push: make jobs known. ARGV: (id, meta, due ms or 0)*. Returns how many were new.
--
-- Idempotent by id. A known job keeps its place, except that
--   * one that is leased is remembered as "again": it comes back at its due time when the lease is acked,
--   * one that is delayed moves forward if the new due time is earlier.
local ids, count = {}, #ARGV / 3
for n = 1, count do ids[n] = ARGV[n * 3 - 2] end
local known = redis.call('HMGET', JOBS, unpack(ids))
local seen, fields, written, added = {}, {}, 0, 0

-- True if nothing is left to do for a job that is already known.
local function settled(id, due)
  if redis.call('ZSCORE', LEASES, id) then
    local noted = redis.call('HGET', AGAIN, id)
    if not noted or due < tonumber(noted) then redis.call('HSET', AGAIN, id, due) end
    return true
  end
  local waits = redis.call('ZSCORE', DELAYED, id)
  if waits then
    if due >= tonumber(waits) then return true end
    redis.call('ZREM', DELAYED, id)
    return false
  end
  return redis.call('ZSCORE', READY, id)
end

for n = 1, count do
  local id, meta, due = ids[n], ARGV[n * 3 - 1], tonumber(ARGV[n * 3])
  if not seen[id] and not (known[n] and settled(id, due)) then
    if not known[n] then added = added + 1 end
    fields[written + 1] = id
    fields[written + 2] = meta
    written = written + 2
    if due > now then delay(id, due) else enqueue(id, meta) end
  end
  seen[id] = true
end

if written > 0 then
  redis.call('HSET', JOBS, unpack(fields))
  if flush() then redis.call('PUBLISH', WAKE, '') end
end
return added
