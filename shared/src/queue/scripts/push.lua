-- push: make jobs known. ARGV: (id, meta, due ms or 0)*. Returns how many were new.
--
-- Idempotent by id. A known job keeps its place, except that
--   * one that is leased is remembered as "again": it comes back at its due time when the lease is acked,
--   * one that is delayed moves forward if the new due time is earlier.
local ids = {}
for i = 1, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
local known = redis.call('HMGET', JOBS, unpack(ids))
local seen, fields, added = {}, {}, 0

-- True if nothing is left to do for a job that is already known.
local function settled(id, due)
  local owner = redis.call('HGET', OWNERS, id)
  if owner then
    local noted = tonumber(string.sub(owner, 9))
    if not noted or due < noted then redis.call('HSET', OWNERS, id, string.sub(owner, 1, 8) .. string.format('%.0f', due)) end
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

for n, id in ipairs(ids) do
  local meta, due = ARGV[n * 3 - 1], tonumber(ARGV[n * 3])
  if not seen[id] and not (known[n] and settled(id, due)) then
    if not known[n] then added = added + 1 end
    fields[#fields + 1] = id
    fields[#fields + 1] = meta
    if due > now then delay(id, due) else enqueue(id, meta) end
  end
  seen[id] = true
end

if #fields > 0 then
  redis.call('HSET', JOBS, unpack(fields))
  if flush() then redis.call('PUBLISH', WAKE, '') end
end
return added
